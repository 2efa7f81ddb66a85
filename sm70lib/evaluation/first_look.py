"""What 04 shows before any interval: what is asked, the plain accuracies, a line as it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from sm70lib.evaluation.runs import Run
from sm70lib.protocols import replies


def overview(asked: list[Run]) -> pd.DataFrame:
    """One row per run: benchmark, protocol, shots, n, and the pool that shots come from."""
    rows = [
        (
            run.benchmark,
            run.protocol.name,
            run.shots,
            len(run.items),
            "-"
            if not run.shots
            else f"{len(run.pool)} other items"
            if run.pool
            else "the scored items (flagged)",
        )
        for run in asked
    ]
    return pd.DataFrame(rows, columns=["benchmark", "protocol", "shots", "n", "shots from"])


def first_of_each_protocol(asked: list[Run]) -> list[Run]:
    """The first run of every protocol, for a look at its prompt."""
    return list({run.protocol.name: run for run in reversed(asked)}.values())[::-1]


def rescored(folder: Path) -> dict:
    """By model: what scoring items alone changed."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(folder.glob("*/batch_1.json"))
    }


def accuracies(folder: Path) -> pd.DataFrame:
    """Accuracy in percent of all prediction files below `folder`: one row per run, one column per model.

    Beside it, over all models: items left out, prompts cut to the context, and replies that could not be read.
    Where most could not be, there is no accuracy.
    """
    rows = []
    for path in sorted(folder.glob("*/*.jsonl")):
        if not path.stat().st_size:
            continue  # not an item that could be scored
        lines, about = (
            pd.read_json(path, lines=True),
            json.loads(path.with_suffix(".meta.json").read_text()),
        )
        unread = int(lines["choice"].isna().sum())
        accuracy = np.nan if replies.unscored(unread, len(lines)) else 100 * lines["correct"].mean()
        rows.append(
            (
                *lines.loc[0, ["benchmark", "protocol", "shots"]],
                lines["item_id"].nunique(),
                len(about.get("skipped", [])),
                len(about.get("cut", [])),
                unread,
                path.parent.name,
                accuracy,
            )
        )
    names = ["benchmark", "protocol", "shots", "n", "left out", "cut", "unread"]
    frame = pd.DataFrame(rows, columns=[*names, "model", "acc_pct"])
    worst = frame.groupby(names[:4])[names[4:]].max()
    return frame.pivot(index=names[:4], columns="model", values="acc_pct").round(1).join(worst)


def by_protocol(folder: Path, name: str = "tuned") -> pd.DataFrame:
    """How far the protocol alone moves a model's accuracy (percent), and the range in points.

    Of another model where that one was not scored.
    """
    found = accuracies(folder)
    name = name if name in found else min(folder.glob("*/*.jsonl")).parent.name
    frame = found[name].reset_index()
    frame["way"] = frame["protocol"] + ", " + frame["shots"].astype(str) + "-shot"
    table = frame.pivot(index="benchmark", columns="way", values=name)
    return table.assign(range_pts=table.max(axis=1) - table.min(axis=1)).round(1)


def example(folder: Path) -> dict:
    """The first line of the tuned model's first file, or of another's where it was not scored."""
    files = sorted((folder / "tuned").glob("*.jsonl")) or sorted(folder.glob("*/*.jsonl"))
    return json.loads(files[0].read_text().splitlines()[0])
