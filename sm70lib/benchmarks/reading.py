"""From a benchmark's files to items. What cannot be used, or is doubtful, is reported."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from sm70lib.benchmarks.catalogue import about, files
from sm70lib.benchmarks.details import Details
from sm70lib.benchmarks.fields import IMAGE, TOO_MANY
from sm70lib.benchmarks.item import Item
from sm70lib.parameters import own
from sm70lib.sources import Defect, shown
from sm70lib.sources.problems import problem
from sm70lib.study.params import StudyError

# Fields that an Item has itself. All others that a reader yields are its details.
OWN = ("id", "question", "context", "options", "gold")
# Details that the rows of an invented world have.
OF_A_WORLD = ("kind", "relation", "wording", "pair")


def read(
    name: str, root: Path, split: str | None = None, defects: list[Defect] | None = None
) -> list[Item]:
    """Reads the items of a benchmark, in file order.

    PubMedQA gives all 1,000; `details.test` marks the official 500. A question that a benchmark
    asks twice (MMLU asks 78 in two subjects) is one cluster.

    Args:
        name: a key of BENCHMARKS, or the path of a file of the user's own.
        root: the study's data folder.
        split: a split's name; None for the one that is scored.
        defects: a list to which unusable items are appended, and notes on doubtful ones.

    Raises:
        StudyError: a file is missing or cannot be read, or there is no usable item. Without a
            `defects` list, also where an item cannot be used for another reason than a missing
            picture.
    """
    paths = files(name, root, split)
    if not paths:
        raise _missing(name, root, split)
    items: dict[str, Item] = {}
    firsts: dict[tuple, Item] = {}  # the first item with each question, context and options
    left_out: Counter[str] = Counter()
    for path in paths:
        for number, row, fields in about(name).reader(path):
            item, reason = _item_or_reason(name, split, row, fields)
            if item and item.id in items:
                item, reason = None, "the id stands twice"
            if item:
                first = firsts.setdefault((item.question, item.context, item.options), item)
                items[item.id] = _clustered(item, first)
                reason = _doubt(item, first)
            elif defects is None and reason != IMAGE:
                raise StudyError(f"{path}, row {number}: {reason}; mend or remove the row.")
            else:
                left_out[reason] += 1
            if reason and defects is not None:
                file = shown(path, root)
                defects.append(
                    Defect(own.title(name), file, number, reason, "benchmark", dropped=not item)
                )
    if not items:
        raise _nothing_usable(name, paths[0], left_out)
    return list(items.values())


def pool(name: str, root: Path) -> list[Item]:
    """Items for few-shot examples: those of train, else of dev; never one that is scored as `name`.

    PubMedQA's are the 500 outside the official test. [] where the benchmark has no such split.
    """
    if name == "pubmedqa":
        return [item for item in read(name, root) if not item.details.test]
    benchmark = about(name)
    source = benchmark.pool_of or name
    for split in benchmark.pools:
        if files(source, root, split):
            return read(source, root, split)
    return []


def _item_or_reason(
    name: str, split: str | None, row: dict, fields: dict
) -> tuple[Item | None, str]:
    """An item and "", or None and the reason why there is none."""
    fewest = 1 if about(name).use in ("documents", "rubric") else 2
    reason = _unusable(fields, fewest)
    if reason:
        return None, reason
    return _item(name, split, row, fields), ""


def _unusable(fields: dict, fewest: int) -> str | None:
    """Why no item with at least `fewest` options can be made of these fields; None if one can."""
    if "unusable" in fields:
        return fields["unusable"]
    reason = problem({"context": "", **fields}, "context", "question")
    if reason:
        return reason
    options = fields["options"]
    for text in options.values():
        reason = problem({"option": text}, "option")
        if reason:
            return reason
    if not isinstance(fields.get("human"), str | None):
        return "no text under reasoning_required_pred"
    if fields["gold"] in (IMAGE, TOO_MANY):
        return fields["gold"]
    if len(options) < fewest:
        return "fewer than two options"
    # A list, since gold comes from the file and may be something that no set can hold.
    if fields["gold"] not in list(options):
        return "no right option, or two that disagree"
    return None


def _item(name: str, split: str | None, row: dict, fields: dict) -> Item:
    below = f"{split}/" if split else ""
    key = about(name).ids + below + fields["id"]
    said = {extra: value for extra, value in fields.items() if extra not in OWN}
    said |= {extra: row[extra] for extra in OF_A_WORLD if extra in row}
    labels = list(fields["options"])
    return Item(
        id=key,
        cluster=str(row.get("cluster", key)),
        benchmark=own.title(name),
        question=fields["question"],
        context=fields.get("context", ""),
        options=tuple(fields["options"].values()),
        answer=labels.index(fields["gold"]),
        details=Details.of(said),
    )


def _clustered(item: Item, first: Item) -> Item:
    """The item, in the cluster of the first that asks the same, unless the file names a cluster."""
    if item.cluster == item.id:
        return replace(item, cluster=first.cluster)
    return item


def _doubt(item: Item, first: Item) -> str:
    if first.id != item.id:
        return f"same question and options as {first.id} (kept)"
    if len(set(item.options)) < len(item.options):
        return "two options read the same (kept)"
    return ""


def _missing(name: str, root: Path, split: str | None) -> StudyError:
    benchmark = about(name)
    pattern = benchmark.patterns[0].format(split or benchmark.scored[0])
    return StudyError(
        f"eval_benchmarks: no file {benchmark.folder}/{pattern} of {name} in {root}; "
        "params/data.md says where to get it, or take it out of eval_benchmarks."
    )


def _nothing_usable(name: str, path: Path, left_out: Counter[str]) -> StudyError:
    reasons = [f"{reason} ({count})" for reason, count in left_out.most_common(2)]
    why = ", ".join(reasons) or "it has none"
    return StudyError(
        f"{path}: no item of {name} can be used: {why}; "
        f"get the file again, or take {name} out of eval_benchmarks."
    )
