"""Speed and memory of the data preparation: audit, prompt, tokens, Arrow files (make bench).

It measures a part of Medical Meadow's shape, and with `--full` all of its 898,199 rows.

Side by side, interleaved three times, on the same 30,000 invented rows: ours, the tokenizer alone
on the same prompts in batches (what nothing can beat), and medAlpaca's way (one `map`, row by row,
no audit; github:kbressem/medAlpaca, train.py). Benchmarks are the real ones where --data has them,
else those of an invented world.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow.compute
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sm70lib import benchmarks
from sm70lib.corpus import templates
from sm70lib.preparing import training_set
from sm70lib.steps import steps
from sm70lib.study.provenance import circumstances
from tests.benchmarks import meadow

ROWS, TIMES, LENGTH, BATCH = 30_000, 3, 2048, 1000
POLICIES = dict.fromkeys(("audit_duplicate", "audit_personal", "audit_label", "audit_leak"), "drop")
STUDY = SimpleNamespace(
    study="bench",
    seed=0,
    data_sources=meadow.NAMES,
    data_limit=None,
    data_caps={},
    data_parts={},
    data_leaks={},
    data_repeats={},
    data_holdout_documents={},
    train_stages=["sft"],
    cpt_sources=[],
    cpt_near_duplicates="none",
    dpo_sources=[],
    data_template="medalpaca",
    data_max_length=LENGTH,
    data_overlong="cut",
    data_holdout=1000,
    sft_loss="response",
    **POLICIES,
)


def rows_of(root: Path):
    for name in meadow.NAMES:
        yield from json.loads((root / name / f"{name}.json").read_text())


def train_tokenizer(root: Path) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 32,000 entries, as many as Llama-2's, trained on the rows
    themselves.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    trainer = trainers.BpeTrainer(
        vocab_size=32_000,
        special_tokens=["<s>", "</s>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    made.train_from_iterator((row["input"] for row in rows_of(root)), trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def items_of(data: Path | None) -> list[benchmarks.Item]:
    """Every item of the benchmarks that lie below `data`."""
    names = [
        name
        for name in benchmarks.BENCHMARKS
        if data and data.is_dir() and benchmarks.files(name, data)
    ]
    return [
        item
        for name in names
        if name != "mmlu_medical_9"
        for item in benchmarks.read(name, data, defects=[])
    ]


def ours(root: Path, items: list, tokenizer, folder: Path) -> int:
    audit, _ = training_set.prepare(STUDY, root, items, tokenizer, folder)
    return int(audit.funnel()["rows"].sum())


def raw(root: Path, items: list, tokenizer, folder: Path) -> int:
    texts = [
        templates.render("medalpaca", row["instruction"], row["input"]) + row["output"]
        for row in rows_of(root)
    ]
    for first in range(0, len(texts), BATCH):
        tokenizer(texts[first : first + BATCH])
    return len(texts)


def row_by_row(root: Path, items: list, tokenizer, folder: Path) -> int:
    data = datasets.Dataset.from_generator(
        lambda: rows_of(root), cache_dir=str(folder), fingerprint=str(time.time_ns())
    )

    def encode(row: dict) -> dict:
        text = templates.render("medalpaca", row["instruction"], row["input"]) + row["output"]
        found = tokenizer(text, truncation=True, max_length=LENGTH, padding=False)
        found["input_ids"].append(tokenizer.eos_token_id)
        found["attention_mask"].append(1)
        return dict(found) | {"labels": found["input_ids"].copy()}

    return len(data.map(encode, load_from_cache_file=False))


def seconds(way, *given) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        assert way(*given, Path(folder)) == given[0].rows
        return time.perf_counter() - started


class Root(type(Path())):
    """A folder that knows how many rows lie in it."""

    rows: int


def compare(data: Path | None, rows: int, times: int) -> list[dict]:
    """The three ways, interleaved; ratios are medians of those of each round."""
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        root = Root(folder)
        root.rows = meadow.write(root, rows)
        tokenizer, items = train_tokenizer(root), items_of(data)
        took = {way.__name__: [] for way in (ours, raw, row_by_row)}
        for _ in range(times):
            for way in (ours, raw, row_by_row):
                took[way.__name__].append(seconds(way, root, items, tokenizer))
        return [
            _result(took, name, goal, root.rows, len(items))
            for name, goal in (("raw", 0.5), ("row_by_row", 1.4))
        ]


def _result(took: dict[str, list[float]], theirs: str, goal: float, rows: int, items: int) -> dict:
    ratios = np.array(took[theirs]) / np.array(took["ours"])
    what = {"raw": "the tokenizer alone", "row_by_row": "one map, row by row, no audit"}[theirs]
    return {
        "name": f"data preparation with audit over {what}",
        "work": f"{rows:,} rows, {items:,} items",
        "ours": round(rows / np.median(took["ours"])),
        "theirs": round(rows / np.median(took[theirs])),
        "unit": "rows per second",
        "ratio": round(float(np.median(ratios)), 2),
        "spread": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)],
        "goal": goal,
        "n": len(ratios),
    }


def _whole(root: str, data: Path | None, folder: str, tokenizer: str, rows: int, pipe) -> None:
    """One preparation in a process of its own, so that its memory is its own."""
    started = time.perf_counter()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    audit, _ = training_set.prepare(STUDY, Path(root), items_of(data), tokenizer, Path(folder))
    rows, peak = int(audit.funnel()["rows"].sum()), _peak_gb()
    result = {
        "rows": rows,
        "seconds": round(time.perf_counter() - started),
        "peak_gb": peak,
        "sha256": steps.digest(Path(folder) / "train"),
    }
    pipe.send(result | _packed(Path(folder)))


def _peak_gb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def _packed(folder: Path) -> dict:
    """TRL's own packing of the finished set; what it keeps of every sequence's room (percent)."""
    from trl import pack_dataset

    started = time.perf_counter()
    data = datasets.load_from_disk(folder / "train").select_columns(["input_ids", "labels"])
    packed = pack_dataset(data, LENGTH, "bfd")
    tokens = pyarrow.compute.sum(
        pyarrow.compute.list_value_length(data.data.column("input_ids"))
    ).as_py()
    return {
        "sequences": len(packed),
        "filled_pct": round(100 * tokens / len(packed) / LENGTH, 1),
        "packing_seconds": round(time.perf_counter() - started),
    }


def full(data: Path | None, sizes: list[int]) -> list[dict]:
    """Peak memory at each size.

    The smallest runs undisturbed and killed, for the digest; the largest killed only.
    """
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for size in sizes:
            root, start = scratch / f"rows{size}", multiprocessing.get_context("spawn")
            rows = meadow.write(root, size)
            train_tokenizer(scratch / f"rows{sizes[0]}").save_pretrained(scratch / "tokenizer")
            for kill in (False, True) if size == sizes[0] else (True,):
                given = (str(root), data, str(scratch / "out"), str(scratch / "tokenizer"), rows)
                if kill:
                    _kill_in_the_middle(start, given, scratch / "out")
                here, there = start.Pipe()
                process = start.Process(target=_whole, args=(*given, there))
                process.start()
                result = here.recv()
                process.join()
                found.append(result | {"killed": kill})
                print(found[-1], flush=True)
                shutil.rmtree(scratch / "out")
    return found


def _kill_in_the_middle(start, given, out: Path) -> None:
    pipe = start.Pipe()
    process = start.Process(target=_whole, args=(*given, pipe[1]))
    process.start()
    part = out / f"parts/train-{meadow.NAMES[-1]}/rows.arrow"
    while (
        not part.exists() or part.stat().st_size < 2**20 * given[-1] // 1000
    ):  # about a third of its rows
        assert process.is_alive(), "it ended before it could be killed"
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    print(
        "killed in",
        meadow.NAMES[-1],
        "; finished:",
        sorted(path.parent.name for path in out.glob("parts/*/found.json")),
    )


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument(
        "--data", type=Path, default=Path(os.environ.get("DATA") or steps.ROOT / "../shared/data")
    )
    ask.add_argument("--rows", type=int, default=ROWS)
    ask.add_argument("--times", type=int, default=TIMES)
    ask.add_argument("--full", action="store_true")
    given = ask.parse_args()
    started = time.monotonic()
    results = (
        full(given.data, [100_000, 898_199])
        if given.full
        else compare(given.data, given.rows, given.times)
    )
    about = {name: circumstances()[name] for name in ("commit", "versions", "hardware")}
    about["seconds"] = round(time.monotonic() - started)
    for result in results:
        print(json.dumps(result))
    if given.full or given.rows == ROWS:
        name = "data-full" if given.full else "data"
        steps.write_json(
            steps.ROOT / f"outputs/reference/benchmarks/{name}.json",
            [one | about for one in results],
        )


if __name__ == "__main__":
    main()
