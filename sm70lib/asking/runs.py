"""What is scored: each benchmark under a protocol, with its shots."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sm70lib import benchmarks, protocols
from sm70lib.benchmarks import Item
from sm70lib.parameters import aggregates, own
from sm70lib.protocols.protocol import Protocol
from sm70lib.study import others
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
        asked = [_run(p, benchmark, *way, items, folder) for way in _ways(p, benchmark)]
        asked = [run for run in asked if run.items]  # Meditron's part of TruthfulQA may be empty
        if not asked:
            raise _uncovered(p, benchmark)
        every_run += asked
    return every_run


def require_asked(p) -> None:
    """Checks that benchmarks and models are asked, and that the study reads what shots come from.

    Nothing is read for that, so it can be checked before anything is trained.

    Args:
        p: the study's parameters.

    Raises:
        StudyError: no protocol covers a benchmark, its shots come from one that is not read or
            take all items that the study allows, the declared comparison would ask nothing, or a
            model on a server can be asked under no protocol.
    """
    named = own.titles(p.eval_benchmarks)
    for benchmark in named:
        ways = _ways(p, benchmark)
        if not ways:
            raise _uncovered(p, benchmark)
        for protocol, shots in ways:
            lender = _lender(protocol, benchmark)
            if shots and lender not in ("", *named):
                raise StudyError(
                    f"eval_benchmarks lacks {lender}: protocol {protocol.name} takes its {shots} "
                    f"shots of {benchmark} from there; add {lender}, or set eval_shots to [0]"
                )
            if protocol.shots_from_test and not lender:
                allowed = [_cap(p, benchmark), p.eval_limit]
                count = min(most for most in (*allowed, shots + 1) if most is not None)
                _require_enough(benchmark, protocol, shots, count)
    _require_comparison(p)
    reading = any(run.protocol.reads for run in planned(p))
    for name, other in others.all_of(p).items():
        if not other.source and not reading:
            raise without_tokenizer(name)


def _require_comparison(p) -> None:
    """Raises StudyError if the declared protocol does not ask a benchmark of the comparison."""
    protocol, shots = protocols.named(p.eval_primary_protocol), p.eval_primary_shots
    members = {each.name: each.members for each in aggregates.AGGREGATES}
    for name in own.titles(p.eval_primary_benchmarks):
        for benchmark in members.get(name, (name,)):
            asked = protocol.covers(benchmarks.form(benchmark), shots)
            if not asked or benchmark in benchmarks.WITHOUT_ACCURACY:
                raise StudyError(
                    f"eval_primary_benchmarks: {protocol.name} with {shots} shots gives "
                    f"{benchmark} no accuracy, so nothing could be compared; change "
                    "eval_primary_protocol or eval_primary_shots, or take it out"
                )


def require_shots(p, benchmark: str, count: int) -> None:
    """Raises StudyError if a benchmark without a pool has too few items for a protocol's shots."""
    for protocol, shots in _ways(p, benchmark):
        if shots:
            _require_enough(benchmark, protocol, shots, count)


def _require_enough(benchmark: str, protocol: Protocol, shots: int, count: int) -> None:
    """Raises StudyError if the shots, which are among the items themselves, leave none to ask."""
    if count <= shots:
        raise StudyError(
            f"eval_shots: {protocol.name} takes its {shots} shots of {benchmark} from the items "
            f"themselves, and there are {count}; allow more in eval_limit and eval_caps, or give "
            "fewer shots"
        )


def without_tokenizer(model: str) -> StudyError:
    """The error of a model whose server alone has its tokenizer, so that it can only write."""
    return StudyError(
        f"eval_models: {model} can be asked under no protocol of this study, as none reads written "
        "answers: give its tokenizer (tokenizer=FOLDER_OR_HUB_NAME), or add generate to "
        "eval_protocols"
    )


def planned(p) -> list[Run]:
    """All runs of a study without their items, which nobody has to read for that."""
    return [
        Run(benchmark, protocol, shots, [], [], p.data_template)
        for benchmark in own.titles(p.eval_benchmarks)
        for protocol, shots in _ways(p, benchmark)
    ]


def _ways(p, benchmark: str) -> list[tuple[Protocol, int]]:
    """The study's protocols that cover a benchmark, each with a number of shots."""
    form = benchmarks.form(benchmark)
    asking = map(protocols.named, p.eval_protocols)
    pairs = itertools.product(asking, p.eval_shots)
    return [(protocol, shots) for protocol, shots in pairs if protocol.covers(form, shots)]


def _uncovered(p, benchmark: str) -> StudyError:
    return StudyError(
        f"eval_benchmarks: none of {', '.join(p.eval_protocols)} covers {benchmark} with "
        f"{p.eval_shots} shots; add a protocol that does to eval_protocols, or take it out"
    )


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
    among_items = bool(shots and items) and not pool
    if among_items and not protocol.shots_from_test:
        _require_enough(benchmark, protocol, shots, len(items))
        pool, items = items[:shots], items[shots:]
    items = _capped(items, _cap(p, benchmark))[: p.eval_limit]
    if among_items and protocol.shots_from_test:
        _require_enough(benchmark, protocol, shots, len(items))
    return Run(benchmark, protocol, shots, items, pool, p.data_template)


def _cap(p, benchmark: str) -> int | None:
    """The study's cap for a benchmark; None for all items."""
    caps = {own.title(name): cap for name, cap in p.eval_caps.items()}
    return caps.get(benchmark)


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
