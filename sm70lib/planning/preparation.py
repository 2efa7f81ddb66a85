"""How long 01 takes to prepare running text, at the speed that was measured."""

from __future__ import annotations

import json

from sm70lib.parameters.stages import STAGES, steps_of
from sm70lib.study.params import ROOT

MEASURED = ROOT / "outputs/reference/benchmarks/text.json"
CORES = (2, 16, 64)
NEAR = "one core with near-duplicates over without"  # the measurement of what they cost
LEAST = 10**9  # tokens; less is prepared while one looks on


def hours(p) -> list[str]:
    """A line with the hours on some numbers of cores; none for a study that reads little text.

    Training reads at most so many tokens; a source from which rows are left out takes longer.
    """
    tokens = sum(
        steps_of(p, number) * getattr(p, f"{kind}_batch_size") * p.data_max_length
        for number, kind in enumerate(p.train_stages, 1)
        if STAGES[kind].reads == "text"
    )
    if tokens < LEAST or not MEASURED.exists():
        return []
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    rate, also = measured[0]["theirs"], ""  # of one core
    if getattr(p, "cpt_near_duplicates", "none") != "none":
        also = ", near-duplicates not counted"
        for row in measured:
            if row["name"].endswith(NEAR):
                rate, also = round(rate * row["ratio"]), " with near-duplicates"
    listed = ", ".join(f"{tokens / rate / cores / 3600:,.1f} on {cores}" for cores in CORES)
    return [
        f"01, hours for {tokens / 1e9:.1f} billion tokens of running text, by cores: {listed}"
        f"{also}; at {rate:,} tokens a second and core, as measured ({MEASURED.relative_to(ROOT)})"
    ]
