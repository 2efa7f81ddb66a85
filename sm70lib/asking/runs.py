"""What is scored: each benchmark under a protocol, with its shots."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sm70lib import benchmarks, protocols
from sm70lib.benchmarks import Item
from sm70lib.parameters import own
from sm70lib.protocols.protocol import Protocol
from sm70lib.study.params import StudyError


@dataclass(frozen=True, eq=False)
class Run:
    """One thing to score: a benchmark under a protocol with some number of shots.

    `items` are scored, and `pool` are the items that shots come from (none: the scored items).
    `template` is the study's `data_template`; protocols with `in_template` ask in it. `rendered`
    keeps the prompts for models that are asked in the same words (see `asking.Prompts`).
    """

    benchmark: str
    protocol: Protocol
    shots: int
    items: list[Item]
    pool: list[Item]
    template: str = ""
    rendered: dict[tuple, Any] = field(init=False, default_factory=dict)

    @property
    def name(self) -> str:
        """The stem of its prediction files."""
        return f"{self.benchmark}-{self.protocol.name}-{self.shots}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the protocol; only the first, if seeds change nothing.

        They change the shots, the options of TruthfulQA, and what a protocol `varies`.
        """
        if self.shots or self.protocol.varies or benchmarks.form(self.benchmark) == "truthfulqa":
            return self.protocol.seeds
        return self.protocol.seeds[:1]


def runs(p, folder: Path) -> list[Run]:
    """Lists all runs of a study: each benchmark under each protocol that covers it.

    `eval_limit` and `eval_caps` count scored items, which are the ones that a protocol keeps and
    does not take as shots.

    Args:
        p: the study's parameters.
        folder: the folder that benchmarks are read from.

    Raises:
        StudyError: none of the protocols covers a benchmark.
    """
    every_run = []
    for benchmark in own.titles(p.eval_benchmarks):
        items = benchmarks.load(folder, benchmark)
        asked = []
        for protocol in map(protocols.named, p.eval_protocols):
            for shots in p.eval_shots:
                if not protocol.covers(benchmarks.form(benchmark), shots):
                    continue
                run = _run(p, benchmark, protocol, shots, items, folder)
                if run.items:  # Meditron's part of TruthfulQA may be empty
                    asked.append(run)
        if not asked:
            raise StudyError(
                f"eval_benchmarks: none of {', '.join(p.eval_protocols)} covers {benchmark} with "
                f"{p.eval_shots} shots; add a protocol that does to eval_protocols, or take it out"
            )
        every_run += asked
    return every_run


def _run(p, benchmark: str, protocol: Protocol, shots: int, items: list[Item], folder: Path) -> Run:
    """Builds one run.

    If a benchmark has no pool, its first items become the shots, and are not scored. Items of a dev
    set are asked like the items of its test (`benchmarks.form`), so they get the test's name here.
    """
    form = benchmarks.form(benchmark)
    items, pool = protocol.parted(form, [replace(item, benchmark=form) for item in items])
    if shots and not pool:
        pool = _lent(_lender(protocol, benchmark), folder)
    if not shots:
        pool = []
    if shots and not pool and not protocol.shots_from_test:
        pool, items = items[:shots], items[shots:]
    caps = {own.title(name): cap for name, cap in p.eval_caps.items()}
    items = _capped(items, caps.get(benchmark))[: p.eval_limit]
    return Run(benchmark, protocol, shots, items, pool, p.data_template)


def _capped(items: list[Item], cap: int | None) -> list[Item]:
    """At most `cap` items (None: all), drawn by the digests of their ids, in file order.

    The same file gives the same items in every study, and a higher cap keeps those of a lower one.
    """
    if cap is None:
        return items
    ids = sorted((item.id for item in items), key=_digest)
    drawn = set(ids[:cap])
    return [item for item in items if item.id in drawn]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _lent(lender: str, folder: Path) -> list[Item]:
    """The pool of the benchmark `lender`; none for ""."""
    if not lender:
        return []
    pool = benchmarks.load(folder, f"{lender}.pool")
    return [replace(item, benchmark=benchmarks.form(item.benchmark)) for item in pool]


def _lender(protocol: Protocol, benchmark: str) -> str:
    """The benchmark whose pool shots come from; "" for the scored items themselves.

    A dev set has its own pool or none, since the pool of its test may hold the very items of dev.
    """
    asked = benchmarks.form(benchmark)
    lender = protocol.pools.get(asked, asked)
    return benchmark if lender and asked != benchmark else lender
