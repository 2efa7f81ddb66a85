"""From predictions to what went wrong: one row per answer, cut along everything a reviewer asks about."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax

from sm70lib import benchmarks, protocols
from sm70lib.analysis import stats, verdicts
from sm70lib.protocols import replies
from sm70lib.study.params import StudyError

RUN = ["study", "model", "benchmark", "protocol", "shots"]
SET = ["study", "benchmark", "protocol", "shots"]
SHOWN = 80  # characters of an unread reply in the list of errors
META = ("kind", "step", "subject", "relation", "wording")  # of an item, where it has them
OUTCOMES = {(True, True): "both right", (False, True): "gained", (True, False): "lost",
            (False, False): "both wrong"}


def frame(folder: Path) -> pd.DataFrame:
    """One row per prediction of the study in `folder`, joined with its item and the contamination flag.

    Adds `item`, `cluster`, what META names, `options` (how many), `flagged`, `confidence` (softmax share of
    the best option), `margin` (nats over the next), `brier`, the study's `base` (name or folder) and, where
    that was trained here, its number of `weights`. Raises StudyError for a broken line.
    """
    rows = [row for path in sorted((folder / "predictions").glob("*/*.jsonl")) for row in _read(path)]
    if not rows:
        raise StudyError(f"outputs/{folder.name}/predictions is empty; run 04_eval first.")
    items = {(name, item.id): item for name in sorted({row["benchmark"] for row in rows})
             for item in benchmarks.load(folder / "data" / "benchmarks", name)}
    hits = pd.read_csv(folder / "data" / "contaminated_items.csv", dtype=str)
    hits = set(zip(hits["benchmark"], hits["item_id"]))
    base = json.loads((folder / "base" / "base.json").read_text(encoding="utf-8"))
    return pd.DataFrame([_described(row, items, hits) for row in rows]).assign(
        study=folder.name, base=base["model"], weights=base.get("weights", np.nan))


def _read(path: Path) -> list[dict]:
    rows = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            rows.append({"model": path.parent.name} | json.loads(line))
    except (json.JSONDecodeError, TypeError):
        raise StudyError(f"predictions/{path.parent.name}/{path.name}, line {len(rows) + 1} is no JSON "
                         "object; delete the file and run 04_eval again.") from None
    return rows


def _described(row: dict, items: dict, hits: set) -> dict:
    key = row["benchmark"], row["item_id"]
    if key not in items:
        raise StudyError(f"predictions of {row['model']}: item {key[1]!r} is not in data/benchmarks/"
                         f"{key[0]}.jsonl; the benchmarks changed, run 04_eval again.")
    item = protocols.named(row["protocol"]).view(items[key], row["seed"])  # as it was asked
    scores = np.asarray(row["loglikelihoods"] or [np.nan, np.nan], float)
    share, (second, best) = softmax(scores), np.sort(scores)[-2:]
    return row | {name: item.meta.get(name) for name in (*META, "pair")} | {"item": item, "cluster": item.cluster,
        "flagged": key in hits, "options": len(item.options), "confidence": share.max(),
        "margin": best - second, "brier": np.sum((share - (np.arange(len(share)) == row["gold"])) ** 2)}


def paired(answers: pd.DataFrame, before: str, after: str) -> pd.DataFrame:
    """The questions both models answered, one row each: `correct_a`, `correct_b`, `outcome` ..."""
    on = [*SET, "item_id", "seed", "sample"]
    a, b = (answers[answers["model"] == model] for model in (before, after))
    columns = [*on, "choice", "correct", "confidence", "parsed"]
    both = a.merge(b[columns], on=on, suffixes=("_a", "_b"))
    return both.assign(outcome=[OUTCOMES[pair] for pair in zip(both["correct_a"], both["correct_b"])])


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
    found = {name: replies.unscored(int(both[side].isna().sum()), len(both))
             for name, side in ((a, "choice_a"), (b, "choice_b"))}
    prefix = f"{replies.NO_SCORE}: "
    named = [f"{why.removeprefix(prefix)} ({name})" for name, why in found.items() if why]
    return prefix + "; ".join(named) if named else ""


def by_slice(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """Accuracy with interval by what the items' meta hold and by the number of options, where these vary."""
    rows = []
    for keys, run in answers.groupby(RUN):
        for name in (name for name in (*META, "options") if run[name].nunique() > 1):
            for value, part in run.groupby(name):
                found = accuracy(part, how)
                rows.append(dict(zip(RUN, keys)) | {"slice": name, "value": str(value)} | found)
    columns = ["slice", "value", "n", "acc_pct", "low_pct", "high_pct", "interval"]
    return pd.DataFrame(rows, columns=[*RUN, *columns])


