"""Which answers a row of a table is about, and which of these a column counts."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from sm70lib.analysis import accuracies, frames
from sm70lib.analysis.frames import OUTCOMES, RUN, SET
from sm70lib.analysis.roles import TUNED
from sm70lib.analysis.slices import SLICES
from sm70lib.benchmarks.preferences import like_length
from sm70lib.mistakes import rules
from sm70lib.mistakes.by_rule import TWO_WAYS
from sm70lib.mistakes.coverage import by_confidence, surest
from sm70lib.study.params import StudyError

COUNTED = {outcome: pair for pair, outcome in OUTCOMES.items()}
COUNTED |= {name: COUNTED[outcome] for outcome, name in TWO_WAYS.items()}
PLAIN = (*RUN, "item_id", "kind", "seed", "sample")  # columns of the answers themselves
# Columns of tables that choose answers: `narrowed` knows how
CHOOSING = {*PLAIN, "subset", "slice", "value", "bin", "rule", "coverage_pct", "outcome"}
CHOOSING |= {"before", "after", "protocol_a", "protocol_b"}
# Columns that hold a number of the answers that the others chose, or say something about them
SAYING = {*COUNTED, "n", "correct", "wrong", "unparsed", "interval", "flagged", "confidence"}
SAYING |= {"acc_pct", "low_pct", "high_pct", "bound_low_pct", "bound_high_pct", "acc_norm_pct"}
SAYING |= {"best_constant_pct", "commonest_pct", "right_rank", "seeds", "spread_pts", "mass_pct"}
SAYING |= {"family", "difference_pts", "low_pts", "high_pts", "level_pct", "test", "p", "p_holm"}
SAYING |= {"detectable_pts", "reading", "n_flagged", "gain_flagged_pts", "n_clean"}
SAYING |= {"gain_clean_pts", "effect_pts", "n_else", "wrong_else", "else_pct", "else_low_pct"}
SAYING |= {"else_high_pct", "chosen", "right", "rules", "read_a", "read_b", "favourite"}
SAYING |= {"favourite_chosen_pct", "favourite_gold_pct", "chosen_length", "gold_length"}
SAYING |= {"agree_pct", "margin", "brier", "ece_pts", "confidence_pct", "confidence_b"}
SAYING |= {"question", "gold", "shorter_pct", "n_alike", "acc_alike_pct", "shorter_alike_pct"}
SAYING |= {"margin_nats"}
# Columns that say which answers their whole table leaves out: those without a value in another one
WITHOUT = {"favourite": "choice", "ece_pts": "confidence"}


def _alike(answers: pd.DataFrame) -> pd.Series:
    return pd.Series([like_length(item) for item in answers["item"]], answers.index)


# Columns that count only some of the answers that their row is about
PARTS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "correct": lambda answers: answers["correct"].astype(bool),
    "wrong": lambda answers: ~answers["correct"].astype(bool),
    "wrong_else": lambda answers: ~answers["correct"].astype(bool),
    "unparsed": lambda answers: answers["choice"].isna(),
    "n_flagged": lambda answers: answers["flagged"],
    "gain_flagged_pts": lambda answers: answers["flagged"],
    "n_clean": lambda answers: ~answers["flagged"],
    "gain_clean_pts": lambda answers: ~answers["flagged"],
    "n_alike": _alike,
    "acc_alike_pct": _alike,
    "shorter_alike_pct": _alike,
}


def check(cells: dict[str, str], where: str) -> None:
    """Refuses a row that may be about fewer answers than `narrowed` would find.

    Args:
        cells: the row.
        where: its table, row and column, as an error names them.

    Raises:
        StudyError: a column, a slice or a rule is not known here.
    """
    strange = [name for name in cells if name not in CHOOSING | SAYING]
    if strange:
        raise StudyError(
            f"{where}: it is not known here which answers {', '.join(strange)} of this table "
            "chooses, so this row cannot be traced."
        )
    known = {"slice": SLICES, "rule": [rule.name for rule in rules.RULES]}
    for name, values in known.items():
        if cells.get(name) and cells[name] not in values:
            raise StudyError(f"{where}: there is no {name} {cells[name]!r} any more.")


def narrowed(answers: pd.DataFrame, cells: dict[str, str], column: str) -> pd.DataFrame:
    """The answers that a row is about, and of these the ones that the column counts.

    Args:
        answers: answers as `trace.answers_of` gives them.
        cells: the row, of which `check` knows all columns.
        column: name of the column.
    """
    for name in PLAIN:
        if cells.get(name) and not (name == "kind" and cells[name] == "all"):
            answers = answers[answers[name].astype(str) == _model(name, cells[name])]
    answers = of_subset(answers, cells.get("subset") or _cleaned(cells))
    if cells.get("slice"):
        answers = answers[answers[cells["slice"]].astype(str) == cells["value"]]
    if cells.get("bin"):
        tenth = (10 * answers["confidence"]).fillna(-1).astype(int).clip(upper=9)
        answers = answers[tenth.astype(str) == cells["bin"]]
    answers = answers.dropna(subset=[value for name, value in WITHOUT.items() if name in cells])
    if cells.get("coverage_pct"):
        answers = surest(by_confidence(answers), int(cells["coverage_pct"]))
    if cells.get("rule"):
        held = rules.marks(answers)[cells["rule"]] if len(answers) else answers["correct"]
        answers = answers[~held if "else" in column else held]
    if "protocol_a" in cells:
        answers = _two_protocols(answers, cells, column)
    elif "model" not in cells:
        answers = _two_models(answers, cells, column)
    return answers[PARTS[column](answers)] if column in PARTS and len(answers) else answers


def _model(name: str, value: str) -> str:
    """A cell, without what tables add to the name of a model."""
    return TUNED if name == "model" and value == accuracies.CLEANED else value


def _cleaned(cells: dict[str, str]) -> str:
    return "clean" if cells.get("model") == accuracies.CLEANED else "all"


def of_subset(answers: pd.DataFrame, subset: str) -> pd.DataFrame:
    """The answers of a subset: all, clean (without what the audit flagged), or a kind of item."""
    if subset == "all":
        return answers
    if subset == "clean":
        return answers[~answers["flagged"]]
    return answers[answers["kind"] == subset]


def _two_models(answers: pd.DataFrame, cells: dict[str, str], column: str) -> pd.DataFrame:
    """The answers of both models of a comparison to the items that both answered."""
    told = {} if "outcome" in cells else cells  # beside an outcome, before and after are texts
    first = told.get("before") or frames.before(answers)
    second = told.get("after") or TUNED
    both = frames.paired(answers, first, second)
    outcome = column if column in COUNTED else cells.get("outcome")
    if outcome:
        both = both[both["outcome"] == outcome]
    keys = [*SET, "item_id", "seed", "sample"]
    sides = answers[answers["model"].isin([first, second])]
    return sides.merge(both[keys].drop_duplicates(), on=keys)


def _two_protocols(answers: pd.DataFrame, cells: dict[str, str], column: str) -> pd.DataFrame:
    """The answers to the items that were asked by both protocols."""
    once = answers.drop_duplicates(["protocol", "item_id"])
    sides = [once[once["protocol"] == cells[name]] for name in ("protocol_a", "protocol_b")]
    both = sides[0].merge(sides[1], on="item_id", suffixes=("_a", "_b"))
    if column in COUNTED:
        pairs = zip(both["correct_a"].astype(bool), both["correct_b"].astype(bool))
        both = both[[pair == COUNTED[column] for pair in pairs]]
    return pd.concat([side[side["item_id"].isin(both["item_id"])] for side in sides])
