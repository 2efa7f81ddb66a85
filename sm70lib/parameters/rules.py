"""Rules between the values of several parameters."""

import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from sm70lib.parameters import aggregates, launchers, own
from sm70lib.parameters.stages import IN_ROUNDS, STAGES
from sm70lib.parameters.tables import lines, names
from sm70lib.parameters.training_rules import OF_TRAINING
from sm70lib.untrusted.escaping import shortened

# Names that other models cannot have: those of a study's own models, and of columns beside models
TAKEN = re.compile(
    r"(base|base-nf4|tuned|benchmark|protocol|shots|n|cut|unread|slice|value|source)$|tuned-|merged-"
)
RESERVED = ("reference", "models", "hub")  # folders of outputs/ that are no studies
REHEARSAL = "rehearsal-"  # the names of rehearsed studies begin with this; no other name may
DEV = names("benchmarks/benchmarks.csv", use="dev")  # for choosing between models
PAIRS = tuple(
    line["name"] for line in lines("sources/sources.csv") if line["shape"].startswith("pair")
)


def _in_order(stages: list[str]) -> bool:
    order = list(STAGES)
    once = [kind for kind in stages if kind not in IN_ROUNDS]
    return stages == sorted(stages, key=order.index) and len(set(once)) == len(once)


def _all_asked(asked: list[str], primary: list[str]) -> bool:
    """Whether all primary benchmarks are asked; an aggregate stands for all its members."""
    return set(primary) <= aggregates.complete(asked)


def _source_for_each_round(
    kind: str, of: dict[str, int], kinds: list[str], names: list[str]
) -> bool:
    """Whether every round of a kind has a source; one that `of` does not name is in each round."""
    rounds = range(1, kinds.count(kind) + 1)
    return all(any(of.get(name, turn) == turn for name in names) for turn in rounds)


def _no_test_items_for_a_grid(asked: list[str], study: str) -> bool:
    if not study.removeprefix(REHEARSAL).startswith("grid"):
        return True
    return set(asked) <= set(DEV)


def _parts_exist(parts: dict[str, str]) -> bool:
    """Whether no part has a higher number than there are parts."""
    numbers = [[int(number) for number in part.split("/")] for part in parts.values()]
    return all(number <= count for number, count in numbers)


def _rehearsals_apart(others: list[str], study: str) -> bool:
    """Whether only a rehearsal names rehearsals to be drawn beside it."""
    return study.startswith(REHEARSAL) or not any(name.startswith(REHEARSAL) for name in others)


def _some_model(
    own: list[str], others: dict, quantised: str, stages: list[str], seeds: list[int], into: list
) -> bool:
    """Whether 04 has a model to score: one of the study's own that is there, or another one."""
    several = len(stages) * len(seeds) > 1
    there = {"base-nf4": quantised != "none", "stages": several, "merged": bool(into)}
    return bool(others) or any(there.get(kind, True) for kind in own)


def _read(given: dict[str, Any], sources: list[str]) -> bool:
    """Whether every source of a mapping is one that the study tunes on."""
    return set(given) <= set(sources)


