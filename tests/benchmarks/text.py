"""Speed of preparing running text for continued pretraining: audit, tokens, Arrow (make bench).

On the same eight files of invented text, interleaved three times: ours with one process of one core
and with two, and with one that looks for near-duplicates too; the tokenizer alone (it reads the
files and encodes them in batches) on one core, and on two, which shows what a second core of this
machine is worth; and with --python datatrove's own pipeline on one core (trove.py): reader and
tokenizer, and the same after its MinHash. One text in fifty is nearly the same as another. All ways
must write the same tokens, and both looks for near-duplicates must keep the same texts. Benchmarks
are the real ones where --data has them; their index is built before, as 01 does it once for all
sources.

datatrove wants an environment of its own:
    python -m venv /tmp/trove
    /tmp/trove/bin/pip install datatrove orjson regex tokenizers "xxhash<4"
    python -m tests.benchmarks.text --python /tmp/trove/bin/python
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from datasets import load_from_disk
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from sm70lib.benchmarks import Item, items_digest
from sm70lib.corpus import parts
from sm70lib.corpus.audit import Checks
from sm70lib.planning import preparation
from sm70lib.preparing import shards
from sm70lib.steps import steps
from sm70lib.study.provenance import circumstances
from tests.benchmarks import data, meadow

SOURCE, FILES, TIMES, BATCH = "pubmed_abstracts", 8, 3, 1000
MEGABYTES = 32  # of a file: so much that what processes take to start weighs little
LENGTH = 1500  # mean characters of a text: an abstract with its title
STUDY = vars(data.STUDY) | {"train_stages": ["cpt"], "data_template": "sm70"}
NEARLY = 50  # of so many texts, one is another with one more word
PLACE = steps.ROOT / "outputs/reference/benchmarks/text.json"
ROWS = [  # what is compared, our way, the other one, and the goal
    ("two processes over one", "two", "one", 1.8),
    ("two processes over one, of the tokenizer alone", "alone two", "alone", None),
    ("one core with audit over the tokenizer alone", "one", "alone", 0.8),
    (preparation.NEAR, "near", "one", 0.9),
    ("one core with audit over datatrove", "one", "trove", 1.0),
    ("one core with audit and near-duplicates over datatrove", "near", "trove near", 1.0),
]


class Done(NamedTuple):
    """What a way has done: tokens and texts that it leaves, and how long it took."""

    tokens: int
    texts: int
    seconds: float


def write(root: Path, megabytes: float) -> int:
    """Writes the files, no text twice; returns their bytes."""
    folder = root / f"{SOURCE}/chunk"
    folder.mkdir(parents=True)
    for number in range(FILES):
        text = meadow.Text(number)
        with open(folder / f"{number}.jsonl", "w") as file:
            while file.tell() < megabytes * 1e6:
                texts = text.draw(text.lengths(200, LENGTH))
                for place in range(NEARLY, len(texts), NEARLY):
                    texts[place] = max(texts[place - 5 : place], key=len) + " Thus."
                file.writelines(json.dumps({"contents": one}) + "\n" for one in texts)
    return sum(path.stat().st_size for path in folder.iterdir())


class Work:
    """What every way of preparing is given; each returns tokens, texts kept and seconds."""

    def __init__(self, root: Path, tokenizer: PreTrainedTokenizerFast, items: list[Item]):
        self.root, self.tokenizer, self.items = root, tokenizer, items
        self.files = sorted(root.glob(f"{SOURCE}/chunk/*.jsonl"))
        checks = Checks(items, shards.policies(SimpleNamespace(**STUDY)), root)
        bar = tqdm(disable=True)
        self.maker = parts.Maker(root, checks, tokenizer, items_digest(items), bar)

    def ours(self, processes: int, near: str, folder: Path) -> Done:
        """The study's own preparation. It puts a BOS before each text, which is not counted."""
        os.environ[shards.PROCESSES] = str(processes)
        study = SimpleNamespace(**STUDY | {"cpt_near_duplicates": near})
        started = time.perf_counter()
        shards.prepare(study, self.maker, [SOURCE], folder)
        seconds = time.perf_counter() - started
        rows = load_from_disk(folder / shards.KIND)["input_ids"]
        texts = sum(ids[0] == self.tokenizer.bos_token_id for ids in rows)
        return Done(sum(map(len, rows)) - texts, texts, seconds)

    def alone(self, processes: int, folder: Path) -> Done:
        """The tokenizer, whose tokens are not written; it puts a BOS where the others have EOS."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        shares = [self.files[number::processes] for number in range(processes)]
        started = time.perf_counter()
        if processes == 1:
            counts = [_encoded(self.tokenizer, self.files)]
        else:
            with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
                counts = list(pool.map(_encoded, [self.tokenizer] * processes, shares))
        tokens, texts = (sum(column) for column in zip(*counts))
        return Done(tokens, texts, time.perf_counter() - started)

    def trove(self, python: Path, options: list[str], folder: Path) -> Done:
        """datatrove's pipeline."""
        self.tokenizer.save_pretrained(folder / "tokenizer")
        given = [self.files[0].parent, folder / "tokenizer/tokenizer.json", folder, *options]
        command = [str(python), str(Path(__file__).with_name("trove.py")), *map(str, given)]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-2000:]
        return Done(**json.loads(ran.stdout.splitlines()[-1]))


