"""The report: one page with scorecard, tables and figures, and a page for every executed notebook.

The pages can be read from a shared folder. They have no scripts and no outside addresses, figures
are embedded, and all text from data is escaped.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import re
from functools import cache
from pathlib import Path

import bleach
import pandas as pd
from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup
from nbconvert import HTMLExporter
from PIL.PngImagePlugin import PngImageFile
from pygments.formatters import HtmlFormatter

from sm70lib.steps.keys import read
from sm70lib.steps.steps import outputs, write_text
from sm70lib.study.params import StudyError, rehearsal

# The figures and tables under each heading, by file name without suffix. All others come last.
SECTIONS = {
    "Results": ["accuracy", "paper", "kinds", "usmle", "comparisons", "losses", "agreement"],
    "One benchmark, several protocols": ["protocols", "results"],
    "What went wrong": ["errors_*"],
    "Data and contamination": ["contamination", "contamination_effect"],
    "Training": ["pretraining", "training*", "memory"],
    "What others report": ["quoted"],
    "More": ["*"],
}
LONG = 40  # rows; a longer table is folded at first
TAGS = set(
    "a b blockquote br code dd details div dl dt em h1 h2 h3 h4 h5 hr i img kbd li ol p pre s span "
    "strong sub summary sup table tbody td th thead tr u ul".split()
)
ATTRIBUTES = {"*": ["class", "colspan", "rowspan"], "a": ["href"], "img": ["src", "alt", "width"]}


def build(study: str) -> Path:
    """Renders the report of a study.

    Args:
        study: The study's name.

    Returns:
        The path of the page, `outputs/<study>/report/index.html`.

    Raises:
        StudyError: 06 has not run yet.
    """
    folder = outputs() / study
    if not (folder / "tables" / "scorecard.csv").is_file():
        raise StudyError(
            f"outputs/{study}/tables/scorecard.csv is missing; "
            f"run params/{study}.yml up to 06_figures."
        )
    page = _template()
    paths = sorted((folder / "notebooks").glob("*.ipynb"))
    shared = {
        "study": study,
        "rehearsal": rehearsal(study),
        "base_note": _base_note(folder),
        "notebooks": [path.stem for path in paths],
        "made": _manifest(folder),
        "code_style": Markup(HtmlFormatter(style="friendly").get_style_defs(".highlight")),
    }
    for path in paths:
        text = page.render(shared, title=path.stem, body=_notebook(path))
        write_text(folder / "report" / f"{path.stem}.html", text)
    tables = sorted(folder.glob("tables/*.csv"))
    text = page.render(
        shared,
        title=f"Study {study}",
        scorecard=_table(folder / "tables", "scorecard"),
        plain=[path.name for path in tables if not path.with_suffix(".md").exists()],
        sections=_sections(folder),
    )
    index = folder / "report" / "index.html"
    write_text(index, text)
    return index


def _template() -> Template:
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(Path(__file__).parent),
    )
    return environment.get_template("report.html.j2")


def _base_note(folder: Path) -> str:
    """What the reader has to know of the base's weights; "" if nothing."""
    about = read(folder / "base/base.json")
    note = about.get("made_from", {}).get("note")
    return f"The base {about['model']} was {note}." if note else ""


def _manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))


def _sections(folder: Path) -> list[tuple[str, list[dict]]]:
    """The headings with their figures and tables; each file appears once."""
    figures = {path.stem for path in folder.glob("figures/*.png")}
    tables = {path.stem for path in folder.glob("tables/*.md")}
    left = (figures | tables) - {"scorecard"}
    sections = []
    for heading, patterns in SECTIONS.items():
        names: list[str] = []
        for pattern in patterns:
            matching = fnmatch.filter(sorted(left), pattern)
            names += matching
            left -= set(matching)
        shown = []
        for name in names:
            if name in figures:
                shown.append(_figure(folder / "figures", name))
            if name in tables:
                shown.append(_table(folder / "tables", name))
        if shown:
            sections.append((heading, shown))
    return sections


def _figure(folder: Path, name: str) -> dict:
    """A figure to embed, with the title and the provenance from its metadata."""
    about = PngImageFile(folder / f"{name}.png").text
    picture = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
    return {
        "name": name,
        "title": about.get("Title", name),
        "provenance": about.get("Description", ""),
        "src": f"data:image/svg+xml;base64,{picture}",
    }


def _table(folder: Path, name: str) -> dict:
    """A table as text: caption, columns, rows, and which columns hold numbers."""
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    numeric = {
        column for column in table if table[column].str.fullmatch(r"(?:< )?[-+\d.,e]*").all()
    }
    return {
        "name": name,
        "caption": (folder / f"{name}.md").read_text(encoding="utf-8").split("\n")[0],
        "columns": list(table),
        "rows": table.to_dict("records"),
        "numeric": numeric,
        "long": len(table) > LONG,
    }


@cache  # its templates are compiled once for all notebooks
def _exporter() -> HTMLExporter:
    return HTMLExporter(
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )


def _notebook(path: Path) -> Markup:
    """An executed notebook as HTML with harmless tags only; outside links become text."""
    html, _ = _exporter().from_filename(str(path))
    # bleach would keep the content of these tags as text
    html = re.sub(r"(?is)<(style|script)\b.*?</\1>", "", html)
    return Markup(
        bleach.clean(html, tags=TAGS, attributes=ATTRIBUTES, protocols={"data"}, strip=True)
    )