def flips(both: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """How many answers the second model gained and lost, by benchmark and kind, with paired test.

    Of several draws of the same items the mean number counts, so that all four add up to n. Where
    most replies of a model are unread there is no `p`, and `test` says why.
    """
    rows, names = [], [*SET, "kind"]
    for keys, part in both.fillna({"kind": "all"}).groupby(names):
        why = unread(part)
        p, test = (np.nan, why) if why else stats.paired_test(
            part["correct_a"], part["correct_b"], part["cluster"], how)
        counts = part["outcome"].value_counts().reindex(list(OUTCOMES.values()), fill_value=0)
        n, draws = part["item_id"].nunique(), len(part) / part["item_id"].nunique()
        counts = counts if draws == 1 else (counts / draws).round(1)
        cells = {"n": n, **counts, "test": test, "p": float(f"{p:.4g}")}
        rows.append(dict(zip(names, keys)) | cells)
    return pd.DataFrame(rows, columns=[*names, "n", *OUTCOMES.values(), "test", "p"])


def habits(answers: pd.DataFrame) -> pd.DataFrame:
    """What choices lean on besides the question: a favourite position, length, how the score is normalised.

    Lengths are an option's characters over its question's average (1: no lean); `agree_pct` compares the
    choice by summed log-likelihood with the one per character.
    """
    def lean(row, column):
        lengths = [len(text) for text in row["item"].options]
        return lengths[int(row[column])] / np.mean(lengths)

    rows, names = [], [*RUN, "n", "favourite", "favourite_chosen_pct", "favourite_gold_pct",
                       "chosen_length", "gold_length", "agree_pct"]
    for keys, part in answers.dropna(subset="choice").groupby(RUN):
        favourite = int(part["choice"].mode()[0])
        rows.append(dict(zip(RUN, keys)) | {
            "n": part["item_id"].nunique(), "favourite": chr(65 + favourite),
            "favourite_chosen_pct": 100 * (part["choice"] == favourite).mean(),
            "favourite_gold_pct": 100 * (part["gold"] == favourite).mean(),
            "chosen_length": part.apply(lean, axis=1, column="choice").mean(),
            "gold_length": part.apply(lean, axis=1, column="gold").mean(),
            "agree_pct": 100 * (part["choice"] == part["choice_norm"]).mean()})
    return pd.DataFrame(rows, columns=names).round(2)


def reliability(answers: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Mean confidence and accuracy (percent) in `bins` equal bins of confidence, for each run.

    Where an item was asked several times its answers may stand in several bins; `n` counts items.
    """
    return _binned(answers, bins).drop(columns="answers")


def _binned(answers: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    known = answers.dropna(subset="confidence").assign(
        bin=lambda x: (x["confidence"] * bins).astype(int).clip(upper=bins - 1),
        confidence_pct=lambda x: 100 * x["confidence"], acc_pct=lambda x: 100 * x["correct"])
    groups = known.groupby([*RUN, "bin"])
    means = groups[["confidence_pct", "acc_pct"]].mean().round(2)
    return means.assign(n=groups["item_id"].nunique(), answers=groups.size()).reset_index()


def calibration(answers: pd.DataFrame) -> pd.DataFrame:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3) in points, Brier's score."""
    bins = _binned(answers)
    bins["gap"] = bins["answers"] * (bins["acc_pct"] - bins["confidence_pct"]).abs()
    sums = bins.groupby(RUN)[["answers", "gap"]].sum()
    means = answers.groupby(RUN)[["confidence", "margin", "brier"]].mean().round(3)
    items = answers.dropna(subset="confidence").groupby(RUN)["item_id"].nunique()
    found = means.assign(n=items, ece_pts=(sums["gap"] / sums["answers"]).round(1))
    return found.dropna().astype({"n": int}).reset_index()


def listing(both: pd.DataFrame) -> pd.DataFrame:
    """Every answer that is wrong before or after, with its text: outcome, question, gold, both choices.

    A reply that could not be read stands as "unread", with its first words.
    """
    wrong = both[both["outcome"] != "both right"]
    asked = zip(wrong["item"], wrong["gold"])
    texts = {"gold": [item.options[int(place)] for item, place in asked]}
    for name, side in (("before", "_a"), ("after", "_b")):
        answers = zip(wrong["item"], wrong[f"choice{side}"], wrong[f"parsed{side}"])
        texts[name] = [_said(*answer) for answer in answers]
    columns = [*SET, "item_id", "kind", "flagged", "outcome", "confidence_b"]
    return wrong[columns].round(3).assign(question=[item.question for item in wrong["item"]], **texts)


def _said(item: benchmarks.Item, choice: float | None, written: list[str] | None) -> str:
    """The chosen option's text, or what stands in its place."""
    if pd.notna(choice):
        return item.options[int(choice)]
    if not isinstance(written, list):
        return "unread"
    start = " ".join(written[0].split())[:SHOWN] if written else ""
    return f"unread: {start}" if start else "unread: empty reply"
