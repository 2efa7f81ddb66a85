"""The README's table of studies: what each needs, on what it fits, how long, and what it downloads.

It is what `plan` says of the study files: memory of training, and its hours at published speeds of
GPUs. Of the small studies it is what their committed runs took, which stands in params/README.md
too.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd

from sm70lib import sources
from sm70lib.planning import needs
from sm70lib.planning.need import Need
from sm70lib.sizes import accelerators, budget, shapes
from sm70lib.study.params import ROOT, load
from sm70lib.study.used import preference_sources, text_sources

# As params/README.md lists them; the other arm of a study runs with it
STUDIES = ("tiny", "small", "sm70-7b", "sm70", "meditron-7b", "meditron-70b", "med42-8b")
SMALL = 1e9  # weights; a smaller model needs no GPU
LIST = ROOT / "params/README.md"
LINE = re.compile(r"^\| \[(.+?)\]\(.+?\.yml\) \|.+\|$")  # a study's row there


def block() -> str:
    """The table, as Markdown."""
    with nothing_here():
        rows = [row(load(ROOT / f"params/{name}.yml")) for name in STUDIES]
    return pd.DataFrame(rows).to_markdown(index=False) + "\n"


@contextmanager
def nothing_here() -> Iterator[None]:
    """No study and no model lies on this machine, so that everybody plans the same."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as empty:
        os.environ.update(SM70_OUTPUTS=empty, SM70_MODELS=empty)
        yield
    os.environ.clear()
    os.environ.update(before)


def row(p) -> dict[str, str]:
    rows = needs.rows(p)
    base = needs.base_of(p)
    gpus = budget.shared_by(p)
    needed = max(row.device_gb or 0 for row in rows if row.step == "03")
    small = shapes.shape(base).weights < SMALL
    size = min(gb for gb in accelerators.cards()["memory_gb"] if gb >= needed)
    fits = f"{f'{gpus} GPUs' if gpus > 1 else 'one GPU'} of {size} GB"
    return {
        "study": f"[{p.study}](params/{p.study}.yml)",
        "needs": _peak(p.study) if small else f"{needed:,.1f} GB{' a GPU' if gpus > 1 else ''}",
        "fits on": "a laptop" if small else fits,
        "hours at most": _measured(p.study) if small else _planned(p, base, size),
        "downloads": _downloads(p, rows),
    }


def listed() -> str:
    """params/README.md, with the hours and the memory of committed runs in the rows of studies."""
    lines = LIST.read_text().splitlines(keepends=True)
    return "".join(_filled(line) for line in lines)


def _filled(line: str) -> str:
    """A study's row with its last two cells: hours, and peak memory (GB)."""
    found = LINE.match(line)
    if found is None:
        return line
    cells = line.split("|")
    study = found[1]
    cells[-3:-1] = [" ", " "]
    if _marks(study):
        cells[-3:-1] = [f" {_measured(study).split()[0]} ", f" {_peak(study).split()[0]} "]
    return "|".join(cells)


def _marks(study: str) -> list[dict]:
    """The steps of a study's committed run and of its arms, each where it was made."""
    paths = (ROOT / "outputs/reference").glob(f"**/{study}/**/steps/*/done.json")
    marks = [json.loads(path.read_text()) for path in paths]
    return [mark for mark in marks if "taken_from" not in mark]


def _peak(study: str) -> str:
    """The greatest memory of all steps of the committed run."""
    return f"{max(mark['peak_memory_gb'] for mark in _marks(study)):.1f} GB"


def _measured(study: str) -> str:
    """Hours of all steps of the committed run."""
    return f"{sum(mark['seconds'] for mark in _marks(study)) / 3600:.1f} (measured)"


def _planned(p, base, size: float) -> str:
    """Hours of training on the smallest card of this size or more that has a published speed."""
    cards = accelerators.cards().dropna(subset="tokens_per_second_70b")
    cards = cards[cards["memory_gb"] >= size]
    if cards.empty:
        return "speed not published"
    fastest = cards.sort_values("tokens_per_second_70b", ascending=False)
    card = fastest.sort_values("memory_gb", kind="stable").iloc[0]
    total = sum(needs.tokens(p, number) for number, _ in enumerate(p.train_stages, 1))
    hours = accelerators.hours(base, total, card["tokens_per_second_70b"])
    return f"{hours:,.0f} on {card['gpu']}"


def _downloads(p, rows: list[Need]) -> str:
    """GB of the models that are fetched, and of the sources whose size is stated."""
    models = sum(row.disk_gb or 0 for row in rows if "download" in row.part or row.step == "04")
    names = [] if p.data_root == "world" else [*p.data_sources, *text_sources(p)]
    names += preference_sources(p) if names else []
    sizes = [sources.about(name).bytes for name in names]
    data = sum(size or 0 for size in sizes) / 1e9
    total = models + data
    more = " and more data" if None in sizes else ""
    return f"{total:,.1f} GB{more}" if total else "nothing"
