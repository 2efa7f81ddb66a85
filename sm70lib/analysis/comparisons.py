"""Pairs of models on the same questions."""

from __future__ import annotations

import pandas as pd

from sm70lib.analysis import frames
from sm70lib.analysis.frames import AFTER, SET, before, paired
from sm70lib.statistics import differences, stats, verdicts


def comparisons(answers: pd.DataFrame, p, how: stats.How) -> pd.DataFrame:
    """Pairs of models on the same questions: difference, interval, p, smallest detectable difference.

    The primary family is the one that `p` declares (`eval_primary_*`: tuned against its start): its
    intervals are at Holm's level (`level_pct`), and `p_holm` is its adjusted p. All other rows are
    exploratory, each at the plain level. `reading` follows from the interval alone.
    """
    start, rows, answers = before(answers), [], answers[answers["benchmark"] != "usmle_macro"]
    for a, b in dict.fromkeys([(start, AFTER), ("base", AFTER), ("base", "base-nf4")]):
        for keys, part in paired(answers, a, b).groupby(SET):
            declared = keys[1] in p.eval_primary_benchmarks and (a, b, keys[0], *keys[2:]) == (
                start,
                AFTER,
                p.study,
                p.eval_primary_protocol,
                p.eval_primary_shots,
            )
            names = {"family": "primary" if declared else "exploratory"} | dict(zip(SET, keys))
            rows.append((names | {"before": a, "after": b}, part))
    rows.sort(key=lambda row: row[0]["family"], reverse=True)  # the primary ones come first
    sides = [_sides(part, names["before"], names["after"]) for names, part in rows]
    count = sum(names["family"] == "primary" for names, _ in rows)
    gaps = verdicts.family(sides[:count], how.level) + [
        given and (differences.difference(*given, how.level), how.level) for given in sides[count:]
    ]
    measured = stats.Estimate(0, 0, 0, 0, "").row("difference_pts", "pts")
    columns = [
        "family",
        *SET,
        "before",
        "after",
        *measured,
        "level_pct",
        "test",
        "p",
        "p_holm",
        "detectable_pts",
        "reading",
    ]
    table = pd.DataFrame(
        [
            names | _compared(part, names["before"], names["after"], gap, how)
            for (names, part), gap in zip(rows, gaps)
        ],
        columns=columns,
    )
    p_values = table.loc[: count - 1, "p"]  # a declared test without a p belongs to the family too
    table["p_holm"] = table["p_holm"].astype(float)
    if count:
        adjusted = stats.holm(p_values.fillna(1))
        table.loc[: count - 1, "p_holm"] = [float(f"{q:.4g}") for q in adjusted]
    table.loc[table["p"].isna(), "p_holm"] = float("nan")
    return table


def _sides(both: pd.DataFrame, a: str, b: str) -> tuple | None:
    """What a difference is computed from, one entry an item; None where most replies are unread."""
    if frames.unread(both, a, b):
        return None
    items = frames.by_item(both, ["correct_a", "correct_b"])
    return items["correct_a"], items["correct_b"], items["cluster"]


def _compared(both: pd.DataFrame, a: str, b: str, gap: tuple | None, how: stats.How) -> dict:
    """The cells of a comparison of `paired` answers, given the difference and the level of its bounds.

    Without one, as most replies are unread, only n and why.
    """
    if gap is None:
        return {"n": both["item_id"].nunique(), "reading": frames.unread(both, a, b)}
    found, level = gap
    p_value, test = stats.paired_test(both["correct_a"], both["correct_b"], both["cluster"], how)
    return found.row("difference_pts", "pts") | {
        "level_pct": round(100 * level, 1),
        "test": test,
        "p": float(f"{p_value:.4g}"),
        "detectable_pts": round(100 * stats.detectable(*_sides(both, a, b), how), 1),
        "reading": _reading(both, a, b, found),
    }


def _reading(both: pd.DataFrame, a: str, b: str, found: stats.Estimate) -> str:
    """What a difference says in words, by its bounds alone; nothing where a model is constant."""
    said = [
        f"{name} chose {why}"
        for name, side in ((a, "choice_a"), (b, "choice_b"))
        if (why := frames.constant(both, side))
    ]
    if said:
        return f"no verdict: {'; '.join(said)}"
    if found.method.startswith(differences.NONE):
        return f"no verdict: {found.method.removeprefix(differences.NONE)}"
    verdict = verdicts.judged(found)
    if verdict == verdicts.OPEN:
        return f"not distinguishable at n={found.n}"
    return f"{b if verdict == verdicts.SUPPORTED else a} higher"


def contamination_effect(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """What leaked items are worth: tuning's gain on flagged questions minus clean ones, in points.

    Where most replies are unread there is no gain, and `interval` says why.
    """
    rows = []
    both = paired(answers[answers["benchmark"] != "usmle_macro"], before(answers), AFTER)
    for keys, part in both.groupby(SET):
        if part["flagged"].nunique() < 2:
            continue
        items = frames.by_item(part, ["correct_a", "correct_b"])
        if why := frames.unread(part):
            leaked, nan = int(items["flagged"].sum()), float("nan")
            clean = len(items) - leaked
            rows.append([*keys, leaked, nan, clean, nan, len(items), nan, nan, nan, why])
            continue
        found = differences.gain_difference(
            items["correct_a"], items["correct_b"], items["cluster"], items["flagged"], how.level
        )
        flagged, clean, effect = (one.row("pts", "pts") for one in found)
        gains = flagged["n"], flagged["pts"], clean["n"], clean["pts"]
        rows.append([*keys, *gains, *effect.values()])
    return pd.DataFrame(
        rows,
        columns=[
            *SET,
            "n_flagged",
            "gain_flagged_pts",
            "n_clean",
            "gain_clean_pts",
            "n",
            "effect_pts",
            "low_pts",
            "high_pts",
            "interval",
        ],
    )
