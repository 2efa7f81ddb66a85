"""One row per answer, joined with its item, and what counts as one item, one score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from sm70lib import benchmarks, protocols
from sm70lib.protocols import replies
from sm70lib.statistics import stats, verdicts
from sm70lib.study.params import StudyError

RUN = ["study", "model", "benchmark", "protocol", "shots"]
SET = ["study", "benchmark", "protocol", "shots"]
META = ("kind", "step", "subject", "relation", "wording")  # of an item, where it has them
OUTCOMES = {
    (True, True): "both right",
    (False, True): "gained",
    (True, False): "lost",
    (False, False): "both wrong",
}


def frame(folder: Path) -> pd.DataFrame:
    """One row per prediction of the study in `folder`, joined with its item and the contamination flag.

    Adds `item`, `cluster`, what META names, `options` (how many), `flagged`, `confidence` (softmax share of
    the best option), `margin` (nats over the next), `brier`, the study's `base` (name or folder) and, where
    that was trained here, its number of `weights`. Raises StudyError for a broken line.
    """
    rows = [
        row for path in sorted((folder / "predictions").glob("*/*.jsonl")) for row in _read(path)
    ]
    if not rows:
        raise StudyError(f"outputs/{folder.name}/predictions is empty; run 04_eval first.")
    items = {
        (name, item.id): item
        for name in sorted({row["benchmark"] for row in rows})
        for item in benchmarks.load(folder / "data" / "benchmarks", name)
    }
    hits = pd.read_csv(folder / "data" / "contaminated_items.csv", dtype=str)
    hits = set(zip(hits["benchmark"], hits["item_id"]))
    base = json.loads((folder / "base" / "base.json").read_text(encoding="utf-8"))
    return pd.DataFrame([_described(row, items, hits) for row in rows]).assign(
        study=folder.name, base=base["model"], weights=base.get("weights", np.nan)
    )


def _read(path: Path) -> list[dict]:
    rows = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            rows.append({"model": path.parent.name} | json.loads(line))
    except (json.JSONDecodeError, TypeError):
        raise StudyError(
            f"predictions/{path.parent.name}/{path.name}, line {len(rows) + 1} is no JSON "
            "object; delete the file and run 04_eval again."
        ) from None
    return rows


def _described(row: dict, items: dict, hits: set) -> dict:
    key = row["benchmark"], row["item_id"]
    if key not in items:
        raise StudyError(
            f"predictions of {row['model']}: item {key[1]!r} is not in data/benchmarks/"
            f"{key[0]}.jsonl; the benchmarks changed, run 04_eval again."
        )
    item = protocols.named(row["protocol"]).view(items[key], row["seed"])  # as it was asked
    scores = np.asarray(row["loglikelihoods"] or [np.nan, np.nan], float)
    share, (second, best) = softmax(scores), np.sort(scores)[-2:]
    return (
        row
        | {name: item.meta.get(name) for name in (*META, "pair")}
        | {
            "item": item,
            "cluster": item.cluster,
            "flagged": key in hits,
            "options": len(item.options),
            "confidence": share.max(),
            "margin": best - second,
            "brier": np.sum((share - (np.arange(len(share)) == row["gold"])) ** 2),
        }
    )


def paired(answers: pd.DataFrame, before: str, after: str) -> pd.DataFrame:
    """The questions both models answered, one row each: `correct_a`, `correct_b`, `outcome` ..."""
    on = [*SET, "item_id", "seed", "sample"]
    a, b = (answers[answers["model"] == model] for model in (before, after))
    columns = [*on, "choice", "correct", "confidence", "parsed"]
    both = a.merge(b[columns], on=on, suffixes=("_a", "_b"))
    return both.assign(
        outcome=[OUTCOMES[pair] for pair in zip(both["correct_a"], both["correct_b"])]
    )


def by_item(part: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """One row per item: several draws of an item (seeds, samples) are their mean in `columns`.

    Further draws of the same items are no further items: n and every interval stay the items'.
    """
    keys = ["benchmark", "item_id"]
    if len(set(zip(*(part[key].tolist() for key in keys)))) == len(part):
        return part
    means = part.groupby(keys, sort=False)[columns].mean().reset_index()
    return part.drop_duplicates(keys).drop(columns=columns).merge(means, on=keys)


def accuracy(part: pd.DataFrame, how: stats.How, macro: bool = False) -> dict:
    """Cells of an accuracy with its interval, or, if most answers are unread, why there is none.

    Args:
        part: the answers of one run (`frame`), or a cut of it.
        how: level of the interval.
        macro: whether it is the mean over the items' steps, each counting as much.

    Returns:
        n (items), acc_pct, low_pct and high_pct (percent), and how the interval was computed.
    """
    if why := replies.unscored(int(part["choice"].isna().sum()), len(part)):
        numbers = dict.fromkeys(("acc_pct", "low_pct", "high_pct"), np.nan)
        return {"n": part["item_id"].nunique()} | numbers | {"interval": why}
    correct, cluster, weight = scored(part, macro)
    return stats.rate(correct, cluster, how, weight).row()


def scored(part: pd.DataFrame, macro: bool = False) -> tuple:
    """What an interval is computed from: (n,) right or wrong, clusters, and weights if `macro`."""
    items = by_item(part, ["correct"])
    weight = 1 / items.groupby("step")["step"].transform("size") if macro else None
    return items["correct"], items["cluster"], weight


def constant(part: pd.DataFrame, choice: str = "choice") -> str:
    """In words, that a model chose nearly always the same option; "" where it did not.

    Choosing one place is no habit where the right answer always stands there.
    """
    if not verdicts.is_constant(part[choice]) or verdicts.is_constant(part["gold"]):
        return ""
    commonest = int(part[choice].mode()[0])
    share = (part[choice].dropna() == commonest).mean()
    return f"{chr(65 + commonest)} in {share:.0%} of its answers"


def shown(row, after: str = "") -> str:
    """An accuracy's cells in one: value, interval and what comes `after`; or why there is none."""
    if pd.isna(row.acc_pct):
        return row.interval
    return f"{row.acc_pct} [{row.low_pct}, {row.high_pct}]{after}"


