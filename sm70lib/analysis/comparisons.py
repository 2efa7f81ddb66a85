"""Pairs of models on the same questions."""

from __future__ import annotations

import pandas as pd

from sm70lib.analysis import frames
from sm70lib.analysis.frames import SET, before, paired
from sm70lib.analysis.roles import BASE, BASE_NF4, TUNED
from sm70lib.analysis.slices import FEWEST
from sm70lib.benchmarks.fields import LETTERS
from sm70lib.parameters import aggregates, own
from sm70lib.statistics import differences, stats, verdicts

PRIMARY, EXPLORATORY = "primary", "exploratory"  # families of comparisons


def comparisons(answers: pd.DataFrame, p, how: stats.How) -> pd.DataFrame:
    """Pairs of models on the same questions: difference, interval, p, detectable difference.

    `p` declares the primary family (`eval_primary_*`: tuned against its start). Its intervals are
    at Holm's level (`level_pct`), and `p_holm` is its adjusted p. All other rows are exploratory,
    each at the plain level. `reading` follows from the interval alone.

    Args:
        answers: rows of `frames.load`.
        p: the parameters of the study.
        how: level of the intervals, resamples and their seed.

    Returns:
        One row per pair of models, benchmark, protocol and shots; the primary family first.
    """
    places = _places(answers, p)
    primary = [place for place in places if place[0]["family"] == PRIMARY]
    others = [place for place in places if place[0]["family"] != PRIMARY]
    gaps = verdicts.family([_sides_at(place) for place in primary], how.level)
    gaps += [_gap(_sides_at(place), how.level) for place in others]
    rows = [names | _compared(part, names, gap, how) for (names, part), gap in zip(places, gaps)]
    measured = stats.Estimate(0, 0, 0, 0, "").row("difference_pts", "pts")
    columns = ["family", *SET, "before", "after", *measured]
    columns += ["level_pct", "test", "p", "p_holm", "detectable_pts", "reading"]
    return _adjusted(pd.DataFrame(rows, columns=columns), len(primary))


def _places(answers: pd.DataFrame, p) -> list[tuple[dict, pd.DataFrame]]:
    """What is compared: the first cells of each row, and the answers; the primary family first."""
    start = before(answers)
    declared = {"study": p.study, "protocol": p.eval_primary_protocol}
    declared |= {"shots": p.eval_primary_shots, "before": start, "after": TUNED}
    answers = _pooled(answers)
    places = []
    for first, second in dict.fromkeys([(start, TUNED), (BASE, TUNED), (BASE, BASE_NF4)]):
        for keys, part in paired(answers, first, second).groupby(SET):
            names = dict(zip(SET, keys)) | {"before": first, "after": second}
            primary = names["benchmark"] in own.titles(p.eval_primary_benchmarks) and all(
                names[key] == value for key, value in declared.items()
            )
            family = PRIMARY if primary else EXPLORATORY
            places.append(({"family": family} | names, part))
    return sorted(places, key=lambda place: place[0]["family"] != PRIMARY)


