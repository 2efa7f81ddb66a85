"""Speed of preparing running text for continued pretraining: audit, tokens, Arrow (make bench).

On the same eight files of invented text, interleaved three times: ours with one process of one core
and with two, the tokenizer alone on one core (it reads the files and encodes them in batches, which
nothing can beat), and datatrove's own pipeline (reader and document tokenizer, one task at a time)
where that package is there: `pip install datatrove`. Benchmarks are the real ones where --data has
them.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from sm70lib.benchmarks import Item, items_digest
from sm70lib.corpus import parts
from sm70lib.corpus.audit import Checks
from sm70lib.preparing import shards
from sm70lib.steps import steps
from sm70lib.study.provenance import circumstances
from tests.benchmarks import data, meadow

SOURCE, FILES, TIMES, BATCH = "pubmed_abstracts", 8, 3, 1000
MEGABYTES = 16  # of a file
LENGTH = 1500  # mean characters of a text: an abstract with its title
STUDY = SimpleNamespace(**vars(data.STUDY) | {"train_stages": ["cpt"], "data_template": "sm70"})
PLACE = steps.ROOT / "outputs/reference/benchmarks/text.json"


def write(root: Path, megabytes: float) -> int:
    """Writes the files, all texts different; returns their bytes."""
    folder = root / f"{SOURCE}/chunk"
    folder.mkdir(parents=True)
    for number in range(FILES):
        text = meadow.Text(number)
        with open(folder / f"{number}.jsonl", "w") as file:
            while file.tell() < megabytes * 1e6:
                for one in text.draw(text.lengths(200, LENGTH)):
                    file.write(json.dumps({"contents": one}) + "\n")
    return sum(path.stat().st_size for path in folder.iterdir())


class Work:
    """What every way of preparing is given."""

    def __init__(self, root: Path, tokenizer: PreTrainedTokenizerFast, items: list[Item]):
        self.root, self.tokenizer, self.items = root, tokenizer, items
        self.files = sorted(root.glob(f"{SOURCE}/chunk/*.jsonl"))

    def ours(self, processes: int, folder: Path) -> int:
        """Tokens that the study's own preparation writes."""
        os.environ[shards.PROCESSES] = str(processes)
        checks = Checks(self.items, shards.policies(STUDY), self.root)
        bar = tqdm(disable=True)
        questions = items_digest(self.items)
        maker = parts.Maker(self.root, checks, self.tokenizer, questions, bar)
        shards.prepare(STUDY, maker, self.items, [SOURCE], folder)
        lengths = [np.load(path)[:, 0].sum() for path in folder.rglob("lengths.npy")]
        assert len(lengths) == FILES
        return int(sum(lengths))

    def alone(self, folder: Path) -> int:
        """Tokens that the tokenizer makes on one core, which are not written."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        tokens = 0
        for file in self.files:
            texts = [json.loads(line)["contents"] for line in file.open()]
            for first in range(0, len(texts), BATCH):
                encoded = self.tokenizer(texts[first : first + BATCH])
                tokens += sum(map(len, encoded["input_ids"]))
        return tokens

    def datatrove(self, folder: Path) -> int:
        """Tokens that datatrove's pipeline writes on one core."""
        executor = import_module("datatrove.executor")  # no package of this project
        readers = import_module("datatrove.pipeline.readers")
        tokens = import_module("datatrove.pipeline.tokens")
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self.tokenizer.save_pretrained(folder / "tokenizer")
        reader = readers.JsonlReader(str(self.files[0].parent), text_key="contents")
        writer = tokens.DocumentTokenizer(
            output_folder=str(folder / "tokens"),
            tokenizer_name_or_path=str(folder / "tokenizer/tokenizer.json"),
            eos_token="</s>",
            shuffle_documents=False,
        )
        steps_of_it = [reader, writer]
        executor.LocalPipelineExecutor(
            steps_of_it, tasks=FILES, workers=1, logging_dir=str(folder / "log")
        ).run()
        written = sum(path.stat().st_size for path in (folder / "tokens").rglob("*.ds"))
        return written // 2  # ids of two bytes


def rate(way: Callable[[Path], int]) -> float:
    """Tokens per second."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        tokens = way(Path(folder))
        return tokens / (time.perf_counter() - started)


def compare(where: Path | None, megabytes: float, times: int) -> list[dict]:
    """All ways, interleaved; ratios are medians of those of each round."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        size = write(root, megabytes)
        meadow.write(root, 3000)
        work = Work(root, data.train_tokenizer(root), data.items_of(where))
        ways: dict[str, Callable[[Path], int]] = {
            "one": lambda folder: work.ours(1, folder),
            "two": lambda folder: work.ours(2, folder),
            "alone": work.alone,
        }
        if find_spec("datatrove"):
            ways["datatrove"] = work.datatrove
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(times):
            for name, way in ways.items():
                rates[name].append(rate(way))
                print(f"{name}: {rates[name][-1]:,.0f} tokens per second", flush=True)
        shown = f"{size / 1e6:.0f} MB, {len(work.items):,} items"
        rows = [("two processes over one", "two", "one", 1.8)]
        rows.append(("one core with audit over the tokenizer alone", "one", "alone", 0.8))
        if "datatrove" in ways:
            rows.append(("one core with audit over datatrove", "one", "datatrove", 1.0))
        return [_result(rates, *row, shown) for row in rows]


def _result(
    rates: dict[str, list[float]], what: str, ours: str, theirs: str, goal: float, work: str
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
    given = ask.parse_args()
    results = compare(given.data, given.megabytes, given.times)
    about = {name: circumstances()[name] for name in ("commit", "versions", "hardware")}
    for result in results:
        print(json.dumps(result))
    if given.megabytes == MEGABYTES:
        steps.write_json(PLACE, [one | about for one in results])


if __name__ == "__main__":
    main()
