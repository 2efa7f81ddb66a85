"""Benchmarks as items: readers of the upstream files, and the guessers that any model must beat."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from sm70lib.params import StudyError
from sm70lib.sources import Defect, load_json, load_jsonl, open_bytes, problem
from sm70lib.steps import write_text

IMAGE = "needs a picture that is not in the file"
SUBJECTS = ("anatomy", "clinical_knowledge", "college_biology", "college_medicine", "medical_genetics",
            "professional_medicine")


@dataclass(frozen=True)
class Item:
    """One question; `answer` is the right option's position. Items of one `cluster` are not independent."""

    id: str
    cluster: str
    benchmark: str
    question: str
    context: str
    options: tuple[str, ...]
    answer: int
    meta: dict = field(default_factory=dict)


# A reader yields position, row, and what the item is made of: id, question, options by label, gold (label of
# the right one; None if there is none or two disagree), context if any, and what goes into `meta`.
Found = Iterator[tuple[int, dict, dict]]


def _medqa(path: Path) -> Found:
    for number, row in load_jsonl(path):
        options, gold = _lettered(row), str(row.get("answer_idx"))
        gold = gold if options.get(gold) == row.get("answer") else None
        yield number, row, {"id": f"{number:05}", "question": row.get("question"), "options": options,
                            "gold": gold, "step": row.get("meta_info")}


def _usmle(path: Path) -> Found:
    solutions = load_json(path.with_name(f"{path.stem}_solutions.json"), dict)
    images = path.with_name("question_with_images.json")
    pictured = load_json(images, dict).get(path.stem, []) if images.exists() else []
    for number, row in _objects(enumerate(load_json(path, list))):
        key = str(row.get("no"))
        yield number, row, {"id": key, "question": row.get("question"), "options": _lettered(row),
                            "gold": IMAGE if number in pictured else solutions.get(key), "step": path.stem}


def _pubmedqa(path: Path) -> Found:
    test = load_json(path.with_name("test_ground_truth.json"), dict)
    for number, (key, row) in enumerate(_objects(load_json(path, dict).items())):
        gold, contexts = row.get("final_decision"), row.get("CONTEXTS")
        yield number, row, {"id": key, "question": row.get("QUESTION"),
                            "context": "\n".join(map(str, contexts)) if isinstance(contexts, list) else None,
                            "options": {name: name for name in ("yes", "no", "maybe")},
                            "gold": gold if test.get(key, gold) == gold else None,
                            "explanation": row.get("LONG_ANSWER"), "test": key in test}


def _medmcqa(path: Path) -> Found:
    for number, row in load_jsonl(path):
        # cop is 1-based here (0-based on the hub): all 1,076 explanations of dev that name a letter agree
        options = {label: row.get(f"op{letter}") for label, letter in enumerate("abcd", 1)}
        yield number, row, {"id": str(row.get("id")), "question": row.get("question"), "options": options,
                            "gold": row.get("cop"), "explanation": row.get("exp"),
                            "subject": row.get("subject_name")}


def _mmlu(path: Path) -> Found:
    subject = path.stem.rpartition("_")[0]
    with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as file:
        try:  # no header; newline="", as fields hold line breaks that only the csv module may interpret
            rows = list(csv.reader(file, strict=True)) if subject in SUBJECTS else []
        except (csv.Error, UnicodeDecodeError) as damage:
            raise StudyError(f"{path} is not readable CSV ({damage}); get the file again.") from None
    for number, cells in enumerate(rows):
        question, *options, gold = cells if len(cells) == 6 else [None] * 6
        yield number, {}, {"id": f"{subject}/{number:04}", "question": question,
                           "options": dict(zip("ABCD", options)), "gold": gold, "subject": subject}


def _truthfulqa(path: Path) -> Found:
    table = path.with_name("TruthfulQA.csv")  # the categories stand in the other file of the same release
    categories = {row["Question"]: row["Category"] for row in _table(table)} if table.exists() else {}
    for number, row in _objects(enumerate(load_json(path, list))):
        targets, all_targets = (row.get(f"mc{kind}_targets") for kind in (1, 2))
        targets = targets if isinstance(targets, dict) else {}
        right = [text for text, label in targets.items() if label == 1]
        yield number, row, {"id": f"{number:05}", "question": row.get("question"),
                            "options": {text: text for text in targets},
                            "gold": right[0] if len(right) == 1 else None, "mc2": all_targets,
                            "category": categories.get(row.get("question"))}


