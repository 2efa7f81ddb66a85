"""All systems in one table: those of the papers as quoted, and those measured here, by protocol.

A quoted score stands under the protocol of ours that is nearest to how its source asked (NEAREST),
and its own way of asking stands beside it: nearest is not the same.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sm70lib import protocols
from sm70lib.analysis import frames, quoted
from sm70lib.analysis.roles import BASE, BASE_NF4
from sm70lib.claims import entries
from sm70lib.presentation import names
from sm70lib.steps.keys import mark
from sm70lib.study import others

NEAREST = {
    "sm70-2023": "sm70-2023",
    "option text (medqa_usmle_gbaker)": "sm70-2023",
    "option text, retrieved context (medqa_usmle_gbaker)": "sm70-2023",
    "2023 task files (option text)": "sm70-2023",
    "harness of October 2023, Med42's prompt": "harness",
    "Open Medical-LLM leaderboard": "harness",
    "meditron (top token, mean of 3 seeds)": "meditron",
    "meditron (top token)": "meditron",
    "meditron (top token, released weights)": "meditron",
    "meditron (chain of thought)": "meditron-cot",
    "meditron (self-consistent chain of thought)": "meditron-sc-cot",
    "harness, full answer string, chat template": "med42",
    "harness fork on vLLM, chat template, temperature 0": "meditron-fo",
}
OTHER = "none of ours"  # where a source does not say how it asked, or asked as nothing here does
KEYS = ["protocol", "system", "asked", "shots", "source"]


def table(results: pd.DataFrame, quotes: pd.DataFrame, outputs: Path) -> pd.DataFrame:
    """The scores of all systems, quoted (†) and measured, under each protocol.

    Args:
        results: `accuracies.results` of the studies to show.
        quotes: `quoted.read()`.
        outputs: the folder of all studies, which says what their models are.

    Returns:
        One row per protocol, system, way of asking, shots and source, and a column for each
        benchmark: accuracy in percent with its interval and n if it was measured, as printed with
        its n if it was quoted.
    """
    cells = pd.concat([_measured(results, outputs), _quoted(quotes)], ignore_index=True)
    wide = cells.pivot_table(index=KEYS, columns="benchmark", values="cell", aggfunc="; ".join)
    wide = wide.fillna("").reset_index().rename_axis(columns=None)
    order = [*(each.name for each in protocols.PROTOCOLS), OTHER]
    places = wide["protocol"].map(order.index), wide["system"].str.lower()
    wide = wide.assign(first=places[0], then=places[1]).sort_values(["first", "then", "asked"])
    known = [name for name in names.BENCHMARKS if name in wide]
    asked = [*known, *sorted(set(cells["benchmark"]) - set(known))]
    return wide[[*KEYS[:-1], *asked, "source"]].reset_index(drop=True)


def parts(found: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The table cut by protocol, each part without the benchmarks that nobody in it was asked."""
    cut = []
    for name, part in found.groupby("protocol", sort=False):
        kept = [column for column in part if column in KEYS or (part[column] != "").any()]
        cut.append((str(name), part[kept].drop(columns="protocol")))
    return cut


def _quoted(quotes: pd.DataFrame) -> pd.DataFrame:
    rows = quoted.of_whole_benchmarks(quotes)
    asked = rows["protocol"].fillna("not stated")
    remark = (" (" + rows["subset"] + ")").fillna("")
    return pd.DataFrame(
        {
            "protocol": rows["protocol"].map(NEAREST).fillna(OTHER),
            "system": rows["system"] + " †",
            "asked": asked + remark,
            "shots": rows["shots"].astype("string").fillna("not stated"),
            "source": rows["source"],
            "benchmark": rows["benchmark"],
            "cell": [quoted.cell(row) for row in rows.to_dict("records")],
        }
    )


def _measured(results: pd.DataFrame, outputs: Path) -> pd.DataFrame:
    rows = results[results["subset"] == "all"]
    called = {study: _called(outputs / study) for study in rows["study"].unique()}
    systems = [
        called[row.study].get(row.model, f"{row.study}: {names.model(row.model)}")
        for row in rows.itertuples()
    ]
    return pd.DataFrame(
        {
            "protocol": rows["protocol"],
            "system": systems,
            "asked": "measured here",
            "shots": rows["shots"].astype(str),
            "source": "study " + rows["study"],
            "benchmark": rows["benchmark"],
            "cell": [frames.shown(row, f" n={row.n}") for row in rows.itertuples()],
        }
    )


def _called(folder: Path) -> dict[str, str]:
    """What a study's models are called outside it: its base, and those of eval_models."""
    done = mark(folder, "04_eval").get("parameters", {})
    called: dict[str, str] = {}
    if done.get("base_model"):
        base = _system(done["base_model"])
        called |= {BASE: base, BASE_NF4: f"{base}, NF4"}
    for name, line in done.get("eval_models", {}).items():
        other = others.read(name, line)
        tuned = f" with {Path(other.adapter).name}" if other.adapter else ""
        four = ", NF4" if other.quantised else ""
        called[name] = f"{_system(other.known_as)}{tuned}{four}"
    return called


def _system(model: str) -> str:
    """A model as quoted.csv names it, so far as a claim says so; else by the end of its name."""
    name = entries.short(model)
    for claim in entries.catalogue():
        known = claim.arguments.get("model")
        if known and name.startswith(known) and claim.arguments.get("system"):
            return claim.arguments["system"]
    return model.rstrip("/").rpartition("/")[2]
