"""What 04 shows before any interval: the runs, plain accuracies, and one line as it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from sm70lib import benchmarks
from sm70lib.asking.prompts import Prompt, Prompts
from sm70lib.asking.runs import Run
from sm70lib.models import loading
from sm70lib.protocols import replies

RUN = ["benchmark", "protocol", "shots", "n"]
COUNTS = ["left out", "cut", "unread"]


def overview(asked: list[Run]) -> pd.DataFrame:
    """One row per run: benchmark, protocol, shots, n, and where its shots come from."""
    rows = [
        (run.benchmark, run.protocol.name, run.shots, len(run.items), _shots_from(run))
        for run in asked
    ]
    return pd.DataFrame(rows, columns=[*RUN, "shots from"])


def _shots_from(run: Run) -> str:
    if not run.shots:
        return "-"
    if run.pool:
        return f"{len(run.pool)} other items"
    return "the scored items (flagged)"


def first_of_each_protocol(asked: list[Run], folder: Path) -> list[tuple[Run, Prompt]]:
    """The first run of every protocol, with the prompt of its first item.

    Args:
        asked: all runs.
        folder: the study's, which says where its base is.
    """
    tokenizer = loading.load_tokenizer(loading.located(folder))
    firsts = {run.protocol.name: run for run in reversed(asked)}
    return [(run, Prompts(run, tokenizer).render(0)) for run in list(firsts.values())[::-1]]


def rescored(folder: Path) -> dict:
    """What changed when items were scored alone, by model."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(folder.glob("*/batch_1.json"))
    }


def accuracies(folder: Path) -> pd.DataFrame:
    """Accuracies of all prediction files.

    Args:
        folder: the study's `predictions`.

    Returns:
        One row per run and one column per model, in percent; NaN if most replies could not be read.
        Three more columns count, as the maximum over all models, the items left out, the prompts
        cut to the context, and the replies that could not be read.
    """
    rows = []
    for path in sorted(folder.glob("*/*.jsonl")):
        if _holds_answers(path):
            rows.append(_row(path))
    frame = pd.DataFrame(rows, columns=[*RUN, *COUNTS, "model", "acc_pct"])
    worst = frame.groupby(RUN)[COUNTS].max()
    return frame.pivot(index=RUN, columns="model", values="acc_pct").round(1).join(worst)


def _holds_answers(path: Path) -> bool:
    """Whether a prediction file has an item that was answered: no document, and not left out."""
    with path.open() as lines:
        first = next(lines, None)
    return first is not None and json.loads(first)["benchmark"] not in benchmarks.WITHOUT_ACCURACY


def _row(path: Path) -> tuple:
    """What `accuracies` tells of one prediction file."""
    # pandas takes ten times as long for a file this small, and there are a hundred of them.
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    about = json.loads(path.with_suffix(".meta.json").read_text())
    unread = sum(line["choice"] is None for line in lines)
    if replies.unscored(unread, len(lines)):
        accuracy = np.nan
    else:
        accuracy = 100 * float(np.mean([line["correct"] for line in lines]))
    return (
        *(lines[0][name] for name in ("benchmark", "protocol", "shots")),
        len({line["item_id"] for line in lines}),
        len(about.get("skipped", [])),
        len(about.get("cut", [])),
        unread,
        path.parent.name,
        accuracy,
    )


def by_protocol(folder: Path, name: str = "tuned") -> pd.DataFrame:
    """How far the protocol alone moves a model's accuracy.

    Args:
        folder: the study's `predictions`.
        name: the model; if it has no accuracy, another one is shown.

    Returns:
        One row per benchmark, one column per protocol and shots (percent), and their range
        (points). It has no rows if no model has an accuracy.
    """
    table = accuracies(folder)
    if name not in table:
        name = next(iter(table.columns.drop(COUNTS)), name)
    frame = table.reindex(columns=[name]).reset_index()
    frame["way"] = frame["protocol"] + ", " + frame["shots"].astype(str) + "-shot"
    wide = frame.pivot(index="benchmark", columns="way", values=name)
    return wide.assign(range_pts=wide.max(axis=1) - wide.min(axis=1)).round(1)


def example(folder: Path) -> dict:
    """The first line of the tuned model, or of another model if it has none; {} if none has any."""
    for path in [*sorted(folder.glob("tuned/*.jsonl")), *sorted(folder.glob("*/*.jsonl"))]:
        with path.open(encoding="utf-8") as lines:
            first = next(lines, None)
        if first is not None:
            return json.loads(first)
    return {}
