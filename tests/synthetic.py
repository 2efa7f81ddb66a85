"""A small invented study on disk, for tests of tables, errors, figures and the report.

Every number comes from a seed.
"""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from sm70lib import benchmarks
from sm70lib.benchmarks import Item
from sm70lib.benchmarks.details import Details
from sm70lib.steps.keys import WRITES
from sm70lib.steps.steps import write_json
from sm70lib.study import files
from tests import marks

# Questions of each benchmark
SIZES = {
    "medqa_4": 120,
    "pubmedqa": 90,
    "usmle_step1": 40,
    "usmle_step2": 50,
    "usmle_step3": 60,
}
SKILL = {"base": 0.3, "base-nf4": 0.3, "tuned": 0.85}  # chance of a right answer by option text
OPTIONS = ("velaquene", "a longer option", "mid", "x|y & <b>x</b>")
PROTOCOLS = ("sm70-2023", "harness")
INSIDE = ("base", "data")  # folders whose contents are recorded one by one
KINDS = ("known", "fact", "condition")
# Items of the real sets
REAL = {
    "medqa_4": 1273,
    "pubmedqa": 1000,
    "usmle_step1": 94,
    "usmle_step2": 109,
    "usmle_step3": 122,
}

PARAMS = SimpleNamespace(
    study="made",
    eval_primary_protocol="sm70-2023",
    eval_primary_shots=0,
    eval_primary_benchmarks=["medqa_4", "pubmedqa", "usmle"],
)


def items(name: str, size: int, world: bool) -> list[Item]:
    """Invented questions of a benchmark.

    Args:
        name: the benchmark.
        size: how many.
        world: whether they ask about 30 conditions, each a cluster; else each item is its own.
    """
    options = ("yes", "no", "maybe") if name == "pubmedqa" else OPTIONS
    questions = []
    for number in range(size):
        key = cluster = f"{name}/{number:03}"
        said = {"step": name[6:]} if name.startswith("usmle") else {}
        if world:
            condition = number % 30
            cluster = f"condition {condition:02}"
            said["kind"] = KINDS[condition % 3]
        word = "<b>x</b>" if number == 0 else "one"
        question = f"Which {word} belongs to {number}?"
        answer = number // 3 % len(options)
        questions.append(Item(key, cluster, name, question, "", options, answer, Details(**said)))
    return questions


def prediction(item: Item, protocol: str, right: bool, draw: random.Random) -> dict:
    others = [place for place in range(len(item.options)) if place != item.answer]
    choice = item.answer if right else draw.choice(others)
    scores = [
        round(-3 - draw.random() + 2 * (place == choice), 6) for place in range(len(item.options))
    ]
    return {
        "item_id": item.id,
        "benchmark": item.benchmark,
        "protocol": protocol,
        "shots": 0,
        "seed": 42,
        "sample": 0,
        "prompt_digest": "0" * 16,
        "loglikelihoods": scores,
        "choice": choice,
        "choice_norm": choice,
        "gold": item.answer,
        "correct": right,
        "correct_norm": right,
        "parsed": None,
        "seconds": 0.1,
    }


def study(
    outputs: Path,
    name: str = "made",
    world: bool = True,
    skill: dict = SKILL,
    sizes=SIZES,
    protocols=PROTOCOLS,
) -> Path:
    """Writes `outputs/<name>` as steps 01 to 04 leave it, and returns this folder."""
    folder = outputs / name
    draw = random.Random(name)
    for benchmark, size in sizes.items():
        questions = items(benchmark, size, world)
        benchmarks.save(folder / "data" / "benchmarks", benchmark, questions)
        for model, level in skill.items():
            for protocol in protocols:
                path = folder / "predictions" / model / f"{benchmark}-{protocol}-0.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                chance = level if protocol == "sm70-2023" else 1 / len(questions[0].options)
                rows = [
                    prediction(item, protocol, draw.random() < chance, draw) for item in questions
                ]
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = "base/model" if world else "meta-llama/Llama-2-70b-hf"
    write_json(folder / "base/base.json", {"model": base})
    _data(folder, sizes)
    return folder


def _data(folder: Path, sizes: dict) -> None:
    hits = [
        {"source": "medical_meadow_mmmlu", "benchmark": name, "item_id": f"{name}/{number:03}"}
        for name in ("medqa_4", "usmle_step3")
        for number in range(0, 40, 4)
    ]
    pd.DataFrame(hits).to_csv(folder / "data" / "contaminated_items.csv", index=False)
    pairs = [
        {
            "source": source,
            "benchmark": name,
            "items": size,
            "exact": 0,
            "ngram8": 10,
            "ngram13": 5,
            "any": 10 if name == "medqa_4" and source == "medical_meadow_mmmlu" else 0,
        }
        for source in ("medical_meadow_mmmlu", "medical_meadow_medqa")
        for name, size in sizes.items()
    ]
    pd.DataFrame(pairs).to_csv(folder / "data" / "contamination.csv", index=False)
    pd.DataFrame(
        {
            "part": ["quantised layers", "embeddings", "adapter"],
            "planned_mb": [0.42, 1.0, 1.3],
            "measured_mb": [0.43, 1.0, None],
        }
    ).to_csv(folder / "memory.csv", index=False)
    stage = folder / "stages" / "1-sft"
    stage.mkdir(parents=True)
    lines = [
        {
            "step": step,
            "loss": 4 / (1 + step / 20),
            "learning_rate": 5e-3 * (1 - step / 100),
            **({"eval_loss": 4.2 / (1 + step / 22)} if step % 25 == 0 else {}),
        }
        for step in range(5, 101, 5)
    ]
    (stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def mark_finished(folder: Path) -> None:
    """Marks the steps 00 to 04 of a study as finished, so that 05 and 06 run on what is there."""
    for name in list(WRITES)[: list(WRITES).index("05_error_analysis")]:
        parts = [f"{part}/*" if part in INSIDE else part for part in WRITES[name]]
        parts = [f"{part}/*/*" if part == "stages" else part for part in parts]
        paths = sorted(path for part in parts for path in folder.glob(part))
        outputs = {path.relative_to(folder).as_posix(): files.record(path) for path in paths}
        about = {"finished": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "peak_memory_gb": 1.0}
        write_json(folder / "steps" / name / "done.json", marks.done(outputs=outputs) | about)


FILES, TEXTS = 5, 40  # of `write_papers`


def write_papers(root: Path) -> None:
    """Writes a source of running text: every fourth text of a file stands in the one before too."""
    folder = root / "pubmed_abstracts/chunk"
    folder.mkdir(parents=True)
    for file in range(FILES):
        lines = []
        for place in range(TEXTS):
            number = file * TEXTS + place - (TEXTS if place % 4 == 0 and file else 0)
            lines.append(
                json.dumps({"contents": f"Paper {number} is on fever. " * (number % 9 + 1)})
            )
        (folder / f"{file}.jsonl").write_text("\n".join(lines))