def _pooled(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers, and those of pooled aggregates; a mean over members has no paired test."""
    return frames.named(answers, aggregates.names(answers["benchmark"], [aggregates.POOLED]))


def _sides_at(place: tuple[dict, pd.DataFrame]) -> tuple | None:
    names, part = place
    return _sides(part, names["before"], names["after"])


def _sides(both: pd.DataFrame, a: str, b: str) -> tuple | None:
    """What a difference is computed from, one entry per item; None if most replies are unread."""
    if frames.unread(both, a, b):
        return None
    items = frames.by_item(both, ["correct_a", "correct_b"])
    return items["correct_a"], items["correct_b"], items["cluster"]


def _gap(sides: tuple | None, level: float) -> tuple[stats.Estimate, float] | None:
    """The difference of an exploratory pair, and the level of its bounds."""
    if sides is None:
        return None
    first, second, cluster = sides
    return differences.difference(first, second, cluster, level), level


def _compared(
    both: pd.DataFrame, names: dict, gap: tuple[stats.Estimate, float] | None, how: stats.How
) -> dict:
    """The cells of a comparison that follow its names.

    Args:
        both: `paired` answers.
        names: the first cells, of which `before` and `after` are needed.
        gap: the difference and the level of its bounds; None if most replies are unread.
        how: resamples of the test and their seed.

    Returns:
        All cells but `p_holm`; only n and the reason where there is no difference.
    """
    first, second = names["before"], names["after"]
    sides = _sides(both, first, second)
    if gap is None or sides is None:
        return {"n": both["item_id"].nunique(), "reading": frames.unread(both, first, second)}
    estimate, level = gap
    p_value, test = stats.paired_test(both["correct_a"], both["correct_b"], both["cluster"], how)
    correct_a, correct_b, cluster = sides
    detectable = stats.detectable(correct_a, correct_b, cluster, how._replace(level=level))
    return estimate.row("difference_pts", "pts") | {
        "level_pct": round(100 * level, 1),
        "test": test,
        "p": float(f"{p_value:.4g}"),
        "detectable_pts": round(100 * detectable, 1),
        "reading": reading(both, (first, "choice_a"), (second, "choice_b"), estimate),
    }


def _adjusted(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The table with `p_holm` in its first `count` rows, which are the primary family."""
    table["p_holm"] = table["p_holm"].astype(float)
    if count:
        # A declared test without a p still belongs to the family
        p_values = table.loc[: count - 1, "p"].fillna(1)
        table.loc[: count - 1, "p_holm"] = [float(f"{q:.4g}") for q in stats.holm(p_values)]
    table.loc[table["p"].isna(), "p_holm"] = float("nan")
    return table


def reading(
    both: pd.DataFrame, before: tuple[str, str], after: tuple[str, str], gap: stats.Estimate
) -> str:
    """The difference of two models in words; no verdict where one of them is constant.

    Args:
        both: answers of both models, one row for each item and seed.
        before: name of one model, and the column of `both` that has its choices.
        after: the same of the other model.
        gap: `after` minus `before`.
    """
    constant = []
    for name, choices in (before, after):
        if habit := frames.habit(both, choices):
            place, share, _ = habit
            constant.append(f"{name} chose {LETTERS[place]} in {share:.0%} of its answers")
    if constant:
        return f"no verdict: {'; '.join(constant)}"
    return in_words(gap, before[0], after[0])


def in_words(gap: stats.Estimate, a: str, b: str) -> str:
    """What a difference, `b` minus `a`, says by its bounds alone."""
    if gap.method.startswith(differences.NONE):
        return f"no verdict: {gap.method.removeprefix(differences.NONE)}"
    verdict = verdicts.judged(gap)
    if verdict == verdicts.OPEN:
        return f"not distinguishable at n={gap.n}"
    return f"{b if verdict == verdicts.SUPPORTED else a} higher"


def contamination_effect(answers: pd.DataFrame, how: stats.How) -> pd.DataFrame:
    """What leaked items are worth: tuning's gain on flagged questions minus clean ones, in points.

    Where most replies are unread, or fewer than FEWEST items leaked or did not, there is no gain,
    and `interval` says why.
    """
    columns = [*SET, "n_flagged", "gain_flagged_pts", "n_clean", "gain_clean_pts"]
    columns += ["n", "effect_pts", "low_pts", "high_pts", "interval"]
    both = paired(_pooled(answers), before(answers), TUNED)
    rows = []
    for keys, part in both.groupby(SET):
        if part["flagged"].nunique() == 2:  # else there is nothing to compare
            rows.append([*keys, *_effect(part, how)])
    return pd.DataFrame(rows, columns=columns)


def _effect(part: pd.DataFrame, how: stats.How) -> list:
    """The cells of `contamination_effect` from `n_flagged` on."""
    items = frames.by_item(part, ["correct_a", "correct_b"])
    leaked = int(items["flagged"].sum())
    why = frames.unread(part)
    if not why and leaked < FEWEST:
        why = f"fewer than {FEWEST} leaked items"
    if not why and len(items) - leaked < FEWEST:
        why = f"fewer than {FEWEST} clean items"
    if why:
        nan = float("nan")
        return [leaked, nan, len(items) - leaked, nan, len(items), nan, nan, nan, why]
    estimates = differences.gain_difference(
        items["correct_a"], items["correct_b"], items["cluster"], items["flagged"], how.level
    )
    flagged, clean, effect = (estimate.row("pts", "pts") for estimate in estimates)
    return [flagged["n"], flagged["pts"], clean["n"], clean["pts"], *effect.values()]
