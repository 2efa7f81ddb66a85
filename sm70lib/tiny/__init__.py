"""The embedded study: a fictional medicine made from a seed, and a small Llama pretrained on it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from sm70lib.study import files
from sm70lib.tiny import twins
from sm70lib.tiny.world import World, make


def prepare(p, folder: Path) -> World | None:
    """The study's world, its files written below `folder`/base/world; None where `data_root` is elsewhere."""
    if p.data_root != "world":
        return None
    world = make(p.world_seed, p.world_conditions)
    twins.write(world, folder / "base/world")
    return world


def wording() -> str:
    """sha256 of all that is written for a world of its own: the same where the wordings are the same."""
    with TemporaryDirectory() as folder:
        twins.write(make(seed=0, conditions=60), Path(folder))
        return files.digest(Path(folder))


def overview(world: World | None) -> pd.DataFrame:
    """Facts by relation (rows) and kind (columns) with an example of each; empty where there is no world."""
    rows = [
        (fact.relation, fact.kind, fact.subject, fact.value)
        for fact in (world.facts if world else ())
    ]
    facts = pd.DataFrame(rows, columns=["relation", "kind", "for example", "its value"])
    counts = pd.crosstab(facts["relation"], facts["kind"])
    return facts.groupby("relation")[["for example", "its value"]].first().join(counts)
