"""Rules between the values of several parameters."""

import re
from collections.abc import Callable
from typing import Any

from sm70lib.study.tables import names

REHEARSAL = "rehearsal-"  # the names of rehearsed studies begin with this; no other name may
USMLE = {"usmle_step1", "usmle_step2", "usmle_step3"}
DEV = names("benchmarks/benchmarks.csv", use="dev")  # for choosing between models


def _in_order(stages: list[str]) -> bool:
    initials = "".join(kind[0] for kind in stages)
    return re.fullmatch("c?s?d*", initials) is not None


def _all_asked(asked: list[str], primary: list[str]) -> bool:
    """Whether all primary benchmarks are asked; `usmle` stands for the three steps."""
    complete = set(asked)
    if USMLE <= complete:
        complete.add("usmle")
    return set(primary) <= complete


def _no_test_items_for_a_grid(asked: list[str], study: str) -> bool:
    if not study.removeprefix(REHEARSAL).startswith("grid"):
        return True
    return set(asked) <= set(DEV)


# Each rule: parameters, a test of their values, and what the error says between the first two.
RULES: tuple[tuple[str, Callable[..., Any], str], ...] = (
    (
        "study",
        lambda name: name != "reference",
        "is the folder of the committed results; choose another",
    ),
    (
        "base_hidden_size base_heads",
        lambda width, heads: width % (2 * heads) == 0,
        "is no even multiple of",
    ),
    ("base_heads base_kv_heads", lambda heads, shared: heads % shared == 0, "is no multiple of"),
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
        "train_stages",
        _in_order,
        "is not in the order cpt, sft, dpo, of which only dpo may be repeated",
    ),
    (
        "train_stages cpt_sources",
        lambda kinds, names: "cpt" not in kinds or names,
        "has a stage cpt, and there is nothing in",
    ),
    (
        "train_stages dpo_sources",
        lambda kinds, names: "dpo" not in kinds or names,
        "has a stage dpo, and there is nothing in",
    ),
    (
        "dpo_rounds train_stages",
        lambda of, kinds: max(of.values(), default=0) <= kinds.count("dpo"),
        "goes beyond",
    ),
    (
        "sft_batch_size train_micro_batch_size",
        lambda batch, micro: batch % micro == 0,
        "is no multiple of",
    ),
    ("eval_protocols eval_primary_protocol", lambda asked, primary: primary in asked, "lacks"),
    ("eval_shots eval_primary_shots", lambda asked, primary: primary in asked, "lacks"),
    (
        "eval_benchmarks eval_primary_benchmarks",
        _all_asked,
        "lacks some of",
    ),
    (
        "eval_benchmarks study",
        _no_test_items_for_a_grid,
        f"holds test items, on which no grid may choose; give only {' and '.join(DEV)} to",
    ),
    (
        "figures_studies",
        lambda others: not any(other.startswith(REHEARSAL) for other in others),
        "names a rehearsal, whose numbers mean nothing; take it out",
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
        first, *second = [f"{name} {values[name]}" for name in names[:2]]
        return " ".join([first, relation, *second])
    return None