def _requests(path: Path, question: str, key: str | None, unsafe: Callable[[dict], bool]) -> Found:
    """Requests to comply with or to refuse; right is what a safe and helpful model does."""
    options = {name: name for name in ("complies", "refuses")}
    for number, row in enumerate(_table(path)):
        yield number, row, {"id": row[key] if key else f"{path.parent.name}/{path.stem[-1]}/{number:03}",
                            "question": row.get(question), "options": options,
                            "gold": "refuses" if unsafe(row) else "complies", "subject": row.get("type")}


def _table(path: Path) -> Iterator[dict]:
    with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _xstest(path: Path, label: str) -> Found:
    found = _requests(path, "prompt", "id", lambda row: row["label"] == "unsafe")
    return ((number, row, made) for number, row, made in found if row["label"] == label)


def _medsafety(path: Path) -> Found:
    return _requests(path, "harmful_medical_request", None, lambda row: True)


def _lettered(row: dict) -> dict:
    return dict(sorted(row["options"].items())) if isinstance(row.get("options"), dict) else {}


def _objects(pairs: Iterator) -> Iterator[tuple]:
    return ((key, row if isinstance(row, dict) else {}) for key, row in pairs)


# Reader, file below data_root as upstream names it, the split that is scored, and those that shots come from,
# best first. MedMCQA is scored on dev, as its test has no labels.
US = "medqa_usmle/data_clean/questions/US/"
BENCHMARKS = {
    "medqa_4": (_medqa, US + "4_options/phrases_no_exclude_{}.jsonl", "test", ("train", "dev")),
    "medqa_5": (_medqa, US + "{}.jsonl", "test", ("train", "dev")),
    "pubmedqa": (_pubmedqa, "pubmedqa/data/ori_pqal.json", "test", ()),
    **{f"usmle_step{n}": (_usmle, f"usmle_self_assessment/step{n}.json", "test", ()) for n in (1, 2, 3)},
    "medmcqa": (_medmcqa, "medmcqa/data/{}*.json", "dev", ("train",)),
    "mmlu_medical": (_mmlu, "mmlu_medical/data/{0}/*_{0}.csv", "test", ("dev",)),
    "truthfulqa": (_truthfulqa, "truthfulqa/data/v1/mc_task.json", "test", ()),
    "xstest_safe": (partial(_xstest, label="safe"), "xstest/xstest_prompts.csv", "test", ()),
    "xstest_unsafe": (partial(_xstest, label="unsafe"), "xstest/xstest_prompts.csv", "test", ()),
    # whatever parts are there; of train, the audit flags what is in a study's own training rows
    "medsafety": (_medsafety, "med_safety_bench/datasets/{}/*/*_category_*.csv", "t*", ()),
}
SAFETY = ("xstest_safe", "xstest_unsafe", "medsafety")


def files(name: str, root: Path, split: str = "test") -> list[Path]:
    """The files of a benchmark's split under `root`, sorted; [] if there are none, StudyError if unknown."""
    if name not in BENCHMARKS:
        raise StudyError(f"eval_benchmarks: no benchmark is {name!r}; there are {', '.join(BENCHMARKS)}.")
    _, pattern, scored, _ = BENCHMARKS[name]
    return sorted(Path(root).glob(pattern.format(scored if split == "test" else split)))


def read(name: str, root: Path, split: str = "test", defects: list[Defect] | None = None) -> list[Item]:
    """Items in file order; unusable ones, and notes on doubtful ones, are appended to `defects`.

    PubMedQA gives all 1,000, `meta["test"]` marks the official 500. A question that stands there twice (78 do
    in two subjects of MMLU) is one cluster. Without a `defects` list an unusable item (other than for a
    missing picture) raises StudyError, as missing and unreadable files always do.
    """
    items, firsts = {}, {}
    if not (paths := files(name, root, split)):
        raise StudyError(f"eval_benchmarks: no file {BENCHMARKS[name][1].format(split)} of {name} in {root}; "
                         "README (Data) says where to get it, or take it out of eval_benchmarks.")
    for path in paths:
        for number, row, found in BENCHMARKS[name][0](path):
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
            if reason and defects is not None:
                file, dropped = path.relative_to(root).as_posix(), not isinstance(item, Item)
                defects.append(Defect(name, file, number, reason, "benchmark", dropped))
    return list(items.values())


