"""Facts of an invented world that guidelines alone tell, as statements to be completed."""

from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, gold_of, objects, options_of


def new_facts(path: Path) -> Found:
    """The beginnings of statements, each with four values of which one is true."""
    for number, row in objects(path):
        options = options_of(row)
        fields = {
            "id": f"{number:05}",
            "question": row.get("question"),
            "options": options,
            "gold": gold_of(row, options),
        }
        yield number, row, fields


ALL = Benchmark(new_facts, "new_facts", None, ("new_facts.jsonl",))
