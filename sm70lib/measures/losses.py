"""The loss on held-out documents: nats per token, by document and over documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from sm70lib import benchmarks
from sm70lib.statistics import means

TABLE = ["study", "model", "source", "documents", "tokens", "nats_per_token", "low", "high"]


def by_document(folder: Path) -> pd.DataFrame:
    """What a study measured on documents.

    Args:
        folder: outputs/<study>.

    Returns:
        One row per model, source and document: nats and tokens (sums over its pieces), and loss
        (nats per token). Empty where no documents were scored.
    """
    rows = []
    for name in benchmarks.DOCUMENTS:
        paths = sorted(folder.glob(f"predictions/*/{name}-*.jsonl"))
        items = benchmarks.load(folder / "data/benchmarks", name) if paths else []
        document = {item.id: item.cluster for item in items}
        for path in paths:
            for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                nats, tokens = -line["loglikelihoods"][0], line["tokens"][0]
                rows.append((path.parent.name, name, document[line["item_id"]], nats, tokens))
    columns = ["model", "source", "document"]
    pieces = pd.DataFrame(rows, columns=[*columns, "nats", "tokens"])
    sums = pieces.groupby(columns, sort=False)[["nats", "tokens"]].sum().reset_index()
    return sums.assign(loss=sums["nats"] / sums["tokens"])


def table(outputs: Path, studies: list[str], level: float = 0.95) -> pd.DataFrame:
    """The loss of every model on every source of documents.

    Args:
        outputs: the folder of all studies.
        studies: their names.
        level: of the t interval over documents.

    Returns:
        The columns of TABLE; the loss is the mean over documents, each with the same weight. With
        fewer than 20 documents there is no interval.
    """
    rows = []
    for study in studies:
        for (model, source), part in by_document(outputs / study).groupby(["model", "source"]):
            over = means.mean(part["loss"], part["document"], level)
            bounds = over.low, over.high
            low, high = bounds if np.isfinite(bounds).all() else (np.nan, np.nan)
            counts = len(part), int(part["tokens"].sum())
            rows.append([study, model, source, *counts, over.value, low, high])
    return pd.DataFrame(rows, columns=TABLE).round(4)


def loss_reduction(mine: pd.DataFrame, theirs: pd.DataFrame, source: str) -> pd.Series:
    """How much lower one model's loss is than another's on every document that both read.

    Args:
        mine: rows of `by_document` of one model.
        theirs: those of the other.
        source: the source of the documents.

    Returns:
        Nats per token, by document.
    """
    losses = [
        rows[rows["source"] == source].set_index("document")["loss"] for rows in (theirs, mine)
    ]
    return losses[0].sub(losses[1]).dropna()
