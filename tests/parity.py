"""Item by item: does a protocol choose what lm-evaluation-harness chooses? (make parity DATA=folder)

The harness runs its own tasks (its words, shots and scoring) on the real files, turned here into the columns
that its tasks expect, without a line of this library; for the 2023 protocols, which it no longer has, a task is
written in the style of the SM70 authors' fork. Both sides score one random Llama in float32.
"""

import argparse
import csv
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
import torch
from datasets.utils.logging import disable_progress_bar
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sm70lib import benchmarks, evaluate, schemas
from sm70lib.batches import Run

MANAGER = TaskManager()
US = "medqa_usmle/data_clean/questions/US/4_options/phrases_no_exclude_{}.jsonl"
CASES = (  # protocol, benchmark, shots
    ("harness", "medqa_4", 0), ("harness", "pubmedqa", 0), ("harness", "medmcqa", 0), ("harness", "mmlu_medical", 0),
    ("harness", "truthfulqa", 0), ("harness-mc2", "truthfulqa", 0),
    ("harness", "medqa_4", 5), ("harness", "pubmedqa", 5), ("harness", "medmcqa", 5), ("harness", "mmlu_medical", 5),
    ("sm70-2023", "medqa_4", 0), ("sm70-2023", "pubmedqa", 0), ("sm70-2023", "medqa_4", 5), ("sm70-2023", "pubmedqa", 5))


# ---- the same model for both ------------------------------------------------------------------------


def words(data: Path) -> list[str]:
    """Real text: the questions and abstracts of the benchmarks."""
    texts = [path.read_text(errors="replace") for path in sorted(data.rglob("*.jsonl"))]
    return texts + [(data / name).read_text() for name in ("pubmedqa/data/ori_pqal.json", "truthfulqa/data/v1/mc_task.json")]