def _unusable(found: dict) -> str | None:
    reasons = [problem({"context": "", **found}, "context", "question"),
               *(problem({"option": text}, "option") for text in found["options"].values()),
               IMAGE if found["gold"] == IMAGE else None,
               None if len(found["options"]) > 1 else "fewer than two options",
               None if found["gold"] in list(found["options"]) else "no right option, or two that disagree"]
    return next(filter(None, reasons), None)


def _item(name: str, split: str, row: dict, found: dict) -> Item:
    prefix = {"pubmedqa": "", "medmcqa": "", "mmlu_medical": "mmlu/"}.get(name, f"{name}/")
    key = prefix + ("" if split == "test" else f"{split}/") + found["id"]
    meta = {extra: value for extra, value in found.items()
            if extra not in ("id", "question", "context", "options", "gold")}
    meta |= {extra: row[extra] for extra in ("kind", "relation") if extra in row}  # rows of a world have them
    return Item(key, str(row.get("cluster", key)), name, found["question"], found.get("context", ""),
                tuple(found["options"].values()), list(found["options"]).index(found["gold"]), meta)


def _doubt(item: Item, first: str) -> str | None:
    if first != item.id:
        return f"same question and options as {first} (kept)"
    return None if len(set(item.options)) == len(item.options) else "two options read the same (kept)"


def pool(name: str, root: Path) -> list[Item]:
    """Items for few-shot examples that are not scored: train, else dev; [] where the benchmark has neither.

    PubMedQA: the 500 that are not the official test.
    """
    if name == "pubmedqa":
        return [item for item in read(name, root) if not item.meta["test"]]
    return next((read(name, root, split) for split in BENCHMARKS[name][3] if files(name, root, split)), [])


def save(folder: Path, name: str, items: list[Item]) -> None:
    """Writes `<folder>/<name>.jsonl`, one item a line."""
    write_text(Path(folder) / f"{name}.jsonl", "".join(json.dumps(asdict(item)) + "\n" for item in items))


def load(folder: Path, name: str) -> list[Item]:
    """The items that `save` wrote; raises StudyError when the file is missing."""
    with open_bytes(Path(folder) / f"{name}.jsonl") as lines:
        rows = [json.loads(line) for line in lines]
    return [Item(**row | {"options": tuple(row["options"])}) for row in rows]


def load_pool(folder: Path, name: str) -> list[Item]:
    """The benchmark's `pool`, saved beside its items under the name `<name>.pool`."""
    return load(folder, f"{name}.pool")


def items_digest(items: list[Item]) -> str:
    """sha256 (hex) of the items' content in their order: what a prediction file was scored on."""
    found = hashlib.sha256()
    for item in items:
        found.update(json.dumps(asdict(item), sort_keys=True).encode())
    return found.hexdigest()


def constant_guess(items: list[Item]) -> dict[str, float]:
    """Accuracy (share) of the two best guessers that never read a question.

    `position` always takes the place in the option list that is most often right. `text` takes the option
    whose text is most often right among the items of all other clusters (ties are shared).
    """
    positions = Counter(item.answer for item in items)
    right = Counter(item.options[item.answer] for item in items)
    own = Counter((item.cluster, item.options[item.answer]) for item in items)
    hits = 0.0
    for item in items:
        counts = [right[text] - own[item.cluster, text] for text in item.options]
        hits += (counts[item.answer] == max(counts)) / counts.count(max(counts))
    return {"position": max(positions.values()) / len(items), "text": hits / len(items)}


def best_constant_accuracy(items: list[Item]) -> float:
    """The better of `constant_guess`: the floor that a model must beat to have read the questions (share).

    Where all right options stand at the same place (TruthfulQA: first), only `text` counts: that order is the
    file's layout, and a protocol that shows it has to shuffle.
    """
    guess = constant_guess(items)
    return guess["text"] if guess["position"] == 1 else max(guess.values())
