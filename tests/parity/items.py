"""Item by item: does a protocol choose what lm-evaluation-harness chooses?

`make parity DATA=folder` asks all of it.

The harness runs its own tasks (its words, shots and scoring) on the real files, turned here into
the columns that its tasks expect, without a line of this library; for the 2023 protocols, which it
no longer has, a task is written in the style of the SM70 authors' fork. Both sides score one random
Llama in float32.

Every case runs with three tokenizers, since a sequence begins as its tokenizer begins one: bytes
without a BOS, bytes with a BOS that the tokenizer adds by itself (as Llama 3's), and pieces with a
mark for blanks, single bytes for what is unknown, and a BOS (as Llama 2's).

All real items take about an hour on two cores. One process a core, one thread each: a model this
small spends most of the time of a second thread on waiting for it.
"""

import argparse
import csv
import hashlib
import json
import logging
import os
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1"
)

import numpy as np
import torch
from datasets.utils.logging import disable_progress_bar
from lm_eval import evaluator, simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
)

from sm70lib import benchmarks
from sm70lib.asking import runs
from sm70lib.asking.runs import Run
from sm70lib.benchmarks.mmlu import SIX
from sm70lib.evaluation import one_run
from sm70lib.models.backend import Local

evaluator.add_env_info = lambda results: None  # asks pip and the system for a second, for each task
MANAGER = TaskManager()
US = "medqa_usmle/data_clean/questions/US/4_options/phrases_no_exclude_{}.jsonl"
KINDS = ("bytes", "bytes-bos", "pieces-bos")  # of tokenizers
WITH_BOS = "+bos"  # behind the folder of a real model
LINE = (
    "{kind} {case.name}: n {n}, choices equal {equal}, scores equal {same_score}, max |difference| "
    "{difference:.1e} nats ({their_seconds:.0f} s there, {our_seconds:.0f} s here)"
)


class Case(NamedTuple):
    """One task: with `chat`, in the tokenizer's chat template."""

    protocol: str
    benchmark: str
    shots: int
    chat: bool = False

    @property
    def name(self) -> str:
        """As a prediction file's, with its chat template named."""
        return f"{self.benchmark}-{self.protocol}-{self.shots}" + ("-chat" if self.chat else "")


CASES = (
    Case("harness", "medqa_4", 0),
    Case("harness", "pubmedqa", 0),
    Case("harness", "medmcqa", 0),
    Case("harness", "mmlu_medical", 0),
    Case("harness", "truthfulqa", 0),
    Case("harness-mc2", "truthfulqa", 0),
    Case("harness", "medqa_4", 5),
    Case("harness", "pubmedqa", 5),
    Case("harness", "medmcqa", 5),
    Case("harness", "mmlu_medical", 5),
    Case("sm70-2023", "medqa_4", 0),
    Case("sm70-2023", "pubmedqa", 0),
    Case("sm70-2023-vast", "pubmedqa", 0),
    Case("sm70-2023", "medqa_4", 5),
    Case("sm70-2023", "pubmedqa", 5),
    Case("sm70-2023-vast", "pubmedqa", 5),
    Case("harness", "truthfulqa", 0, chat=True),
    Case("harness", "mmlu_medical", 5, chat=True),
    Case("med42", "medqa_4", 0, chat=True),
    Case("med42", "mmlu_medical", 0, chat=True),
)


# ---- the same model for both ---------------------------------------------------------------------


def words(data: Path, most: int = 1_000_000) -> list[str]:
    """Real text: the first `most` characters of each file of questions and abstracts."""
    paths = [
        *sorted(data.rglob("*.jsonl")),
        data / "pubmedqa/data/ori_pqal.json",
        data / "truthfulqa/data/v1/mc_task.json",
    ]
    return [path.read_text(errors="replace")[:most] for path in paths]


# Writes its own BOS, as many do; a tokenizer that adds one by itself must then not double it.
CHAT = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n"
    "{% endfor %}[assistant]\n"
)
SPECIAL = ["<pad>", "<s>", "</s>"]


