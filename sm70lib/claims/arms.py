"""Judges of what two arms of one study differ in: this study's tuned model, and another study's.

The arms were trained on different rows, and answered the same items or read the same documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from sm70lib.analysis import frames
from sm70lib.analysis.roles import TUNED
from sm70lib.claims.case import EXPLORATORY, JUDGED, OURS, UNTESTED, Row, Study, bare
from sm70lib.claims.entries import Claim
from sm70lib.measures import losses, preferences, refusals, rights
from sm70lib.parameters.rules import REHEARSAL
from sm70lib.protocols.replies import NO_SCORE
from sm70lib.statistics import means, verdicts
from sm70lib.statistics.differences import NONE
from sm70lib.statistics.stats import Estimate

NATS, POINTS = "nats", "points"
SPARED = "loss spared"  # a measure: by how much this arm's loss on documents is lower
BEFORE = "before"  # in place of another arm: the model that this arm's training started from
SAME = ["benchmark", "item_id", "seed", "sample"]  # an answer of both arms to the same prompt


def arms(claim: Claim, study: Study) -> list[Row]:
    """The declared family of differences between two arms, by bounds at Holm's level.

    Arguments: other (the study of the other arm), parts. Each part has `what`, `measure` (a name in
    MEASURES, or SPARED), `benchmarks`, `protocol`, and `over`, the value to exceed (nats or
    points). With `than` it is about another arm than `other`, or about the model BEFORE. `beside`
    has parts that are shown and decide nothing.
    """
    wanted = claim.arguments
    if named(study.others, wanted["other"]) is None:
        needs = f"it has no other arm ({wanted['other']} in figures_studies)"
        return [bare(claim, UNTESTED, needs)]
    parts = [{"than": wanted["other"]} | part for part in wanted["parts"]]
    found = [_bounds(study, part) for part in parts]
    family = [
        None if bounds is None else (bounds, _shares(part, part["over"]))
        for bounds, part in zip(found, parts)
    ]
    rows = []
    for part, result in zip(parts, verdicts.holm(family, study.level)):
        rows.append(_row(claim, part, result))
        if part["measure"] == "leak":  # easier to read
            what = f"{part['what']}, in accuracy"
            shown = part | {"measure": "leak-accuracy", "over": 0, "what": what}
            rows.append(_beside(claim, study, shown))
    for part in wanted.get("beside", []):
        rows.append(_beside(claim, study, {"than": wanted["other"]} | part))
    return rows


def between(study: Study, name: str, benchmark: str, protocol: str) -> Estimate | None:
    """Share of requests refused, this arm minus that of study `name`; None if it was not asked."""
    part = {"benchmarks": [benchmark], "protocol": protocol, "measure": "refusals", "than": name}
    bounds = _bounds(study, part)
    return None if bounds is None else bounds(study.level)


def documents(claim: Claim, study: Study) -> list[Row]:
    """How far tuning lowers the loss on documents that were held back, by t over documents.

    Arguments: by (nats per token that the loss must fall by).
    """
    by = claim.arguments["by"]
    what = claim.claim.format(**claim.arguments)
    paths = sorted(study.folder.glob("stages/*-sft/holdout.csv"))
    if not paths:
        needs = "it held no documents back (data_holdout_documents)"
        return [bare(claim, UNTESTED, needs) | {"claim": what}]
    rows = pd.read_csv(paths[-1])
    sums = rows.groupby("document")[["targets", "loss_before", "loss_after"]].sum()
    change = (sums["loss_after"] - sums["loss_before"]) / sums["targets"]
    estimate = means.mean(change, sums.index, study.level)
    part = {"what": what, "over": -by, "measure": "loss", "benchmarks": ["held-out rows"]}
    row = _row(claim, part | {"protocol": "loss"}, (estimate, study.level), sign=-1)
    before, after = (sums[name].sum() / sums["targets"].sum() for name in sums.columns[1:])
    row["why"] = f"{before:.3f} before and {after:.3f} after, per token; {row['why']}"
    return [row]


def named(others: Iterable[str], name: str) -> str | None:
    """The first of the other studies that is the study of that name, or a variant of it."""
    for other in others:
        declared = other.removeprefix(REHEARSAL)
        if declared == name or declared.startswith(f"{name}-"):
            return other
    return None


def _answers(study: Study, than: str) -> pd.DataFrame | None:
    """The answers of another arm's tuned model, or of the model BEFORE as if it were one."""
    if than == BEFORE:
        rows = study.answers.rows
        return rows[rows["model"] == study.before].assign(model=TUNED)
    other = named(study.others, than)
    return None if other is None else study.others[other]


def _spared(study: Study, part: dict) -> verdicts.Bounds | None:
    """How much lower this arm's loss on documents is, by t over documents; None if not measured."""
    than, model = study.folder.name, study.before
    if part["than"] != BEFORE:
        than, model = named(study.others, part["than"]) or "", TUNED
    mine = losses.by_document(study.folder)
    theirs = losses.by_document(study.folder.parent / than) if than else mine[:0]
    mine, theirs = mine[mine["model"] == TUNED], theirs[theirs["model"] == model]
    gap = losses.loss_reduction(mine, theirs, part["benchmarks"][0])
    return (lambda level: means.mean(gap, gap.index, level)) if len(gap) else None


def _pair(study: Study, other: pd.DataFrame, part: dict, benchmark: str) -> pd.DataFrame:
    """The answers of both arms to the same items; the columns of the other arm end in _b."""
    asked = []
    for answers in (study.answers.rows, other):
        own = answers[(answers["model"] == TUNED) & (answers["benchmark"] == benchmark)]
        own = own[(own["protocol"] == part["protocol"]) & (own["shots"] == 0)]
        asked.append(own.assign(held=seen_in_training(own, study.folder.parent)))
    columns = ["choice", "correct", "loglikelihoods", "flagged", "held"]
    return asked[0].merge(asked[1][[*SAME, *columns]], on=SAME, suffixes=("", "_b"))