def unread(both: pd.DataFrame, a: str = "before", b: str = "after") -> str:
    """Why `paired` answers of models `a` and `b` cannot be compared; "" if most are read."""
    found = {
        name: replies.unscored(int(both[side].isna().sum()), len(both))
        for name, side in ((a, "choice_a"), (b, "choice_b"))
    }
    prefix = f"{replies.NO_SCORE}: "
    named = [f"{why.removeprefix(prefix)} ({name})" for name, why in found.items() if why]
    return prefix + "; ".join(named) if named else ""


AFTER = "tuned"


def load(outputs: Path, studies: list[str]) -> pd.DataFrame:
    """The answers of several studies (`errors.frame`), the USMLE steps once more as one: micro and macro."""
    answers = pd.concat([frame(outputs / study) for study in studies], ignore_index=True)
    steps = answers[answers["benchmark"].str.startswith("usmle_step")]
    steps = steps.assign(step=steps["benchmark"])
    pooled = [steps.assign(benchmark=name) for name in ("usmle", "usmle_macro") if len(steps)]
    return pd.concat([answers, *pooled], ignore_index=True)


def fictional(answers: pd.DataFrame) -> bool:
    """Whether the questions are about the generated world, whose items alone carry a `kind`."""
    return bool(answers["kind"].notna().any())


def trained_here(weights: float | None) -> str:
    """What to call a base that was trained here; empty where it was not."""
    return (
        ""
        if pd.isna(weights)
        else f"has {weights / 1e6:.1f} million weights and was trained here from scratch"
    )


def before(answers: pd.DataFrame) -> str:
    """The model that tuning started from: the base in NF4, or the base where nothing was quantised."""
    return "base-nf4" if "base-nf4" in set(answers["model"]) else "base"
