"""Keeps the committed results of the study `small`, and writes of them in the README.

After `make reproduce STUDY=small DATA=folder`:

    python -m tests.results.small                # outputs/small -> outputs/reference/small
    python -m tests.results.small small-full     # the same for the overlay
    python -m tests.results.small tiny-meditron  # or for another study with arms

Kept are tables, figures, marks, losses and predictions of both arms. What quotes questions stays
away (executed notebooks, benchmark items, the table errors): the exams have their own licences.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sm70lib.steps import weights
from sm70lib.steps.steps import outputs, write_json
from sm70lib.study.params import ROOT, StudyError

REFERENCES = ROOT / "outputs/reference"
STUDIES = ("small", "small-full")  # what the README shows, where it was run
PARTS = (
    "predictions/*/*.jsonl",
    "predictions/*/*.json",
    "tables/*.csv",
    "tables/*.md",
    "figures/*.png",
    "steps/*/done.json",
    "manifest.json",
    "memory.csv",
    "data/*.csv",
    "base/base.json",
    "stages/*/metrics.jsonl",
    "stages/*/holdout.csv",
)
NO_FOLDER = ("world", "hub")  # values of data_root that name no folder of this machine
LEFT_OUT = ("errors", "quoted")  # tables: the text of questions; what others report
SPEED = "speed.json"
FLOP_PER_WEIGHT = 4  # a frozen weight: 2 for a token forward, 2 for the activation's gradient


def keep(study: str) -> None:
    """Copies the results of a finished study and of the studies beside it, and measures speed.

    Args:
        study: its folder in outputs/.

    Raises:
        StudyError: the study is not finished.
    """
    if not (outputs() / study / "manifest.json").exists():
        raise StudyError(f"outputs/{study} has no manifest.json: run the study to its end first")
    shutil.rmtree(REFERENCES / study, ignore_errors=True)
    parameters = json.loads((outputs() / study / "manifest.json").read_text())["parameters"]
    for name in (study, *parameters["figures_studies"]):
        target = REFERENCES / study if name == study else REFERENCES / study / name
        _copy(outputs() / name, target, parameters["data_root"])
    if study in STUDIES:
        write_json(REFERENCES / study / SPEED, _speed(outputs() / study))


def _copy(study: Path, target: Path, data_root: str) -> None:
    """Copies the parts that are kept; a folder of data is called DATA in them."""
    for part in PARTS:
        for source in sorted(study.glob(part)):
            if source.stem in LEFT_OUT:
                continue
            copy = target / source.relative_to(study)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
            if copy.suffix == ".json" and data_root not in NO_FOLDER:
                copy.write_text(copy.read_text().replace(data_root, "DATA"))


def _speed(study: Path) -> dict[str, float]:
    """Training tokens a second in the median step, and the share of the matrix rate.

    The median, because other work on the machine slows single steps down many times.
    """
    (stage,) = sorted(study.glob("stages/*-sft"))[:1]
    logged = pd.read_json(stage / "metrics.jsonl", lines=True)
    steps = logged.dropna(subset=["num_tokens"])
    tokens = float((steps["num_tokens"].diff() / steps["seconds"].diff()).median())
    model = json.loads((study / "base/base.json").read_text())["model"]
    count = _weights_of(model)
    rate = matrix_rate()
    return {
        "training_tokens_per_second": round(tokens, 1),
        "matrix_rate_gflop_per_second": round(rate / 1e9, 1),
        "share_of_matrix_rate": round(FLOP_PER_WEIGHT * count * tokens / rate, 3),
    }


def _weights_of(model: str) -> int:
    """How many weights a model has; a matrix that is both embedding and output counts once."""
    config = AutoConfig.from_pretrained(weights.place(model))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


def matrix_rate(size: int = 1024) -> float:
    """This machine's measured rate of float32 matrix products (FLOP a second), the best of 10."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(11):
        began = time.perf_counter()
        one @ other
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds[1:])


def declared(study: str) -> pd.DataFrame:
    """The claims of the committed study that were declared before it was run, with verdicts."""
    card = pd.read_csv(REFERENCES / study / "tables/scorecard.csv")
    judged = card[~card["verdict"].isin(["exploratory"])]
    return judged[judged["source"] == "this study"]


def block() -> str:
    """The README's table: each declared claim, with what each study measured and its verdict."""
    made = [study for study in STUDIES if (REFERENCES / study / "tables/scorecard.csv").exists()]
    if not made:
        return "(not run yet)\n"
    claims = {study: list(declared(study).itertuples()) for study in made}
    rows = [
        {"declared before the run": _part(same[0])}
        | {study: _measured(row) for study, row in zip(made, same)}
        for same in zip(*claims.values(), strict=True)
    ]
    table = pd.DataFrame(rows).to_markdown(index=False)
    return f"{table}\n\n{_speeds(made)}"


def _part(row) -> str:
    """The wording of one part of a claim; that of the whole stands in a row of its own."""
    is_part = row.claim.startswith("tuning on refusals") and not pd.isna(row.benchmark)
    return row.why if is_part else row.claim


def _measured(row) -> str:
    verdict = f"**{row.verdict}**"
    if pd.isna(row.ours):
        return verdict
    unit = row.measure.partition("(")[2].rstrip(")")
    return f"{row.ours:g} [{row.low:g}, {row.high:g}] {unit}, n={row.n:.0f}: {verdict}"


def _speeds(made: list[str]) -> str:
    lines = []
    for study in made:
        speed = json.loads((REFERENCES / study / SPEED).read_text())
        tokens = f"{speed['training_tokens_per_second']:.0f} training tokens a second (median step)"
        lines.append(
            f"- {study}: {tokens}, {speed['share_of_matrix_rate']:.0%} of this machine's "
            f"{speed['matrix_rate_gflop_per_second']:.0f} GFLOP/s in float32\n"
        )
    return "".join(lines)


if __name__ == "__main__":
    for name in sys.argv[1:] or ["small"]:
        keep(name)