@lru_cache
def tokenizer(data: Path, kind: str = "bytes", size: int = 4096) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` entries, trained on the benchmarks' own text."""
    made = _pieces(data, size) if kind == "pieces-bos" else _bytes(data, size, kind == "bytes-bos")
    made.chat_template = CHAT
    return made


def _bytes(data: Path, size: int, bos: bool) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    raw.train_from_iterator(
        words(data),
        trainers.BpeTrainer(
            vocab_size=size,
            show_progress=False,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    if bos:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def _pieces(data: Path, size: int) -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [  # a line's end is a byte, as in Llama 2
            pre_tokenizers.Split("\n", "removed"),
            pre_tokenizers.Metaspace(prepend_scheme="first", split=True),
        ]
    )
    raw.train_from_iterator(
        words(data),
        trainers.BpeTrainer(
            vocab_size=size,
            show_progress=False,
            limit_alphabet=120,
            special_tokens=[*SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        ),
    )
    learned = json.loads(raw.to_str())["model"]
    return LlamaTokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        add_bos_token=True,
    )


def llama(
    vocabulary: int, hidden: int = 64, layers: int = 2, spread: float = 0.08
) -> LlamaForCausalLM:
    """A random Llama in float32 whose answers differ clearly from option to option."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 32,
            num_key_value_heads=hidden // 64,
            intermediate_size=2 * hidden,
            max_position_embeddings=4096,
            initializer_range=spread,
            attn_implementation="sdpa",
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).eval()


# ---- the harness's side: documents in the columns of its tasks -----------------------------------


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open()]


def medqa(data: Path, split: str) -> list[dict]:
    rows = _lines(data / US.format(split))
    return [
        {
            "sent1": row["question"],
            **{f"ending{n}": row["options"][letter] for n, letter in enumerate("ABCD")},
            "label": "ABCD".index(row["answer_idx"]),
        }
        for row in rows
    ]


# sha256 of the ids of fold 0's train_set.json, as the authors' own script wrote it
# (github:pubmedqa/pubmedqa, preprocess/split_dataset.py pqal), joined by blanks.
FOLD_0 = "4798dcfdb3d405285d8de4f850ee2a32f64d6f9580842a4e09807407ee21b46b"


def pubmedqa(data: Path) -> dict[str, list[dict]]:
    """The splits of `pubmed_qa_labeled_fold0_source`: 500, 450 and 50 rows."""
    rows = json.loads((data / "pubmedqa/data/ori_pqal.json").read_text())
    listed = list(json.loads((data / "pubmedqa/data/test_ground_truth.json").read_text()))
    rnd = random.Random(0)

    def cut(keys: list[str], into: int) -> list[list[str]]:
        folds = [[] for _ in range(into)]
        for label in ("yes", "no", "maybe"):
            same = [key for key in keys if rows[key]["final_decision"] == label]
            rnd.shuffle(same)
            width = -(-len(same) // into)
            folds = [fold + same[width * n : width * (n + 1)] for n, fold in enumerate(folds)]
        for fold in folds[:-1] if len(folds[0]) != len(folds[-1]) else []:
            folds[-1].append(rnd.choice(fold))
            fold.remove(folds[-1][-1])
        return folds

    rest, test = cut(list(rows), 2)
    validation, *others = cut(rest, 10)
    train = [key for fold in others for key in fold]
    assert test == listed and hashlib.sha256(" ".join(train).encode()).hexdigest() == FOLD_0
    columns = ("QUESTION", "CONTEXTS", "final_decision")
    return {
        split: [{name: rows[key][name] for name in columns} for key in keys]
        for split, keys in (("test", test), ("train", train), ("validation", validation))
    }


def medmcqa(data: Path) -> list[dict]:
    rows = _lines(next((data / "medmcqa/data").glob("dev*.json")))
    return [
        {name: row[name] for name in ("question", "opa", "opb", "opc", "opd")}
        | {"cop": row["cop"] - 1}
        for row in rows
    ]


def mmlu(data: Path, subject: str, split: str) -> list[dict]:
    with open(
        data / f"mmlu_medical/data/{split}/{subject}_{split}.csv", encoding="utf-8-sig", newline=""
    ) as file:
        return [
            {"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])}
            for row in csv.reader(file)
        ]


def truthfulqa(data: Path) -> list[dict]:
    rows = json.loads((data / "truthfulqa/data/v1/mc_task.json").read_text())
    return [
        {"question": row["question"]}
        | {
            name: {"choices": list(row[name]), "labels": list(row[name].values())}
            for name in ("mc1_targets", "mc2_targets")
        }
        for row in rows
    ]


def _lettered(*columns: str) -> str:
    """The harness's template for options as Med42 was read: letter and text."""
    return (
        "{{[" + ", ".join(f'"{letter}. " ~ {name}' for letter, name in zip("ABCD", columns)) + "]}}"
    )


def tasks(case: Case, data: Path, limit: int | None) -> list[tuple[dict, dict]]:
    """The harness's tasks, each as (its name and what is overridden, its documents by split)."""
    benchmark, full = case.benchmark, case.protocol == "med42"
    if case.protocol.startswith("sm70-2023"):
        return [(AS_IN_2023, {"test": as_in_2023(case, data, limit)})]
    if benchmark == "medqa_4":
        others = medqa(data, "train" if (data / US.format("train")).exists() else "dev")
        own = {"doc_to_choice": _lettered(*(f"ending{n}" for n in range(4)))} if full else {}
        return [
            (
                {"task": "medqa_4options"} | own,
                {
                    "test": medqa(data, "test")[:limit],
                    "train": others,
                    "validation": medqa(data, "dev"),
                },
            )
        ]
    if benchmark == "pubmedqa":
        splits = pubmedqa(data)
        return [({"task": "pubmedqa"}, splits | {"test": splits["test"][:limit]})]
    if benchmark == "medmcqa":
        rows = medmcqa(data)
        return [
            ({"task": "medmcqa"}, {"train": rows[:5], "validation": rows[case.shots :][:limit]})
        ]
    if benchmark == "mmlu_medical":
        each = limit and -(-limit // len(SIX))
        own = {"doc_to_choice": _lettered(*(f"choices[{n}]" for n in range(4)))} if full else {}
        return [
            (
                {"task": f"mmlu_{subject}"} | own,
                {"test": mmlu(data, subject, "test")[:each], "dev": mmlu(data, subject, "dev")},
            )
            for subject in SIX
        ]
    name = "truthfulqa_mc1" if case.protocol == "harness" else "truthfulqa_mc2"
    return [({"task": name}, {"validation": truthfulqa(data)[:limit]})]


# The style of the fork's task files: option text, shots (drawn before, as they differ per item) in
# front.
AS_IN_2023 = {
    "task": "as_in_2023",
    "output_type": "multiple_choice",
    "test_split": "test",
    "description": "{{shots}}",
    "doc_to_text": "{{asked}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}


def as_in_2023(case: Case, data: Path, limit: int | None) -> list[dict]:
    """Documents with their five examples drawn as in September 2023, written down anew from its
    source.
    """
    shots = case.shots
    if case.benchmark == "medqa_4":
        test, train = medqa(data, "test")[:limit], medqa(data, "dev")

        def say(row):
            return (
                "Question: "
                + row["sent1"]
                + "\n"
                + " ".join(f"({letter}) {row[f'ending{n}']}" for n, letter in enumerate("ABCD"))
                + "\nAnswer:",
                [row[f"ending{n}"] for n in range(4)],
                row["label"],
            )
    else:
        rows = json.loads((data / "pubmedqa/data/ori_pqal.json").read_text()).values()
        test, train, labels = list(rows)[:limit], None, ["yes", "no", "maybe"]
        first, last = (
            ("Context", "\nA. yes\nB. no\nC. maybe.\nAnswer:")
            if case.protocol == "sm70-2023-vast"
            else ("Abstract", "\nAnswer:")
        )

        def say(row):
            return (
                f"{first}: " + "\n".join(row["CONTEXTS"]) + "\nQuestion: " + row["QUESTION"] + last,
                labels,
                labels.index(row["final_decision"]),
            )

    rnd, order, made = random.Random(), list(range(len(test))), {}
    rnd.seed(42)
    rnd.shuffle(order)
    for number in order:
        drawn = rnd.sample(train, shots) if train else rnd.sample(test, shots + 1)
        solved = [say(shot) for shot in drawn if shot is not test[number]][:shots]
        asked, choices, label = say(test[number])
        made[number] = {
            "shots": "".join(f"{text} {options[gold]}\n\n" for text, options, gold in solved),
            "asked": asked,
            "choices": choices,
            "label": label,
        }
    return [made[number] for number in range(len(test))]


def theirs(lm: HFLM, case: Case, data: Path, limit: int | None, folder: Path) -> list[dict]:
    """What the harness says of every document: log-likelihoods by option, choice, its own score."""
    found = []
    for config, documents in tasks(case, data, limit):
        files = {}
        for split, rows in documents.items():
            files[split] = str(folder / f"{config['task']}-{split}-{case.name}.jsonl")
            Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        local = {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
        }
        entry = MANAGER.task_index.get(config["task"])
        own = (
            load_yaml(entry.yaml_path, resolve_func=True) if entry else {}
        )  # its words and functions
        out = simple_evaluate(
            model=lm,
            tasks=[own | config | local],
            log_samples=True,
            bootstrap_iters=0,
            num_fewshot=case.shots if entry else 0,
            apply_chat_template=case.chat,
            task_manager=MANAGER,
        )
        for sample in sorted(out["samples"][config["task"]], key=lambda sample: sample["doc_id"]):
            values = [value for value, _ in sample["filtered_resps"]]
            found.append(
                {
                    "values": values,
                    "choice": int(np.argmax(values)),
                    "acc": sample["acc"],
                    "target": int(sample["target"])
                    if str(sample["target"]).isdigit()
                    else sample["target"],
                }
            )
    return found


# ---- our side, and the comparison ----------------------------------------------------------------


def our_run(
    protocol: str, benchmark: str, shots: int, data: Path, limit: int | None, folder: Path
) -> Run:
    """The study's own way to a run, with the first items of each subject where there are several
    tasks.
    """
    if not (folder / f"{benchmark}.jsonl").exists():
        benchmarks.save(folder, benchmark, benchmarks.read(benchmark, data))
        benchmarks.save(folder, f"{benchmark}.pool", benchmarks.pool(benchmark, data))
    p = SimpleNamespace(
        eval_benchmarks=[benchmark],
        eval_protocols=[protocol],
        eval_shots=[shots],
        eval_limit=None,
        eval_caps={},
        data_template="medalpaca",
    )
    (run,) = runs.runs(p, folder)
    items = run.items[:limit]
    if limit and benchmark == "mmlu_medical":
        each = -(-limit // len(SIX))
        items = [
            item
            for subject in SIX
            for item in [item for item in run.items if item.details.subject == subject][:each]
        ]
    return Run(run.benchmark, run.protocol, run.shots, items, run.pool)


def compare(
    data: Path, limit: int | None = None, cases=CASES, kinds=KINDS, **changed
) -> Iterator[dict]:
    """Per kind and case: n, choices and scores that are equal, largest difference of a
    log-likelihood (nats).

    `changed` are fields of our protocols that are set to something else: what the comparison must
    notice.
    """
    for kind in kinds:
        for case in cases:
            yield compare_one(data, limit, case, kind, changed)


def compare_one(data: Path, limit: int | None, case: Case, kind: str, changed: dict) -> dict:
    """One line of `compare`."""
    logging.disable(logging.WARNING)
    disable_progress_bar()
    loaded, made = _pair(data, kind)
    with tempfile.TemporaryDirectory() as folder:
        found = _case(loaded, made, case, data, limit, Path(folder), changed)
    return {"kind": kind, "case": case} | found


@lru_cache(maxsize=1)
def _pair(data: Path, kind: str) -> tuple[Any, Any]:
    """A small random model with a tokenizer of that kind, or a real model from a folder.

    Args:
        data: real text, for the tokenizers of KINDS.
        kind: one of KINDS, or a folder; with WITH_BOS behind it, its tokenizer adds a BOS.
    """
    if kind in KINDS:
        made = tokenizer(data, kind)
        return llama(len(made)), made
    folder = kind.removesuffix(WITH_BOS)
    made = AutoTokenizer.from_pretrained(folder)
    if kind.endswith(WITH_BOS):
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{made.bos_token} $A", special_tokens=[(made.bos_token, made.bos_token_id)]
        )
    return AutoModelForCausalLM.from_pretrained(folder).eval(), made


def _case(
    loaded, made, case: Case, data: Path, limit: int | None, folder: Path, changed: dict
) -> dict:
    start = time.perf_counter()
    # the fork of 2023 scored causal models without a BOS; small batches: less memory to fill
    lm = HFLM(
        pretrained=loaded,
        tokenizer=made,
        batch_size=4,
        max_length=4096,
        add_bos_token=False if case.protocol.startswith("sm70-2023") else None,
    )
    wanted = theirs(lm, case, data, limit, folder)
    middle, run = time.perf_counter(), our_run(*case[:3], data, limit, folder)
    run = replace(run, protocol=replace(run.protocol, **changed))
    path = folder / f"{case.name}.jsonl"
    one_run.evaluate(Local(loaded, made), run, path, model_digest="parity", chat=case.chat)
    found = {line["item_id"]: line for line in map(json.loads, path.open())}
    ours = [found[item.id] for item in run.items]
    score = [line.get("mass", float(line["correct"])) for line in ours]
    return {
        "n": len(wanted),
        "ours": len(ours),
        "equal": sum(a["choice"] == b["choice"] for a, b in zip(wanted, ours)),
        "same_score": sum(abs(a["acc"] - b) < 1e-3 for a, b in zip(wanted, score)),
        "difference": max(
            abs(x - y)
            for a, b in zip(wanted, ours)
            for x, y in zip(a["values"], b["loglikelihoods"], strict=True)
        ),
        "their_seconds": middle - start,
        "our_seconds": time.perf_counter() - middle,
    }


def main() -> int:
    """Prints the table; 1 where anything differs."""
    parser = argparse.ArgumentParser("python -m tests.parity", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of real benchmark files"
    )
    parser.add_argument("--limit", type=int, help="items per case (MMLU: spread over its subjects)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[case.name for case in CASES],
        metavar="CASE",
        help="cases, as their lines name them",
    )
    parser.add_argument(
        "--kind", nargs="+", choices=KINDS, default=KINDS, help="tokenizers (default: all)"
    )
    parser.add_argument(
        "--model", help="folder of a real model, compared with and without a BOS, instead of --kind"
    )
    given = parser.parse_args()
    kinds = [given.model, f"{given.model}{WITH_BOS}"] if given.model else given.kind
    pairs = [
        (kind, case)
        for kind in kinds
        for case in CASES
        if given.only is None or case.name in given.only
    ]
    wrong = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        waiting = [
            pool.submit(compare_one, given.data, given.limit, case, kind, {})
            for kind, case in pairs
        ]
        for done in as_completed(waiting):
            print(LINE.format(**done.result()), flush=True)
            wrong += not agrees(done.result())
    print(f"{len(pairs)} comparisons, {len(pairs) - wrong} agree")
    return int(wrong > 0)


def agrees(row: dict) -> bool:
    """All items there, the same choice and score for each, log-likelihoods within 1e-3."""
    return row["n"] == row["ours"] == row["equal"] == row["same_score"] and row["difference"] < 1e-3
