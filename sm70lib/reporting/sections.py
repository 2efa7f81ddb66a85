"""The tables and figures of a report, under their headings."""

from __future__ import annotations

import base64
import fnmatch
import re
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from PIL.PngImagePlugin import PngImageFile

from sm70lib.analysis.comparisons import PRIMARY
from sm70lib.analysis.roles import TUNED
from sm70lib.mistakes import lists
from sm70lib.parameters import aggregates
from sm70lib.presentation import columns, forms, names
from sm70lib.presentation.styled import styled

# The figures and tables under each heading, by file name without suffix. All others come last.
SECTIONS = {
    "Results": [
        "accuracy",
        "paper",
        "kinds",
        "usmle",
        "comparisons",
        "losses",
        "agreement",
        "results",
    ],
    "One benchmark, several protocols": ["protocols"],
    "What went wrong": [
        "errors_flips",
        "errors_rules",
        "errors_confident",
        "errors_two_ways",
        "errors_by_*",
        "errors_confusion",
        "errors_habits",
        "errors_calibration",
        "errors_reliability",
        "errors_coverage",
        "errors_*",
    ],
    "Data and contamination": ["contamination", "contamination_effect", "contamination_worth"],
    "Training": ["pretraining", "training*", "memory"],
    "What others report": ["quoted_systems", "quoted"],
    "More": ["*"],
}
FOLDED = (
    "results",
    "agreement",
    "quoted",
    "quoted_systems",
    "errors_by_slice",
    "errors_reliability",
    "errors_coverage",
)
QUOTED = "†"
PRINTED = ("agreement", "paper")  # folded on the screen, whole on paper: they bear on the result
OF_TUNED = ("errors_confident", "errors_two_ways")  # the rows of other models are folded
WHOLE = [aggregate.name for aggregate in aggregates.AGGREGATES]
BESIDE = "beside_"
WIDE, OURS = ("paper", "usmle"), "study "  # tables with a column per benchmark; our rows' source
# Columns that count items which have a page, and the part of it
LINKED = {
    "results": {"n": "", "correct": "#right"},
    "errors_rules": {"n": "", "wrong": "#wrong"},
    "errors_confident": {"item_id": "#wrong"},
}
SHORT, LONG = 12, 40  # rows; more are folded, all of them or those of other protocols
COLUMN = 300  # points; a narrower picture is made for one column of a page


def beside(folder: Path, other: str) -> list[dict[str, Any]]:
    """What 06 wrote about this study and another: tables and figures of a page of their own.

    Args:
        folder: outputs/<study>.
        other: the other study.
    """
    figures = sorted(folder.glob(f"figures/{BESIDE}{other}_*.png"))
    tables = [f"{BESIDE}{other}_{part}" for part in ("parameters", "scores")]
    made = [name for name in tables if (folder / "tables" / f"{name}.md").exists()]
    shown = [_table(folder, name, "") for name in made]
    return shown + [_figure(folder, path.stem) for path in figures]


