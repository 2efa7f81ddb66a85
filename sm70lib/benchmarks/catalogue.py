"""Benchmarks as items: readers of the upstream files, and the guessers that any model must beat."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from sm70lib.benchmarks import readers
from sm70lib.benchmarks.item import Item
from sm70lib.benchmarks.readers import IMAGE
from sm70lib.sources import Defect, find
from sm70lib.sources.records import open_bytes, problem
from sm70lib.study.params import StudyError
from sm70lib.study.steps import write_text


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark's files lie and which splits count.

    `folder` below data_root; `hub` its repository there; of `patterns`, with the split for {}, the first that
    is found counts; `scored` names the split that is scored, `pools` those that shots come from,
    best first, of `pool_of` where that names another benchmark.
    """

    reader: Callable[[Path], readers.Found]
    folder: str
    hub: str | None
    patterns: tuple[str, ...]
    scored: tuple[str, ...] = ("test",)
    pools: tuple[str, ...] = ()
    pool_of: str = ""


US = "data_clean/questions/US/"
TABLES = ("**/{}-*.parquet", "**/{}/*.parquet", "{}.parquet")
MMLU = ("data/{0}/*_{0}.csv", "*/{}-*.parquet", "*/{}/*.parquet", "*/{}.parquet")
PUBMEDQA = (
    "data/ori_pqal.json",
    "**/pqa_labeled/*.parquet",
    "**/*labeled*/*.parquet",
    "**/*.parquet",
)
SHOTS = ("train", "dev", "validation")


def _usmle_step(n: int) -> Benchmark:
    patterns = (
        f"step{n}.json",
        "**/step_exams.jsonl",
        f"*step_{n}*/**/*.parquet",
        f"*step{n}*/**/*.parquet",
        "step*_solutions.json",
        "question_with_images.json",
    )  # the last two only to be downloaded
    return Benchmark(
        partial(readers.usmle, step=n),
        "usmle_self_assessment",
        "medalpaca/medical_meadow_usmle_self_assessment",
        patterns,
    )


BENCHMARKS = {
    "medqa_4": Benchmark(
        readers.medqa,
        "medqa_usmle",
        "GBaker/MedQA-USMLE-4-options",
        (US + "4_options/phrases_no_exclude_{}.jsonl", "phrases_no_exclude_{}.jsonl", *TABLES),
        pools=SHOTS,
    ),
    # For choosing. Shots from train alone: where that is missing, medqa_4 takes its own from dev
    "medqa_4_dev": Benchmark(
        readers.medqa,
        "medqa_usmle",
        "GBaker/MedQA-USMLE-4-options-hf",
        (
            US + "4_options/phrases_no_exclude_{}.jsonl",
            "phrases_no_exclude_{}.jsonl",
            "{}.json",
            *TABLES,
        ),
        ("dev", "validation"),
        ("train",),
        pool_of="medqa_4",
    ),
    "medqa_5": Benchmark(
        readers.medqa,
        "medqa_usmle",
        None,
        (US + "{}.jsonl", *(f"5_options/{t}" for t in TABLES)),
        pools=SHOTS,
    ),
    "pubmedqa": Benchmark(readers.pubmedqa, "pubmedqa", "qiaojin/PubMedQA", PUBMEDQA),
    # For choosing. No other labelled items than the test are left for its shots, so it has no pool
    "pubmedqa_dev": Benchmark(readers.pubmedqa_dev, "pubmedqa", "qiaojin/PubMedQA", PUBMEDQA),
    **{f"usmle_step{n}": _usmle_step(n) for n in (1, 2, 3)},
    # MedMCQA is scored on dev, as its test has no labels
    "medmcqa": Benchmark(
        readers.medmcqa,
        "medmcqa",
        "openlifescienceai/medmcqa",
        ("data/{}*.json", *TABLES),
        ("dev", "validation"),
        ("train",),
    ),
    **{
        name: Benchmark(
            partial(readers.mmlu, subjects=subjects),
            "mmlu_medical",
            "cais/mmlu",
            MMLU,
            pools=("dev",),
        )
        for name, subjects in (("mmlu_medical", readers.SIX), ("mmlu_medical_9", readers.NINE))
    },
    "truthfulqa": Benchmark(
        readers.truthfulqa,
        "truthfulqa",
        "truthfulqa/truthful_qa",
        (
            "data/v1/mc_task.json",
            "multiple_choice/validation-*.parquet",
            "multiple_choice/**/*.parquet",
        ),
    ),
    **{
        f"xstest_{label}": Benchmark(
            partial(readers.xstest, label=label), "xstest", "Paul/XSTest", ("xstest_prompts.csv",)
        )
        for label in ("safe", "unsafe")
    },
    # whatever parts are there; of train, the audit flags what is in a study's own training rows
    "medsafety": Benchmark(
        readers.medsafety, "med_safety_bench", None, ("datasets/{}/*/*_category_*.csv",), ("t*",)
    ),
}
OF_A_WORLD = (
    "kind",
    "relation",
    "wording",
    "pair",
)  # what rows of an invented world say of themselves
SAFETY = ("xstest_safe", "xstest_unsafe", "medsafety")


def form(name: str) -> str:
    """The benchmark in whose form the items of another are asked: a dev set's is that of its test."""
    return name.removesuffix("_dev")