# Each rule: parameters, a test of their values, and what the error says between the first two.
RULES: tuple[tuple[str, Callable[..., Any], str], ...] = (
    (
        "study",
        lambda name: name not in RESERVED,
        "is a folder of committed results, of models or of the hub's files; choose another name",
    ),
    (
        "base_hidden_size base_heads",
        lambda width, heads: width % (2 * heads) == 0,
        "is not a multiple of twice",
    ),
    (
        "world_guidelines",
        lambda conditions: conditions != 1,
        "leaves no other condition to exchange facts with; give 0 or at least 2",
    ),
    ("base_heads base_kv_heads", lambda heads, shared: heads % shared == 0, "is not a multiple of"),
    ("base_context base_length", lambda context, length: context >= length, "is less than"),
    (
        "base_context data_max_length base_model",
        lambda n, rows, model: model or n >= rows,
        "is less than",
    ),
    (
        "base_text base_model",
        lambda text, model: text or model,
        "names no source to pretrain on, with",
    ),
    (
        "data_parts",
        _parts_exist,
        "names a part with a higher number than there are parts; 1/2 and 2/2 are the two halves",
    ),
    *(
        (f"{name} data_sources", _read, "names a source that is not in")
        for name in ("data_parts", "data_leaks", "data_repeats", "data_holdout_documents")
    ),
    (
        "data_leaks eval_benchmarks",
        lambda held, asked: set(held.values()) <= set(asked),
        "names a benchmark that is not in",
    ),
    (
        "eval_caps eval_benchmarks",
        lambda caps, asked: set(caps) <= set(asked),
        "names a benchmark that is not in",
    ),
    (
        "train_stages",
        _in_order,
        f"is not in the order {', '.join(STAGES)}, of which only {' and '.join(IN_ROUNDS)} may be "
        "repeated",
    ),
    *(
        (
            f"train_stages {kind}_sources",
            lambda kinds, names, kind=kind: kind not in kinds or names,
            f"has a stage {kind}, and there is nothing in",
        )
        for kind in STAGES
        if STAGES[kind].reads != "rows"
    ),
    (
        "cpt_mix cpt_sources train_stages",
        lambda mix, names, kinds: "cpt" not in kinds or not mix or set(mix) == set(names),
        "does not name every source of",
    ),
    *(
        (
            f"{kind}_sources",
            lambda names: all(own.is_file(name) or name in PAIRS for name in names),
            "names a source that holds no pairs of answers; allowed are "
            f"{', '.join(PAIRS)}, and files of your own, by path",
        )
        for kind in STAGES
        if STAGES[kind].reads == "pairs"
    ),
    *(
        (
            f"{kind}_rounds train_stages",
            lambda of, kinds, kind=kind: max(of.values(), default=0) <= kinds.count(kind),
            "goes beyond",
        )
        for kind in IN_ROUNDS
    ),
    *(
        (
            f"{kind}_round_steps train_stages",
            lambda lengths, kinds, kind=kind: len(lengths) in (0, kinds.count(kind)),
            f"has to be empty or to give a length for each {kind} of",
        )
        for kind in IN_ROUNDS
    ),
    *(
        (
            f"{kind}_rounds train_stages {kind}_sources",
            partial(_source_for_each_round, kind),
            f"leaves a round of {kind} without a source, with",
        )
        for kind in IN_ROUNDS
    ),
    *(
        (
            f"{kind}_batch_size train_micro_batch_size",
            lambda batch, micro: batch % micro == 0,
            "is not a multiple of",
        )
        for kind in STAGES
    ),
    *(
        (
            f"{kind}_batch_size train_micro_batch_size train_launcher",
            lambda batch, micro, launcher: batch % (micro * launchers.processes(launcher)) == 0,
            "cannot be shared out evenly among the processes of train_launcher, with",
        )
        for kind in STAGES
    ),
    *OF_TRAINING,
    (
        "train_report_to",
        lambda tracker: tracker == "none" or find_spec(tracker) is not None,
        "is not installed here: pip install it, or give none",
    ),
    (
        "eval_own eval_models quant_type train_stages train_seeds train_merge",
        _some_model,
        "names no model that this study has (base-nf4 needs quant_type nf4, stages a second stage "
        "or seed, merged a train_merge); add base or tuned to it, or a model to",
    ),
    (
        "eval_models",
        lambda given: not any(map(TAKEN.match, given)),
        "takes a name of the study's own models (base, base-nf4, tuned, tuned-..., merged-...) or "
        "of a column of tables (benchmark, n, ...); give it another one",
    ),
    (
        "eval_protocols eval_judges",
        lambda asked, judges: "rubric" not in asked or judges,
        "has rubric, whose replies judges read, and there is none in",
    ),
    ("eval_protocols eval_primary_protocol", lambda asked, primary: primary in asked, "lacks"),
    ("eval_shots eval_primary_shots", lambda asked, primary: primary in asked, "lacks"),
    ("eval_benchmarks eval_primary_benchmarks", _all_asked, "lacks some of"),
    (
        "eval_benchmarks study",
        _no_test_items_for_a_grid,
        f"holds test items, on which no grid may choose; give only {' and '.join(DEV)} to",
    ),
    (
        "figures_studies study",
        _rehearsals_apart,
        "names a rehearsal, whose numbers mean nothing; take it out of",
    ),
    ("figures_studies study", lambda others, study: study not in others, "contains"),
)


def contradiction(values: dict[str, Any]) -> str | None:
    """Describes the first rule that does not hold; None if all hold.

    A rule is skipped if a notebook does not declare one of its parameters.
    """
    for rule, holds, relation in RULES:
        names = rule.split()
        if not set(names) <= values.keys():
            continue
        if holds(*(values[name] for name in names)):
            continue
        first, *second = [f"{name} {shortened(values[name])}" for name in names[:2]]
        return " ".join([first, relation, *second])
    return None
