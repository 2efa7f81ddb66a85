"""Invented questions, and what a small model answers to them."""

import copy
import json
from pathlib import Path

from tokenizers import processors

from sm70lib import benchmarks, protocols
from sm70lib.asking.runs import Run
from sm70lib.benchmarks import Item
from sm70lib.evaluation import one_run
from sm70lib.models.backend import Local
from tests import small


def run_of(count: int, protocol: str = "sm70-2023", shots: int = 0) -> Run:
    items = [
        Item(
            f"m/{n}",
            f"m/{n}",
            "medqa_4",
            f"What is the river of town {n}? " * (1 + n % 4),
            "",
            (f"river {n}", "the sea", f"{n} lakes and a pond", "none"),
            n % 4,
        )
        for n in range(count)
    ]
    return Run("medqa_4", protocols.named(protocol), shots, items, [], "medalpaca")


def kept(path) -> dict[str, dict]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["item_id"] for line in found}) == len(found)
    return {line["item_id"]: {key: line[key] for key in line if key != "seconds"} for line in found}


def adding_bos(tokenizer):
    """The same tokenizer, which now puts its BOS in front by itself, as Llama's do."""
    made = copy.deepcopy(tokenizer)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{made.bos_token} $A", special_tokens=[(made.bos_token, made.bos_token_id)]
    )
    assert made("a").input_ids == [
        made.bos_token_id,
        *tokenizer("a", add_special_tokens=False).input_ids,
    ]
    return made


def answered(loaded, run: Run, path, chat: bool = False) -> list[float]:
    """The log-likelihoods of all options, in the items' order."""
    one_run.evaluate(Local(*loaded), run, path, model_digest="m", chat=chat)
    found = kept(path)
    return [value for item in run.items for value in found[item.id]["loglikelihoods"]]


def study_with_items(folder: Path):
    """A study's folder with a base and a benchmark, and its parameters."""
    small.base(folder)
    p = small.parameters(
        eval_benchmarks=["medqa_4"],
        eval_protocols=["sm70-2023", "med42"],
        eval_shots=[0],
        eval_limit=None,
        eval_caps={},
        eval_batch_tokens=300,
        eval_models={},
        eval_own=["base", "base-nf4", "stages", "merged", "tuned"],
        eval_launcher="python",
        quant_type="none",
    )
    benchmarks.save(folder / "data/benchmarks", "medqa_4", run_of(30).items)
    benchmarks.save(folder / "data/benchmarks", "medqa_4.pool", [])
    return folder, p