def seen_in_training(answers: pd.DataFrame, outputs: Path) -> list[bool]:
    """Whether a row that the arm was tuned on holds the item: one that was found and not dropped.

    The frame's own `flagged` also counts rows that were dropped, such as those too long.

    Args:
        answers: those of one arm.
        outputs: the folder of all studies.
    """
    if answers.empty:
        return []
    data = outputs / answers["study"].iloc[0] / "data"
    files = data / "contaminated_items.csv", data / "defects.csv"
    items = _items_held(*files, tuple(file.stat().st_mtime_ns for file in files))
    return [key in items for key in zip(answers["benchmark"], answers["item_id"])]


@lru_cache(maxsize=8)
def _items_held(found: Path, faults: Path, times: tuple[int, ...]) -> set[tuple[str, str]]:
    """Benchmark and id of the items that were seen; `times` are when both files last changed."""
    hits, defects = (pd.read_csv(path, dtype=str) for path in (found, faults))
    dropped = defects[defects["dropped"] == "True"]
    gone = set(zip(dropped["file"], dropped["row"]))
    kept = [place not in gone for place in zip(hits["file"], hits["row"])]
    return set(zip(hits["benchmark"][kept], hits["item_id"][kept]))


def _bounds(study: Study, part: dict) -> verdicts.Bounds | None:
    """The estimate of a part by the level of its bounds; None if an arm was not asked."""
    if part["measure"] == SPARED:
        return _spared(study, part)
    other = _answers(study, part["than"])
    if other is None:
        return None
    pairs = [_pair(study, other, part, name) for name in part["benchmarks"]]
    if any(pair.empty for pair in pairs):
        return None
    return MEASURES[part["measure"]](pairs)


def _leak(pairs: list[pd.DataFrame], of: Callable) -> verdicts.Bounds | None:
    """The crossover: what an item is worth to the arm that was tuned on it."""
    pair = pd.concat(pairs)
    pair = pair.assign(gap=of(pair, "") - of(pair, "_b"))
    items = frames.by_item(pair, ["gap"])
    mine = items[items["held"] & ~items["held_b"]]
    theirs = items[items["held_b"] & ~items["held"]]
    if mine.empty or theirs.empty:
        return None
    values = mine["gap"], theirs["gap"], mine["cluster"], theirs["cluster"]
    return lambda level: means.crossover(*values, level=level)


def _log_share(pair: pd.DataFrame, side: str) -> np.ndarray:
    """The logarithm of the share of probability that the right option has among the options."""
    scores, gold = pair[f"loglikelihoods{side}"].tolist(), pair["gold"].to_numpy()
    found: np.ndarray = np.empty(len(scores))
    for size in {*map(len, scores)}:  # together: one call for each answer takes 20 microseconds
        places = [place for place, options in enumerate(scores) if len(options) == size]
        shares = log_softmax(np.array([scores[place] for place in places], float), axis=1)
        found[places] = shares[np.arange(len(places)), gold[places]]
    return found


def _right(pair: pd.DataFrame, side: str) -> np.ndarray:
    return pair[f"correct{side}"].to_numpy(float)


MEASURES: dict[str, Callable[[list[pd.DataFrame]], verdicts.Bounds | None]] = {
    "leak": partial(_leak, of=_log_share),
    "leak-accuracy": partial(_leak, of=_right),
    "accuracy": rights.more_often,
    "refusals": refusals.more_often,
    "fall of refusals": refusals.less_often,
    "preference at like length": preferences.more_often_at_like_length,
    "preference over the shorter": preferences.over_the_shorter,
    "J": refusals.youden,
}
IN_NATS = ("leak", "loss", SPARED)


def _shares(part: dict, value: float) -> float:
    """A value that is given in nats or points, as estimates have it."""
    return value if part["measure"] in IN_NATS else value / 100


def _beside(claim: Claim, study: Study, part: dict) -> Row:
    """A row on a part that decides nothing."""
    bounds = _bounds(study, part)
    result = None if bounds is None else (bounds(study.level), study.level)
    row = _row(claim, part, result)
    return row | {"verdict": EXPLORATORY if row["verdict"] in JUDGED else row["verdict"]}


def _row(claim: Claim, part: dict, result: tuple[Estimate, float] | None, sign: int = 1) -> Row:
    """A row of the scorecard; in nats with three decimals, or in points with one."""
    asked = f"{' and '.join(part['benchmarks'])} under {part['protocol']}"
    row = bare(claim, UNTESTED, f"both arms did not answer {asked}", OURS)
    row |= {"claim": part["what"], "benchmark": " + ".join(part["benchmarks"]), "subset": "all"}
    row |= {"protocol": part["protocol"], "shots": 0, "reference": part["over"]}
    nats = part["measure"] in IN_NATS
    row["measure"] = f"{part['measure']} ({NATS if nats else POINTS})"
    if result is None:
        return row
    estimate, level = result
    row["n"] = estimate.n
    if unread := refusals.unread(estimate):
        return row | {"verdict": NO_SCORE, "why": unread}
    scale, digits = (1, 3) if nats else (100, 1)
    numbers = [round(scale * value, digits) + 0.0 for value in estimate[:3]]
    row |= {"ours": numbers[0], "low": numbers[1], "high": numbers[2]}
    why = f"bounds at {100 * level:.1f} %, {estimate.method}"
    if estimate.method.startswith(NONE):
        why = estimate.method.removeprefix(NONE)
    return row | {
        "verdict": verdicts.judged(estimate, _shares(part, part["over"]), sign),
        "why": why,
    }
