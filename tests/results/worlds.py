"""Runs studies in eight worlds that neither chose a recipe nor are reported, for the evidence."""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from sm70lib.statistics import spread
from sm70lib.steps.steps import outputs
from sm70lib.study.params import ROOT

WORLDS = (41, 42, 43, 44, 45, 46, 47, 48)
FOLDER = ROOT / "outputs/reference/evidence"


def run(files: list[str], study: str, world: int, *more: str) -> Path:
    """Runs one study up to its predictions, where that is not done; returns its folder."""
    words = ["-p", "study", study, "-p", "world_seed", str(world), "--until", "04", *more]
    command = [sys.executable, "-m", "sm70lib", "run", *files, *words]
    folder = outputs() / study
    folder.mkdir(parents=True, exist_ok=True)
    # One thread each: two studies side by side are then faster than one on two threads.
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / "evidence.log").open("a") as log:
        subprocess.run(command, cwd=ROOT, check=True, env=alone, stdout=log, stderr=log)
    print(f"{study}: finished", flush=True)
    return folder


def drive(
    about: str | None,
    world: Callable[[int], None],
    last: str,
    measured: Callable[[int], pd.DataFrame],
    write: Callable[[pd.DataFrame], str],
) -> None:
    """Runs what is missing, then writes the tables of the worlds that are finished.

    Args:
        about: what the help says.
        world: runs all studies of the world with that seed.
        last: the name of the study that ends a world, with {} for the seed.
        measured: the rows of a world.
        write: writes the tables, and returns what to print.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--worlds", type=int, nargs="+", default=WORLDS, help="world seeds to run")
    parser.add_argument("--at-once", type=int, default=os.cpu_count(), help="worlds at a time")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    given = parser.parse_args()
    if not given.only_table:
        with ThreadPoolExecutor(given.at_once) as pool:
            list(pool.map(world, given.worlds))
    marks = {seed: f"{last.format(seed)}/steps/04_eval/done.json" for seed in WORLDS}
    finished = [seed for seed, mark in marks.items() if (outputs() / mark).exists()]
    if len(finished) < 2:
        print(f"finished: {finished or 'no world'} of {list(WORLDS)}; at least two are needed")
        return
    print(write(pd.concat([measured(seed) for seed in finished], ignore_index=True)))


def claims(runs: pd.DataFrame, wanted: Iterable[tuple]) -> pd.DataFrame:
    """Differences of two arms over worlds, with t intervals, and whether each claim holds.

    Args:
        runs: a row for each world (`world_seed`) and `arm`.
        wanted: of each difference what it is, its column, the two arms, and for a claim "over" or
            "under" and the value that the bound must be over or under.
    """
    rows = []
    for what, column, first, second, *bound in wanted:
        wide = runs.pivot(index="world_seed", columns="arm", values=column)
        gap = (wide[first] - wide[second]).dropna()
        over = spread.over_runs(gap, world=gap.index)
        most = 100 if column.endswith("_pct") else math.inf  # shares differ by no more
        row = {"what": what, "worlds": over.n, "mean": over.value, "low": max(over.low, -most)}
        row |= {"high": min(over.high, most), "asked": "", "holds": None}
        if bound:
            side, limit = bound
            holds = over.low > limit if side == "over" else over.high < limit
            row |= {"asked": f"{side} {limit}", "holds": bool(holds)}
        rows.append(row)
    return pd.DataFrame(rows).round(3)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown; what holds is yes or no, and what is missing is empty."""
    table = table.replace({"holds": {True: "yes", False: "no"}})
    return table.astype(object).where(table.notna(), "").to_markdown(index=False)
