"""What is scored: benchmarks under protocols with shots, and where these come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sm70lib import benchmarks, protocols
from sm70lib.benchmarks import Item
from sm70lib.protocols.protocol import Protocol
from sm70lib.study.params import StudyError


@dataclass(frozen=True, eq=False)
class Run:
    """One thing to score: a benchmark under a protocol with some shots, and where these come from.

    `template` is the study's (`data_template`): protocols that let the model write ask in it.
    """

    benchmark: str
    protocol: Protocol
    shots: int
    items: list[Item]
    pool: list[Item]
    template: str = ""

    @property
    def name(self) -> str:
        """The stem of its prediction files."""
        return f"{self.benchmark}-{self.protocol.name}-{self.shots}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The protocol's seeds where they change something: shots, or TruthfulQA's order of options."""
        return (
            self.protocol.seeds
            if self.shots or self.benchmark == "truthfulqa"
            else self.protocol.seeds[:1]
        )


def runs(p, folder: Path) -> list[Run]:
    """Everything the study asks: each benchmark (read from `folder`) under each protocol that covers it.

    `eval_limit` counts scored items: those that a protocol keeps and does not take as shots.
    Raises StudyError for a benchmark that none of the protocols covers.
    """
    found = []
    for benchmark in p.eval_benchmarks:
        items = benchmarks.load(folder, benchmark)
        asked = [
            _run(p, benchmark, protocol, shots, items, folder)
            for protocol in map(protocols.named, p.eval_protocols)
            for shots in p.eval_shots
            if protocol.covers(benchmarks.form(benchmark), shots)
        ]
        asked = [
            run for run in asked if run.items
        ]  # meditron's part of TruthfulQA may not be there
        if not asked:
            raise StudyError(
                f"eval_benchmarks: none of {', '.join(p.eval_protocols)} covers {benchmark} with "
                f"{p.eval_shots} shots; add a protocol that does to eval_protocols, or take it out"
            )
        found += asked
    return found


def _run(p, benchmark: str, protocol: Protocol, shots: int, items: list[Item], folder: Path) -> Run:
    """One run; a benchmark without a pool gives its first items as shots, and these are not scored.

    Items of a dev set are asked as those of its test (`benchmarks.form`), and so bear its name here.
    """
    form, source = benchmarks.form(benchmark), _lender(protocol, benchmark)
    items, own = protocol.parted(form, [replace(item, benchmark=form) for item in items])
    lent = benchmarks.load(folder, f"{source}.pool") if shots and source and not own else []
    pool = own or [replace(item, benchmark=benchmarks.form(item.benchmark)) for item in lent]
    pool = pool if shots else []
    if shots and not pool and not protocol.shots_from_test:
        pool, items = items[:shots], items[shots:]
    return Run(benchmark, protocol, shots, items[: p.eval_limit], pool, p.data_template)


def _lender(protocol: Protocol, benchmark: str) -> str:
    """The benchmark whose pool shots come from, "" for the scored items themselves.

    A dev set has a pool of its own or none, since that of its test may hold the very items of dev.
    """
    asked = benchmarks.form(benchmark)
    lender = protocol.pools.get(asked, asked)
    return benchmark if lender and asked != benchmark else lender
