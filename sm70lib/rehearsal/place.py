"""Puts a study's stand-ins where it looks for them: on the local hub, or in a folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from sm70lib.benchmarks import BENCHMARKS
from sm70lib.corpus.audit import CAUSAL, REFERENCE
from sm70lib.models import known
from sm70lib.planning.byhand import TEST_LIST
from sm70lib.rehearsal import items, meadow, rows, stand_ins
from sm70lib.rehearsal.writer import Files
from sm70lib.sources import SOURCES
from sm70lib.study.params import ROOT, StudyError
from sm70lib.study.steps import write_text
from sm70lib.tiny.world import World, make

SEED, CONDITIONS = 5, 24  # of the medicine that the rows speak of


def data(p, served: Path, local: Path) -> list[str]:
    """Writes the files of every source and benchmark of a study, and returns all their texts.

    What has an address on the hub goes to `served`, if the study reads from the hub; everything
    else goes to `local`, the folder that the study reads. A study of the generated world needs none
    of it.
    """
    if p.data_root == "world":
        return []
    world = make(SEED, CONDITIONS)
    texts: list[str] = []
    for folder, hub, found in _wanted(p, world):
        repository = served / "datasets" / hub if hub and p.data_root == "hub" else local / folder
        for path, content in found.items():
            by_hand = Path(path).name == TEST_LIST  # is on no hub
            write((local / folder if by_hand else repository) / path, content)
            texts += _texts(content)
    return texts


def _wanted(p, world: World) -> Iterator[tuple[str, str | None, Files]]:
    """Folder, address on the hub and files of everything that the study reads."""
    own_base = [] if p.base_model else p.base_text
    for name in dict.fromkeys([*p.data_sources, *p.cpt_sources, *p.dpo_sources, *own_base]):
        source = SOURCES[name]
        yield source.folder, source.hub, rows.files(name, world, items.leaking(world))
    if CAUSAL in p.data_sources and p.audit_label != "report":
        labels = [
            {"sentence": text, "label": label} for text, label in meadow.causal_sentences(world)
        ]
        yield REFERENCE, None, {f"{REFERENCE}.jsonl": labels}
    asked = [(name, BENCHMARKS[name].pool_of) for name in p.eval_benchmarks]
    for name in dict.fromkeys(name for pair in asked for name in pair if name):
        yield BENCHMARKS[name].folder, BENCHMARKS[name].hub, items.files(name, world)


def stand_in_models(p, texts: list[str], served: Path) -> list[str]:
    """Writes a stand-in for every model on the hub that a study names, and returns their names.

    Models that the study names by a folder are there already. Raises StudyError for a model of
    which known_models.yml says nothing.
    """
    lines = [(f"eval_models, {name}", line.split()[0]) for name, line in p.eval_models.items()]
    lines += [("base_model", p.base_model)] if p.base_model else []
    wanted = {model: where for where, model in lines if not (ROOT / model).is_dir()}
    for seed, (model, where) in enumerate(sorted(wanted.items())):
        if model not in known.MODELS:
            raise StudyError(
                f"{where}: sm70lib/models/known_models.yml says nothing of {model}, so no stand-in can be "
                f"made for it; add its shape there. It knows {', '.join(known.MODELS)}"
            )
        stand_ins.write(known.MODELS[model], texts, served / "models" / model, seed)
    return sorted(wanted)


def write(path: Path, content: list[dict] | dict) -> None:
    """Writes rows in the format that the ending names: parquet, jsonl, csv or json."""
    if path.suffix == ".parquet":
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), path)
    elif path.suffix == ".jsonl":
        write_text(path, "".join(json.dumps(row) + "\n" for row in content))
    elif path.suffix == ".csv":
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(content[0]))
        table.writeheader()
        table.writerows(content)
        write_text(path, text.getvalue())
    else:
        write_text(path, json.dumps(content, indent=1) + "\n")


def _texts(content: object) -> Iterator[str]:
    """Every text in nested rows, for a vocabulary."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