def files(name: str, root: Path, split: str | None = None) -> list[Path]:
    """The files of a benchmark's split (None: the scored one) under `root`, sorted; [] if there are none."""
    if name not in BENCHMARKS:
        raise StudyError(
            f"eval_benchmarks: no benchmark is {name!r}; there are {', '.join(BENCHMARKS)}."
        )
    known = BENCHMARKS[name]
    found = (
        find(
            root, known.folder, known.hub, tuple(pattern.format(one) for pattern in known.patterns)
        )
        for one in ([split] if split else known.scored)
    )
    return next(filter(None, found), [])


def read(
    name: str, root: Path, split: str | None = None, defects: list[Defect] | None = None
) -> list[Item]:
    """Items in file order; unusable ones, and notes on doubtful ones, are appended to `defects`.

    PubMedQA gives all 1,000, `meta["test"]` marks the official 500. A question that stands there twice (78 do
    in two subjects of MMLU) is one cluster. Without a `defects` list an unusable item (other than for a
    missing picture) raises StudyError, as missing and unreadable files and those without a usable
    item always do.
    """
    items, firsts, left_out = {}, {}, Counter()
    if not (paths := files(name, root, split)):
        known = BENCHMARKS[name]
        wanted = f"{known.folder}/{known.patterns[0].format(split or known.scored[0])}"
        raise StudyError(
            f"eval_benchmarks: no file {wanted} of {name} in {root}; "
            "README (Data) says where to get it, or take it out of eval_benchmarks."
        )
    for path in paths:
        for number, row, found in BENCHMARKS[name].reader(path):
            item = _unusable(found) or _item(name, split, row, found)
            if isinstance(item, Item) and item.id in items:
                item = "the id stands twice"
            if isinstance(item, Item):
                first = firsts.setdefault((item.question, item.context, item.options), item)
                if item.cluster == item.id:  # asked twice is observed once
                    item = replace(item, cluster=first.cluster)
                items[item.id] = item
            elif defects is None and item != IMAGE:
                raise StudyError(f"{path}, row {number}: {item}; mend or remove the row.")
            reason = _doubt(item, first.id) if isinstance(item, Item) else item
            left_out[reason] += not isinstance(item, Item)
            if reason and defects is not None:
                file, dropped = path.relative_to(root).as_posix(), not isinstance(item, Item)
                defects.append(Defect(name, file, number, reason, "benchmark", dropped))
    if not items:
        reasons = [f"{reason} ({count})" for reason, count in left_out.most_common(2)]
        why = ", ".join(reasons) or "it has none"
        raise StudyError(
            f"{paths[0]}: no item of {name} can be used: {why}; "
            f"get the file again, or take {name} out of eval_benchmarks."
        )
    return list(items.values())


def _unusable(found: dict) -> str | None:
    reasons = [
        problem({"context": "", **found}, "context", "question"),
        *(problem({"option": text}, "option") for text in found["options"].values()),
        IMAGE if found["gold"] == IMAGE else None,
        None if len(found["options"]) > 1 else "fewer than two options",
        None
        if found["gold"] in list(found["options"])
        else "no right option, or two that disagree",
    ]
    return next(filter(None, reasons), None)


def _item(name: str, split: str | None, row: dict, found: dict) -> Item:
    prefix = {
        "pubmedqa": "",
        "medmcqa": "",
        "mmlu_medical": "mmlu/",
        "mmlu_medical_9": "mmlu/",
    }.get(form(name), f"{name}/")
    key = prefix + (f"{split}/" if split else "") + found["id"]
    meta = {
        extra: value
        for extra, value in found.items()
        if extra not in ("id", "question", "context", "options", "gold")
    }
    meta |= {extra: row[extra] for extra in OF_A_WORLD if extra in row}
    return Item(
        key,
        str(row.get("cluster", key)),
        name,
        found["question"],
        found.get("context", ""),
        tuple(found["options"].values()),
        list(found["options"]).index(found["gold"]),
        meta,
    )


def _doubt(item: Item, first: str) -> str | None:
    if first != item.id:
        return f"same question and options as {first} (kept)"
    return (
        None if len(set(item.options)) == len(item.options) else "two options read the same (kept)"
    )


def pool(name: str, root: Path) -> list[Item]:
    """Items for few-shot examples that are not scored: train, else dev; [] where the benchmark has neither.

    PubMedQA: the 500 that are not the official test. Never an item that is scored as `name`.
    """
    if name == "pubmedqa":
        return [item for item in read(name, root) if not item.meta["test"]]
    source, splits = BENCHMARKS[name].pool_of or name, BENCHMARKS[name].pools
    return next((read(source, root, split) for split in splits if files(source, root, split)), [])


def save(folder: Path, name: str, items: list[Item]) -> None:
    """Writes `<folder>/<name>.jsonl`, one item a line."""
    write_text(
        Path(folder) / f"{name}.jsonl", "".join(json.dumps(asdict(item)) + "\n" for item in items)
    )


def load(folder: Path, name: str) -> list[Item]:
    """The items that `save` wrote; raises StudyError when the file is missing."""
    with open_bytes(Path(folder) / f"{name}.jsonl") as lines:
        rows = [json.loads(line) for line in lines]
    return [Item(**row | {"options": tuple(row["options"])}) for row in rows]
