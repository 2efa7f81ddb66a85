"""The catalogues: tables of this library that have a line for each name a study may give.

They are read by path. So this wing, at the bottom, can refuse an unknown name, and imports none of
the modules that the lines name.
"""

import csv
from functools import cache
from pathlib import Path

_LIB = Path(__file__).parents[1]


@cache
def lines(table: str) -> tuple[dict[str, str], ...]:
    """The lines of a catalogue, in their order.

    Args:
        table: its path below the library's folder, e.g. `benchmarks/benchmarks.csv`.

    Returns:
        The cells of each line by column; an empty cell is "".
    """
    return tuple(_read(_LIB / table))


def names(table: str, **cells: str) -> tuple[str, ...]:
    """The names in a catalogue; with `cells`, those of the lines that have these cells."""
    return tuple(line["name"] for line in lines(table) if cells.items() <= line.items())


def named_modules(path: Path) -> list[Path]:
    """The modules that the lines of a table import from its folder; [] for a table of other things.

    Args:
        path: a table; it need not exist.
    """
    found = [line["object"] for line in _read(path) if "object" in line] if path.is_file() else []
    return sorted({path.with_name(f"{name.partition(':')[0]}.py") for name in found})


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, restval=""))
