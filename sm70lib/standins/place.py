"""Puts stand-ins where the study will look for them: on the local hub, or in a folder."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from sm70lib.benchmarks import BENCHMARKS
from sm70lib.parameters import own
from sm70lib.planning.byhand import TEST_LIST
from sm70lib.sizes import known
from sm70lib.sources import SOURCES
from sm70lib.sources.causal import CAUSAL, REFERENCE
from sm70lib.standins import items, meadow, rows
from sm70lib.standins.writer import Content, Files, Writer
from sm70lib.steps.steps import write_text
from sm70lib.study.others import all_of, downloads
from sm70lib.study.params import ROOT, StudyError
from sm70lib.study.used import sources_of
from sm70lib.tiny.layouts import LETTERS
from sm70lib.tiny.world import MEDQA, World, make

# The fictional medicine that the rows speak of
SEED = 5
CONDITIONS = 24
# What a server of stand-ins runs under the name of a model whose tokenizer only its server has
HOSTED = "meta-llama/Llama-2-7b-hf"


def data(p, served: Path, local: Path) -> list[str]:
    """Writes the files of every source and benchmark of a study.

    A study of the generated world needs none of them.

    Args:
        p: the study.
        served: the local hub's folder, for whatever has an address on the hub; not used unless the
            study reads from the hub.
        local: the folder that the study reads, for everything else.

    Returns:
        All texts in these files, to make vocabularies from.
    """
    if p.data_root == "world":
        return []
    world = make(SEED, CONDITIONS)
    texts: list[str] = []
    for folder, hub, files in _data_files(p, world):
        if hub and p.data_root == "hub":
            repository = served / "datasets" / hub
        else:
            repository = local / folder
        for path, content in files.items():
            by_hand = Path(path).name == TEST_LIST  # the hub does not have it
            target = local / folder if by_hand else repository
            write(target / path, content)
            texts += _texts(content)
    return texts


def _data_files(p, world: World) -> Iterator[tuple[str, str | None, Files]]:
    """Folder, address on the hub and files of everything that the study reads."""
    own_base = [] if p.base_model else p.base_text
    for name in dict.fromkeys([*sources_of(p), *own_base]):
        if own.is_file(name):  # it is read where it is
            continue
        source = SOURCES[name]
        yield source.folder, source.hub, rows.files(name, world, _leaking(world))
    if CAUSAL in p.data_sources and p.audit_label != "report":
        labels = [
            {"sentence": text, "label": label} for text, label in meadow.causal_sentences(world)
        ]
        yield REFERENCE, None, {f"{REFERENCE}.jsonl": labels}
    for name in _with_pools(name for name in p.eval_benchmarks if not own.is_file(name)):
        benchmark = BENCHMARKS[name]
        if Path(benchmark.folder).is_absolute():  # the library's own files, which stay as they are
            continue
        yield benchmark.folder, benchmark.hub, items.files(name, world)


def _leaking(world: World) -> list[dict]:
    """What a training source gives away: a MedQA item, and all of MMLU's six medical subjects."""
    leaks = [Writer(world, "medqa").questions(4, MEDQA)[-1]]
    for path, written in items.files("mmlu_medical", world).items():
        if "/test-" in path:
            leaks += [_in_medqa_layout(row) for row in written]
    return leaks


def _in_medqa_layout(row) -> dict:
    """An MMLU question with its options by letter."""
    options = dict(zip(LETTERS, row["choices"]))
    letter = LETTERS[row["answer"]]
    return {"question": row["question"], "options": options, "answer_idx": letter}


def _with_pools(names: Iterable[str]) -> list[str]:
    """These benchmarks, each followed by the one its shots come from, if any; no name twice."""
    both: list[str] = []
    for name in names:
        both.append(name)
        if pool := BENCHMARKS[name].pool_of:
            both.append(pool)
    return list(dict.fromkeys(both))


def stand_in_models(studies, texts: list[str], served: Path) -> list[str]:
    """Writes a stand-in for every model on the hub that a study names.

    A model that is named by a folder needs none.

    Args:
        studies: the studies.
        texts: what the vocabularies are made from.
        served: the local hub's folder.

    Returns:
        The names of these models, sorted.

    Raises:
        StudyError: known_models.yml does not describe a model.
    """
    parameters: dict[str, str] = {}  # the parameter that names each model
    for p in studies:
        parameters |= dict(downloads(p))
        if any(not other.source for other in all_of(p).values()):
            parameters.setdefault(HOSTED, "eval_models")
    names = sorted(model for model in parameters if not (ROOT / model).is_dir())
    if not names:
        return []
    from sm70lib.standins import stand_ins  # PyTorch takes 6 s, and the tiny study needs none

    for seed, model in enumerate(names):
        if model not in known.MODELS:
            raise StudyError(
                f"{parameters[model]}: sm70lib/sizes/known_models.yml says nothing of {model}, so "
                "no stand-in can be made for it; add its shape there. "
                f"It knows {', '.join(known.MODELS)}"
            )
        stand_ins.write(known.MODELS[model], texts, served / "models" / model, seed)
    return names


def served_models(p, served: Path) -> dict[str, Path]:
    """The folder that stands in for each model of a server, by the model's name there."""
    folders = {}
    for other in all_of(p).values():
        if other.server:
            source = other.source or HOSTED
            here = ROOT / source
            folders[other.server.model] = here if here.is_dir() else served / "models" / source
    return folders


def write(path: Path, content: Content) -> None:
    """Writes rows in the format of the ending: parquet, jsonl, csv, else JSON; a text as it is."""
    if path.suffix == ".parquet":
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), path)
    elif isinstance(content, str):
        write_text(path, content)
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
    """Every text in nested rows."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
