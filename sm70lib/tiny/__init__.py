"""The embedded study: a fictional medicine made from a seed, and a small Llama pretrained on it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from sm70lib.study import files
from sm70lib.tiny import guidelines, twins
from sm70lib.tiny.world import World, make


def prepare(p, folder: Path) -> World | None:
    """Makes the study's world and writes its files below `folder`/base/world.

    Returns:
        The world, or None if `data_root` names real data.
    """
    if p.data_root != "world":
        return None
    world = make(p.world_seed, p.world_conditions)
    twins.write(world, folder / "base/world")
    if p.world_guidelines:
        guidelines.write(world, p.world_guidelines, folder / "base/world")
    return world


def wording() -> str:
    """sha256 (hex) of everything written for one fixed world: it changes when a wording changes."""
    with TemporaryDirectory() as folder:
        twins.write(make(seed=0, conditions=60), Path(folder))
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
