"""One sentence on what a study repeats: paper, base, rows and protocol."""

from __future__ import annotations

import re

import pandas as pd

from sm70lib.claims import entries
from sm70lib.corpus.selection import HELD
from sm70lib.parameters.stages import STAGES
from sm70lib.presentation import names
from sm70lib.reporting.made import Made


def sentence(made: Made) -> str:
    """What was done, from the study's manifest and files; "" without a manifest."""
    if not made.parameters:
        return ""
    return f"{_paper(made)}: {made.base_in_words()} {_training(made)}{_asked(made)}."


def paper(study: str) -> str:
    """The paper whose recipe a study follows, with its number on arXiv."""
    family = entries.held_against(study)
    family = family if family in entries.PAPERS else entries.FIRST
    sources = [claim.source for claim in entries.catalogue() if claim.study == family]
    numbers = [found[0] for found in map(re.compile(r"arXiv [\d.]+\d").search, sources) if found]
    name = entries.PAPERS[family]
    return f"{name} ({numbers[0]})" if numbers else name


def sources(made: Made) -> pd.DataFrame:
    """What the audit counted in each source that the study trains on.

    Documents that are held back are left out: nothing is trained on them, and their source has a
    row of its own if it is trained on too.

    Args:
        made: the study.

    Returns:
        The rows of `data/sources.csv`; empty if there is no such file.
    """
    path = made.folder / "data/sources.csv"
    if not path.exists():
        return pd.DataFrame({"source": [], "rows": [], "kept": []})
    table = pd.read_csv(path)
    return table[~table["source"].str.endswith(f"({HELD})")]


def _paper(made: Made) -> str:
    name = paper(made.name)
    if made.invented:
        return f"The recipe of {name} in an invented medicine"
    if made.name.startswith(entries.SMALL):
        return f"The recipe of {name} on a small model"
    return f"A reproduction of {name}"


def _training(made: Made) -> str:
    """How the base was trained, and on what."""
    p = made.parameters
    kinds = list(dict.fromkeys(p.get("train_stages", ())))
    done = names.listed([STAGES[kind].words.done for kind in kinds])
    return f"was {done or 'not trained'} {_method(p)}{_rows(made)}"


def _method(p: dict) -> str:
    if p.get("train_parameters") == "full":
        return "in all its weights"
    method = "LoRA" if p.get("quant_type") == "none" else "QLoRA (base in NF4)"
    return f"by {method}, rank {p.get('lora_r')}"


def _rows(made: Made) -> str:
    kept = sources(made)["kept"]
    if kept.empty:
        return ""
    return f", on {kept.sum():,} rows of {(kept > 0).sum()} sources"


def _asked(made: Made) -> str:
    """The declared comparison and its protocol, or else every benchmark that was asked."""
    p = made.parameters
    declared = p.get("eval_primary_benchmarks", ())
    asked = declared or p.get("eval_benchmarks", ())
    if not asked:
        return ""
    benchmarks = names.listed([names.benchmark(name) for name in asked])
    if made.invented:
        benchmarks = f"invented twins of {benchmarks}"
    if not declared:
        return f", and asked {benchmarks}"
    way = f"{p.get('eval_primary_protocol')}, {p.get('eval_primary_shots')}-shot"
    return f", and asked {benchmarks} (protocol {way})"