def sections(folder: Path, protocol: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The headings with their figures and tables; each file appears once.

    What stands beside another study has a page of its own (`beside`).

    Args:
        folder: outputs/<study>.
        protocol: the declared one; of long tables only its rows are shown at first.
    """
    figures = {path.stem for path in folder.glob("figures/*.png")}
    tables = {path.stem for path in folder.glob("tables/*.md")}
    left = {name for name in figures | tables if not name.startswith(BESIDE)} - {"scorecard"}
    found = []
    for heading, patterns in SECTIONS.items():
        chosen: list[str] = []
        for pattern in patterns:
            matching = fnmatch.filter(sorted(left), pattern)
            chosen += matching
            left -= set(matching)
        shown = []
        for name in chosen:
            if name in figures:
                shown.append(_figure(folder, name))
            if name in tables:
                shown.append(_table(folder, name, protocol))
        if shown:
            found.append((heading, shown))
    return found


def _figure(folder: Path, name: str) -> dict[str, Any]:
    """A figure to embed, with the title and the provenance from its metadata."""
    about = PngImageFile(folder / "figures" / f"{name}.png").text
    svg = (folder / "figures" / f"{name}.svg").read_bytes()
    width = re.search(rb'width="([\d.]+)pt"', svg)
    return {
        "name": name,
        "title": about.get("Title", name),
        "provenance": about.get("Description", ""),
        "src": f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}",
        "narrow": width is not None and float(width[1]) < COLUMN,
        "origin": _origin(folder, name),
    }


def _table(folder: Path, name: str, protocol: str) -> dict[str, Any]:
    """A table as HTML; what is long, or only for reference, is folded."""
    path = folder / "tables" / f"{name}.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    caption = path.with_suffix(".md").read_text(encoding="utf-8").split("\n")[0]
    if name == "usmle":  # pooled and mean stand in the paper's table
        paper = pd.read_csv(path.with_name("paper.csv"), nrows=0).columns
        table = table.drop(columns=table.columns.intersection(paper).intersection(WHOLE))
    shown, folded = table, table.iloc[:0]
    if name == "comparisons":
        primary = table["family"] == PRIMARY
        shown, folded = table[primary], table[~primary]
    elif name in FOLDED:
        shown, folded = folded, table
    elif name == "paper":
        cited = table["model"].str.endswith(QUOTED)
        shown, folded = table[~cited], table[cited]
    elif name in OF_TUNED:
        tuned = table["model"] == TUNED
        shown, folded = table[tuned], table[~tuned]
    elif len(table) > SHORT and protocol in set(table.get("protocol", ())):
        declared = table["protocol"] == protocol
        shown, folded = table[declared], table[~declared]
    elif len(table) > LONG:
        shown, folded = folded, table
    return {
        "name": name,
        "caption": caption,
        "shown": _html(folder, name, shown, caption) if len(shown) else "",
        "folded": _html(folder, name, folded, caption) if len(folded) else "",
        "rows": len(folded),
        "of_shown": _of_shown(table, shown) if len(folded) else "",
        "printed": name in PRINTED,
        "empty": table.empty,
        "origin": _origin(folder, name),
    }


def _of_shown(table: pd.DataFrame, shown: pd.DataFrame) -> str:
    """What all rows that are shown share, and the folded ones do not, in words."""
    told = [name for name in table if columns.of(name).note and shown[name].nunique() == 1]
    apart = [name for name in told if table[name].nunique() > 1]
    values = {name: names.text(shown[name].iloc[0]) for name in apart}
    return ", ".join(f"{columns.of(name).head.lower()} {values[name]}" for name in apart)


def _html(folder: Path, name: str, table: pd.DataFrame, caption: str) -> Markup:
    """A table whose counts are links to the items that they count, where these have a page."""
    links = {}
    rows = table.to_dict("records")
    for column, side in LINKED.get(name, {}).items():
        links[columns.of(column).head] = [_address(folder, row, side) for row in rows]
    for column in table.columns if name in WIDE else ():
        places = [row | {"benchmark": column, "study": row["source"][len(OURS) :]} for row in rows]
        links[columns.of(column).head] = [_address(folder, row, "") for row in places]
    return forms.html(styled(table, caption), links)


def _address(folder: Path, row: dict[str, str], side: str) -> str:
    if row["study"] != folder.name or row.get("subset", "all") != "all":
        return ""
    rule = row.get("rule", lists.EVERY)
    name = lists.address(row["model"], row["benchmark"], row["protocol"], row["shots"], rule)
    page = f"{lists.FOLDER}/{name}"
    return f"{page}{side}" if (folder / "report" / page).exists() else ""


def _origin(folder: Path, name: str) -> str:
    """The executed notebook that made a file; "" where it is not there."""
    notebook = "05_error_analysis" if name.startswith("errors") else "06_figures"
    return notebook if (folder / "notebooks" / f"{notebook}.ipynb").exists() else ""
