"""How far the order of the options alone moves a model: the scores of the order probes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sm70lib import protocols
from sm70lib.analysis.frames import RUN
from sm70lib.protocols import replies
from sm70lib.protocols.order import AS_IT_IS
from sm70lib.statistics import stats

PROBES = tuple(each.name for each in protocols.PROTOCOLS if each.varies)
COLUMNS = [*RUN, "n", "orders", "moved_pct", "low_pct", "high_pct", "interval"]
COLUMNS += ["acc_file_pct", "acc_least_pct", "acc_most_pct", "unread"]


def table(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """How often a model chooses another text once the options stand in another order.

    Args:
        answers: rows of `frames.load`.
        how: level of the intervals.

    Returns:
        One row per run of an order probe. `moved_pct` is the share of items whose chosen text
        differs from that in the order of the file, as the mean over `orders` other orders, with
        its interval over items. Accuracy (percent) in the order of the file stands beside the least
        and the most of all orders. `unread` counts replies that could not be read; a pair with one
        is not compared. Empty where no probe was asked.
    """
    asked = answers[answers["protocol"].isin(PROBES)]
    rows = [dict(zip(RUN, keys)) | _moved(run, how) for keys, run in asked.groupby(RUN)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _moved(run: pd.DataFrame, how: stats.How) -> dict:
    """The cells of one run."""
    unread = int(run["choice"].isna().sum())
    orders = run.loc[run["seed"] != AS_IT_IS, "seed"].nunique()
    cells: dict = {"n": run["item_id"].nunique(), "orders": orders, "unread": unread}
    if why := replies.unscored(unread, len(run)):
        return cells | {"interval": why}
    accuracy = 100 * run.groupby("seed")["correct"].mean()
    cells |= {
        "acc_file_pct": round(accuracy.get(AS_IT_IS, np.nan), 1),
        "acc_least_pct": round(accuracy.min(), 1),
        "acc_most_pct": round(accuracy.max(), 1),
    }
    pairs = _pairs(run)
    if pairs.empty:
        return cells | {"interval": f"{replies.NO_SCORE}: no item was read in two orders"}
    items = pairs.groupby("item_id").agg(moved=("moved", "mean"), cluster=("cluster", "first"))
    share = stats.rate(items["moved"], items["cluster"], how).row("moved_pct")
    return cells | share | {"n": len(items)}


def _pairs(run: pd.DataFrame) -> pd.DataFrame:
    """Each answer in another order beside that in the file's, and whether the text changed."""
    read = run.dropna(subset="choice")
    texts = [item.options[int(place)] for item, place in zip(read["item"], read["choice"])]
    read = read.assign(text=texts)
    first = read.loc[read["seed"] == AS_IT_IS, ["item_id", "text"]]
    others = read[read["seed"] != AS_IT_IS]
    pairs = others.merge(first, on="item_id", suffixes=("", "_file"))
    return pairs.assign(moved=(pairs["text"] != pairs["text_file"]).astype(float))
