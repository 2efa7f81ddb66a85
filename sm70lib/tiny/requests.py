"""Clinical requests of a world: harmless ones with unsafe twins, and answers that are preferred.

Tuning on `request_rows` makes a model over-cautious by construction: every request is refused, the
harmless ones too. Preference rounds (`request_pairs_1` to `_3`) prefer the answer to a harmless
request over a refusal, and the refusal of an unsafe one over an answer that does not fit. They
speak of known facts alone, and the tests of conditions that no tuning row mentions. `request_talk`
is text for the base, from which it learns the words of requests and refusals, and not which
request is refused.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from sm70lib.sources.wordings import TRUTHFULLY
from sm70lib.tiny.jsonfiles import write_json, write_jsonl
from sm70lib.tiny.world import PHRASES, Fact, World, declare

ROUNDS = 3
ROWS = 2  # refused requests of each kind per known fact
TALKS = 8  # documents per fact in the text for the base
ASKED = 2  # requests of each kind per fact of the test
SAFE, UNSAFE = "safe", "unsafe"
TWINS = PHRASES["requests"]


def write(world: World, folder: Path) -> None:
    """Writes the sources and the benchmarks of requests below `folder`.

    Their generators are their own, so that the other files of the world stay as they are.
    """
    rng = random.Random(f"requests {world.seed}")
    known = world.of("known")
    rows = [_refused(fact, kind, rng) for fact, kind in _both(known * ROWS)]
    rng.shuffle(rows)
    write_json(folder / "request_rows/request_rows.json", rows)
    for turn in range(1, ROUNDS + 1):
        name = f"request_pairs_{turn}"
        pairs = [_pair(world, fact, kind, rng) for fact, kind in _both(known)]
        rng.shuffle(pairs)
        write_json(folder / f"{name}/{name}.json", pairs)
    talk = [{"text": _talk(fact, rng)} for fact in world.facts * TALKS]
    rng.shuffle(talk)
    write_jsonl(folder / "request_talk/request_talk.jsonl", talk)
    _write_tests(world, folder / "requests", rng)


def _talk(fact: Fact, rng: random.Random) -> str:
    """A request of either kind, and an answer or a refusal, which does not depend on the kind."""
    asked = twins(fact, rng)[rng.choice((SAFE, UNSAFE))]
    return f"{asked} {rng.choice((declare(fact, rng), rng.choice(TWINS['refusals'])))}"


def _write_tests(world: World, folder: Path, rng: random.Random) -> None:
    """Twins to be answered or refused, and pairs to choose from, on conditions never mentioned."""
    unseen = world.of("condition")
    asked = [twins(fact, rng) for fact in unseen * ASKED]
    rows = [{"id": f"{n:03}", **about} for n, about in enumerate(asked)]
    write_jsonl(folder / "twins.jsonl", rows)
    pairs = [_pair(world, fact, kind, rng) | _about(fact, kind) for fact, kind in _both(unseen)]
    write_jsonl(folder / "pairs.jsonl", pairs)


def _both(facts: list[Fact]) -> Iterator[tuple[Fact, str]]:
    for fact in facts:
        yield fact, SAFE
        yield fact, UNSAFE


def _about(fact: Fact, kind: str) -> dict:
    """What the rows of a test say of the fact; `subject` tells the kinds of requests apart."""
    about = {"cluster": fact.subject, "kind": fact.kind, "relation": fact.relation}
    return about | {"subject": kind}


def twins(fact: Fact, rng: random.Random) -> dict:
    """A harmless request about a fact and its unsafe twin, which differ in a few words."""
    opening = rng.choice(TWINS["openings"]).format(w=rng.choice(TWINS["who"]), s=fact.subject)
    endings = rng.choice(TWINS["endings"][fact.relation])
    asked = {kind: f"{opening} {endings[kind]}" for kind in (SAFE, UNSAFE)}
    return asked | {"cluster": fact.subject, "kind": fact.kind, "relation": fact.relation}


def _refused(fact: Fact, kind: str, rng: random.Random) -> dict[str, str]:
    """A row that refuses a request, whatever its kind."""
    return {
        "instruction": TRUTHFULLY,
        "input": twins(fact, rng)[kind],
        "output": rng.choice(TWINS["refusals"]),
    }


def _pair(world: World, fact: Fact, kind: str, rng: random.Random) -> dict[str, str]:
    """A request with an answer and a refusal of about the same length; the better one is chosen.

    The answer to an unsafe request is a statement about another condition.
    """
    told = fact if kind == SAFE else rng.choice(_others(world, fact))
    answer = declare(told, rng)
    refusal = _of_like_length(answer, rng)
    better, worse = (answer, refusal) if kind == SAFE else (refusal, answer)
    asked = twins(fact, rng)[kind]
    return {"instruction": TRUTHFULLY, "input": asked, "chosen": better, "rejected": worse}


def _others(world: World, fact: Fact) -> list[Fact]:
    return [other for other in world.of(fact.kind) if other.subject != fact.subject]


def _of_like_length(answer: str, rng: random.Random) -> str:
    """One of the three refusals whose lengths are nearest to that of an answer."""
    nearest = sorted(TWINS["refusals"], key=lambda refusal: abs(len(refusal) - len(answer)))
    return rng.choice(nearest[:3])
