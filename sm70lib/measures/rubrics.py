"""The scores of replies that judges have read by a rubric, and how far the judges agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import cohens_kappa, to_table

from sm70lib import benchmarks
from sm70lib.benchmarks import Item
from sm70lib.judging import judgements
from sm70lib.protocols import replies
from sm70lib.statistics import means

RUN = ["study", "model", "benchmark", "judge"]
TABLE = [*RUN, "read_by", "n", "as_not_met_pct", "low_pct", "high_pct", "as_met_pct"]
TABLE += ["low_met_pct", "high_met_pct", "criteria", "unread", "characters", "interval"]
AGREEMENT = ["study", "benchmark", "judge", "other", "n", "agree_pct", "kappa"]


def judged(folder: Path) -> pd.DataFrame:
    """Every judgement of a study, one row per criterion of a reply and judge.

    Args:
        folder: outputs/<study>.

    Returns:
        Columns of RUN, and `item_id`, `cluster`, `criterion`, `points`, `met` (True, False or
        None), `read_by` (the exact model, or the reader's name), `characters` (of the reply), and
        `whole` (whether the judge has read all criteria of the reply). Judgements of replies that
        are not there any more are left out.
    """
    rows = []
    for name in benchmarks.RUBRICS:
        paths = sorted(folder.glob(f"predictions/*/{name}-rubric-0.jsonl"))
        items = benchmarks.load(folder / "data/benchmarks", name) if paths else []
        for predictions in paths:
            rows += list(_of_run(folder.name, name, items, predictions))
    return pd.DataFrame(rows)


def _of_run(study: str, name: str, items: list[Item], predictions: Path) -> Iterator[dict]:
    cases = {case.key: case for case in judgements.cases(items, predictions)}
    for path in judgements.files(predictions):
        lines = [line for line in judgements.read(path) if judgements.key(line) in cases]
        criteria = Counter(line["item_id"] for line in lines)
        for line in lines:
            case = cases[judgements.key(line)]
            yield {
                "study": study,
                "model": predictions.parent.name,
                "benchmark": name,
                "judge": path.stem,
                "read_by": line["judge"],
                "item_id": case.item.id,
                "cluster": case.item.cluster,
                "criterion": case.number,
                "points": line["points"],
                "met": line["met"],
                "characters": len(case.reply),
                "whole": criteria[case.item.id] == len(case.item.options),
            }


def table(outputs: Path, studies: list[str], level: float = 0.95) -> pd.DataFrame:
    """The score of every model by every judge.

    The score of a reply is the points of the criteria that it meets over the points that it can
    earn; that of a model is the mean over conversations, at least 0 and at most 100 (arXiv
    2505.08775, section 3). What could not be read counts once as not met and once as met, and is
    never left out. A reply of which a person has read only some criteria has no score.

    Args:
        outputs: the folder of all studies.
        studies: their names.
        level: of the t interval over conversations, of which 20 are needed.

    Returns:
        The columns of TABLE: scores in percent; `characters` is the mean length of a reply. Where
        most is unread there is no score, and `interval` says why. Empty where nothing was judged.
    """
    rows = []
    for study in studies:
        found = judged(outputs / study)
        if found.empty:
            continue
        for keys, part in found[found["whole"]].groupby(RUN):
            rows.append(dict(zip(RUN, keys)) | _score(part, level))
    return pd.DataFrame(rows, columns=TABLE)


def _score(part: pd.DataFrame, level: float) -> dict:
    """The cells of one model and judge."""
    unread = int(part["met"].isna().sum())
    first = part.drop_duplicates("item_id")
    cells: dict = {"read_by": part["read_by"].iloc[-1], "n": len(first)}
    cells |= {"criteria": len(part), "unread": unread}
    cells["characters"] = round(first["characters"].mean())
    if why := replies.unscored(unread, len(part)):
        return cells | {"interval": why.replace("replies", "criteria")}
    bounds = ("low_pct", "high_pct"), ("low_met_pct", "high_met_pct")
    for value, name, (low, high) in zip((False, True), ("as_not_met_pct", "as_met_pct"), bounds):
        scores = _of_items(part, value)
        over = means.mean(scores["score"], scores["cluster"], level)
        shares = [float(np.clip(share, 0, 1)) for share in (over.value, over.low, over.high)]
        known = np.isfinite([over.low, over.high]).all()
        cells |= {name: round(100 * shares[0], 1), "interval": over.method}
        if known:
            cells |= {low: round(100 * shares[1], 1), high: round(100 * shares[2], 1)}
    return cells


def _of_items(part: pd.DataFrame, unread: bool) -> pd.DataFrame:
    """The score of each reply (share), where what is unread counts as `unread`."""
    met = part["met"].map(lambda value: unread if pd.isna(value) else value).astype(bool)
    sums = part.assign(earned=part["points"] * met, possible=part["points"].clip(lower=0))
    sums = sums.groupby(["item_id", "cluster"])[["earned", "possible"]].sum().reset_index()
    return sums.assign(score=sums["earned"] / sums["possible"])


def agreement(outputs: Path, studies: list[str]) -> pd.DataFrame:
    """How far two judges agree on the criteria that both have read, over all models.

    Returns:
        The columns of AGREEMENT: n (criteria), the share on which both agree (percent), and Cohen's
        kappa. Empty with fewer than two judges.
    """
    rows = []
    for study in studies:
        found = judged(outputs / study)
        if found.empty:
            continue
        read = found.dropna(subset="met")
        for name, part in read.groupby("benchmark"):
            wide = part.pivot(
                index=["model", "item_id", "criterion"], columns="judge", values="met"
            )
            for one, other in combinations(wide.columns, 2):
                both = wide[[one, other]].dropna().astype(bool)
                if len(both):
                    rows.append([study, name, one, other, len(both), *_agreed(both)])
    return pd.DataFrame(rows, columns=AGREEMENT)


def _agreed(both: pd.DataFrame) -> tuple[float, float]:
    """Share of equal judgements (percent), and kappa; NaN where both said the same to all."""
    one, other = (both.iloc[:, side].to_numpy() for side in (0, 1))
    share = round(100 * float((one == other).mean()), 1)
    if len({*one, *other}) < 2:
        return share, float("nan")
    counts, _ = to_table(np.column_stack([one, other]).astype(int), bins=2)
    return share, round(float(cohens_kappa(counts, return_results=False)), 2)