def tokenizer(data: Path, size: int = 4096) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `size` entries, trained on the benchmarks' own text."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.train_from_iterator(words(data), trainers.BpeTrainer(
        vocab_size=size, show_progress=False, special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def llama(vocabulary: int, hidden: int = 192, layers: int = 2, spread: float = 0.08) -> LlamaForCausalLM:
    """A random Llama in float32 whose answers differ clearly from option to option."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64, intermediate_size=2 * hidden, max_position_embeddings=4096,
        initializer_range=spread, attn_implementation="sdpa", pad_token_id=0, bos_token_id=1, eos_token_id=2)).eval()


# ---- the harness's side: documents in the columns of its tasks ----------------------------------------


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open()]


def medqa(data: Path, split: str) -> list[dict]:
    rows = _lines(data / US.format(split))
    return [{"sent1": row["question"], **{f"ending{n}": row["options"][letter] for n, letter in enumerate("ABCD")},
             "label": "ABCD".index(row["answer_idx"])} for row in rows]


def pubmedqa(data: Path) -> tuple[list[dict], list[dict]]:
    rows = json.loads((data / "pubmedqa/data/ori_pqal.json").read_text())
    test = json.loads((data / "pubmedqa/data/test_ground_truth.json").read_text())
    made = {key: {name: row[name] for name in ("QUESTION", "CONTEXTS", "final_decision")} for key, row in rows.items()}
    return [row for key, row in made.items() if key in test], [row for key, row in made.items() if key not in test]


def medmcqa(data: Path) -> list[dict]:
    rows = _lines(next((data / "medmcqa/data").glob("dev*.json")))
    return [{name: row[name] for name in ("question", "opa", "opb", "opc", "opd")} | {"cop": row["cop"] - 1} for row in rows]


def mmlu(data: Path, subject: str, split: str) -> list[dict]:
    with open(data / f"mmlu_medical/data/{split}/{subject}_{split}.csv", encoding="utf-8-sig", newline="") as file:
        return [{"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])} for row in csv.reader(file)]


def truthfulqa(data: Path) -> list[dict]:
    rows = json.loads((data / "truthfulqa/data/v1/mc_task.json").read_text())
    return [{"question": row["question"]} | {name: {"choices": list(row[name]), "labels": list(row[name].values())}
            for name in ("mc1_targets", "mc2_targets")} for row in rows]


def tasks(protocol: str, benchmark: str, shots: int, data: Path, limit: int | None) -> list[tuple[dict, dict]]:
    """The harness's tasks, each as (its name and what is overridden, its documents by split)."""
    if protocol == "sm70-2023":
        return [(AS_IN_2023, {"test": as_in_2023(benchmark, shots, data, limit)})]
    if benchmark == "medqa_4":
        return [({"task": "medqa_4options", "training_split": None},
                 {"test": medqa(data, "test")[:limit], "validation": medqa(data, "dev")})]
    if benchmark == "pubmedqa":
        test, others = pubmedqa(data)
        return [({"task": "pubmedqa", "validation_split": None}, {"test": test[:limit], "train": others})]
    if benchmark == "medmcqa":
        rows = medmcqa(data)
        return [({"task": "medmcqa"}, {"train": rows[:5], "validation": rows[shots:][:limit]})]
    if benchmark == "mmlu_medical":
        each = limit and -(-limit // len(schemas.SIX))
        return [({"task": f"mmlu_{subject}"}, {"test": mmlu(data, subject, "test")[:each], "dev": mmlu(data, subject, "dev")})
                for subject in schemas.SIX]
    name = "truthfulqa_mc1" if protocol == "harness" else "truthfulqa_mc2"
    return [({"task": name}, {"validation": truthfulqa(data)[:limit]})]


# The style of the fork's task files: option text, shots (drawn before, as they differ per item) in front.
AS_IN_2023 = {"task": "as_in_2023", "output_type": "multiple_choice", "test_split": "test", "description": "{{shots}}",
              "doc_to_text": "{{asked}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{label}}",
              "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}


def as_in_2023(benchmark: str, shots: int, data: Path, limit: int | None) -> list[dict]:
    """Documents with their five examples drawn as in September 2023, written down anew from its source."""
    if benchmark == "medqa_4":
        test, train = medqa(data, "test")[:limit], medqa(data, "dev")
        say = lambda row: ("Question: " + row["sent1"] + "\n" + " ".join(
            f"({letter}) {row[f'ending{n}']}" for n, letter in enumerate("ABCD")) + "\nAnswer:",
            [row[f"ending{n}"] for n in range(4)], row["label"])
    else:
        rows = json.loads((data / "pubmedqa/data/ori_pqal.json").read_text()).values()
        test, train, labels = list(rows)[:limit], None, ["yes", "no", "maybe"]
        say = lambda row: ("Abstract: " + "\n".join(row["CONTEXTS"]) + "\nQuestion: " + row["QUESTION"] + "\nAnswer:",
                           labels, labels.index(row["final_decision"]))
    rnd, order, made = random.Random(), list(range(len(test))), {}
    rnd.seed(42)
    rnd.shuffle(order)
    for number in order:
        drawn = rnd.sample(train, shots) if train else rnd.sample(test, shots + 1)
        solved = [say(shot) for shot in drawn if shot is not test[number]][:shots]
        asked, choices, label = say(test[number])
        made[number] = {"shots": "".join(f"{text} {options[gold]}\n\n" for text, options, gold in solved),
                        "asked": asked, "choices": choices, "label": label}
    return [made[number] for number in range(len(test))]


def theirs(lm: HFLM, protocol: str, benchmark: str, shots: int, data: Path, limit: int | None, folder: Path) -> list[dict]:
    """What the harness says of every document: log-likelihoods by option, choice, its own score."""
    found = []
    for config, documents in tasks(protocol, benchmark, shots, data, limit):
        files = {}
        for split, rows in documents.items():
            files[split] = str(folder / f"{config['task']}-{split}-{shots}-{benchmark}.jsonl")
            Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        local = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
        entry = MANAGER.task_index.get(config["task"])
        own = load_yaml(entry.yaml_path, resolve_func=True) if entry else {}  # its words and functions
        out = simple_evaluate(model=lm, tasks=[own | config | local], log_samples=True, bootstrap_iters=0,
                              num_fewshot=shots if entry else 0, task_manager=MANAGER)
        for sample in sorted(out["samples"][config["task"]], key=lambda sample: sample["doc_id"]):
            values = [value for value, _ in sample["filtered_resps"]]
            found.append({"values": values, "choice": int(np.argmax(values)), "acc": sample["acc"],
                          "target": int(sample["target"]) if str(sample["target"]).isdigit() else sample["target"]})
    return found


# ---- our side, and the comparison ---------------------------------------------------------------------


def our_run(protocol: str, benchmark: str, shots: int, data: Path, limit: int | None, folder: Path) -> Run:
    """The study's own way to a run, with the first items of each subject where there are several tasks."""
    if not (folder / f"{benchmark}.jsonl").exists():
        benchmarks.save(folder, benchmark, benchmarks.read(benchmark, data))
        benchmarks.save(folder, f"{benchmark}.pool", benchmarks.pool(benchmark, data))
    p = SimpleNamespace(eval_benchmarks=[benchmark], eval_protocols=[protocol], eval_shots=[shots],
                        eval_limit=None, data_template="medalpaca")
    run, = evaluate.runs(p, folder)
    items = run.items[:limit]
    if limit and benchmark == "mmlu_medical":
        each = -(-limit // len(schemas.SIX))
        items = [item for subject in schemas.SIX
                 for item in [item for item in run.items if item.meta["subject"] == subject][:each]]
    return Run(run.benchmark, run.protocol, run.shots, items, run.pool)


def compare(data: Path, limit: int | None = None, cases=CASES) -> Iterator[dict]:
    """Per case: n, choices and scores that are equal, largest difference of a log-likelihood (nats)."""
    logging.disable(logging.WARNING)
    disable_progress_bar()
    made = tokenizer(data)
    loaded = llama(len(made))
    lm = HFLM(pretrained=loaded, tokenizer=made, batch_size=4, max_length=4096)  # small batches: less memory to fill
    with tempfile.TemporaryDirectory() as folder:
        for protocol, benchmark, shots in cases:
            yield _case(loaded, made, lm, protocol, benchmark, shots, data, limit, Path(folder))


def _case(loaded, made, lm, protocol, benchmark, shots, data, limit, folder) -> dict:
    start = time.perf_counter()
    wanted = theirs(lm, protocol, benchmark, shots, data, limit, folder)
    middle, run = time.perf_counter(), our_run(protocol, benchmark, shots, data, limit, folder)
    path = folder / f"{run.name}.jsonl"
    evaluate.evaluate(loaded, made, run, path, model_digest="parity")
    found = {line["item_id"]: line for line in map(json.loads, path.open())}
    ours = [found[item.id] for item in run.items]
    score = [line.get("mass", float(line["correct"])) for line in ours]
    return {"protocol": protocol, "benchmark": benchmark, "shots": shots, "n": len(wanted), "ours": len(ours),
            "equal": sum(a["choice"] == b["choice"] for a, b in zip(wanted, ours)),
            "same_score": sum(abs(a["acc"] - b) < 1e-3 for a, b in zip(wanted, score)),
            "difference": max(abs(x - y) for a, b in zip(wanted, ours)
                              for x, y in zip(a["values"], b["loglikelihoods"], strict=True)),
            "their_seconds": middle - start, "our_seconds": time.perf_counter() - middle}


def main() -> int:
    """Prints the table; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real benchmark files")
    parser.add_argument("--limit", type=int, help="items per case (MMLU: spread over its subjects)")
    parser.add_argument("--only", help="protocol-benchmark-shots, as in a prediction file's name")
    given = parser.parse_args()
    cases = [case for case in CASES if given.only in (None, "{0}-{1}-{2}".format(*case))]
    wrong = 0
    for row in compare(given.data, given.limit, cases):
        print("{protocol} {benchmark} {shots}-shot: n {n}, choices equal {equal}, scores equal {same_score}, max |difference| "
              "{difference:.1e} nats ({their_seconds:.0f} s there, {our_seconds:.0f} s here)".format(**row), flush=True)
        wrong += not agrees(row)
    print(f"{len(cases)} cases, {len(cases) - wrong} agree")
    return int(wrong > 0)


def agrees(row: dict) -> bool:
    """All items there, the same choice and score for each, log-likelihoods within 1e-3."""
    return row["n"] == row["ours"] == row["equal"] == row["same_score"] and row["difference"] < 1e-3


if __name__ == "__main__":
    sys.exit(main())
