"""The embedded study: a fictional medicine made from a seed, and a small Llama pretrained on it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from sm70lib.study import files
from sm70lib.tiny import guidelines, requests, twins
from sm70lib.tiny.world import World, make


def prepare(p, folder: Path) -> World | None:
    """Makes the study's world and writes its files below `folder`/base/world.

    The clinical requests are among them if `world_requests` asks for them.

    Returns:
        The world, or None if `data_root` names real data.
    """
    if p.data_root != "world":
        return None
    world = make(p.world_seed, p.world_conditions)
    _write(world, folder / "base/world", p.world_requests)
    if p.world_guidelines:
        guidelines.write(world, p.world_guidelines, folder / "base/world")
    return world


def _write(world: World, folder: Path, with_requests: bool) -> None:
    twins.write(world, folder)
    if with_requests:
        requests.write(world, folder)


def wording(with_requests: bool = False) -> str:
    """sha256 (hex) of everything written for one fixed world: it changes when a wording changes."""
    with TemporaryDirectory() as folder:
        _write(make(seed=0, conditions=60), Path(folder), with_requests)
        return files.digest(Path(folder))


def overview(world: World | None) -> pd.DataFrame:
    """Counts facts by relation (rows) and kind (columns), with an example of each relation.

    The table is empty if there is no world.
    """
    all_facts = world.facts if world else ()
    rows = [(fact.relation, fact.kind, fact.subject, fact.value) for fact in all_facts]
    facts = pd.DataFrame(rows, columns=["relation", "kind", "for example", "its value"])
    counts = pd.crosstab(facts["relation"], facts["kind"])
    examples = facts.groupby("relation")[["for example", "its value"]].first()
    return examples.join(counts)