def _encoded(tokenizer: PreTrainedTokenizerFast, files: list[Path]) -> tuple[int, int]:
    """How many tokens and texts the files have, once they are encoded."""
    tokens = count = 0
    for file in files:
        texts = [json.loads(line)["contents"] for line in file.open()]
        count += len(texts)
        for first in range(0, len(texts), BATCH):
            encoded = tokenizer(texts[first : first + BATCH])
            tokens += sum(map(len, encoded["input_ids"]))
    return tokens, count


def measured(way: Callable[[Path], Done]) -> Done:
    """One run in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        return way(Path(folder))


def compare(where: Path | None, megabytes: float, times: int, python: Path | None) -> list[dict]:
    """All ways, interleaved; ratios are medians of those of each round."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        size = write(root, megabytes)
        meadow.write(root, 3000)
        work = Work(root, data.train_tokenizer(root), data.items_of(where))
        ways: dict[str, Callable[[Path], Done]] = {
            "one": partial(work.ours, 1, "none"),
            "two": partial(work.ours, 2, "none"),
            "near": partial(work.ours, 1, "drop"),
            "alone": partial(work.alone, 1),
            "alone two": partial(work.alone, 2),
        }
        if python:
            ways["trove"] = partial(work.trove, python, [])
            ways["trove near"] = partial(work.trove, python, ["minhash"])
        rates: dict[str, list[float]] = {name: [] for name in ways}
        kept: dict[str, set[tuple[int, int]]] = {name: set() for name in ways}
        for _ in range(times):
            for name, way in ways.items():
                done = measured(way)
                rates[name].append(done.tokens / done.seconds)
                kept[name].add((done.tokens, done.texts))
                print(f"{name}: {rates[name][-1]:,.0f} tokens per second", flush=True)
        same = [name for name in ways if "near" not in name]
        assert len(set.union(*(kept[name] for name in same))) == 1, kept
        assert len(kept["near"] | kept.get("trove near", set())) == 1, kept
        shown = f"{size / 1e6:.0f} MB, {len(work.items):,} items"
        return [_result(rates, *row, shown) for row in ROWS if row[2] in ways]


def _result(
    rates: dict[str, list[float]],
    what: str,
    ours: str,
    theirs: str,
    goal: float | None,
    work: str,
) -> dict:
    ratios = np.array(rates[ours]) / np.array(rates[theirs])
    return {
        "name": f"preparing running text: {what}",
        "work": work,
        "ours": round(float(np.median(rates[ours]))),
        "theirs": round(float(np.median(rates[theirs]))),
        "unit": "tokens per second",
        "ratio": round(float(np.median(ratios)), 2),
        "spread": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)],
        "goal": goal,
        "n": len(ratios),
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    place = Path(os.environ.get("DATA") or steps.ROOT / "../shared/data")
    ask.add_argument("--data", type=Path, default=place)
    ask.add_argument("--megabytes", type=float, default=MEGABYTES, help="of each file")
    ask.add_argument("--times", type=int, default=TIMES)
    ask.add_argument("--python", type=Path, help="of an environment that has datatrove")
    given = ask.parse_args()
    results = compare(given.data, given.megabytes, given.times, given.python)
    about = {name: circumstances()[name] for name in ("commit", "versions", "hardware")}
    for result in results:
        print(json.dumps(result))
    if given.megabytes == MEGABYTES:
        steps.write_json(PLACE, [one | about for one in results])


if __name__ == "__main__":
    main()
