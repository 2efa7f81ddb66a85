"""The report: one page with scorecard, tables and figures, and every executed notebook as a page beside it.

Readable from a file share: no script, no outside address, figures embedded, all text from data escaped.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import re
from pathlib import Path

import bleach
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from nbconvert import HTMLExporter
from PIL import Image
from pygments.formatters import HtmlFormatter

from sm70lib.study.params import StudyError, rehearsal
from sm70lib.study.steps import outputs, write_text

# Headings and what stands under them, by file name without ending; what is not named here comes last.
SECTIONS = {
    "Results": ["accuracy", "paper", "kinds", "usmle", "comparisons", "agreement"],
    "One benchmark, several protocols": ["protocols", "results"],
    "What went wrong": ["errors_*"],
    "Data and contamination": ["contamination", "contamination_effect"],
    "Training": ["pretraining", "training*", "memory"],
    "What others report": ["quoted"],
    "More": ["*"],
}
LONG = 40  # rows; longer tables start folded
TAGS = set(
    "a b blockquote br code dd details div dl dt em h1 h2 h3 h4 h5 hr i img kbd li ol p pre s span "
    "strong sub summary sup table tbody td th thead tr u ul".split()
)
ATTRIBUTES = {"*": ["class", "colspan", "rowspan"], "a": ["href"], "img": ["src", "alt", "width"]}


def build(study: str) -> Path:
    """Renders `outputs/<study>/report/index.html`, returns its path; raises StudyError before 06 has run."""
    folder = outputs() / study
    if not (folder / "tables" / "scorecard.csv").is_file():
        raise StudyError(
            f"outputs/{study}/tables/scorecard.csv is missing; "
            f"run params/{study}.yml up to 06_figures."
        )
    page = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(Path(__file__).parent),
    ).get_template("report.html.j2")
    paths, manifest = sorted((folder / "notebooks").glob("*.ipynb")), folder / "manifest.json"
    shared = {
        "study": study,
        "rehearsal": rehearsal(study),
        "notebooks": [path.stem for path in paths],
        "made": json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {},
        "code_style": Markup(HtmlFormatter(style="friendly").get_style_defs(".highlight")),
    }
    for path in paths:
        body = _notebook(path)
        write_text(
            folder / "report" / f"{path.stem}.html", page.render(shared, title=path.stem, body=body)
        )
    csv = sorted(folder.glob("tables/*.csv"))
    plain = [path.name for path in csv if not path.with_suffix(".md").exists()]
    write_text(
        folder / "report" / "index.html",
        page.render(
            shared,
            title=f"Study {study}",
            scorecard=_table(folder / "tables", "scorecard"),
            plain=plain,
            sections=_sections(folder),
        ),
    )
    return folder / "report" / "index.html"


def _sections(folder: Path) -> list[tuple[str, list[dict]]]:
    """Headings, each with its figures and tables; every file stands once."""
    pictures, listed = (
        {path.stem for path in folder.glob(files)} for files in ("figures/*.png", "tables/*.md")
    )
    left, sections = (pictures | listed) - {"scorecard"}, []
    for heading, patterns in SECTIONS.items():
        names = dict.fromkeys(
            name for pattern in patterns for name in fnmatch.filter(sorted(left), pattern)
        )
        left -= set(names)
        shown = [
            show(folder / kind, name)
            for name in names
            for kind, found, show in (("figures", pictures, _figure), ("tables", listed, _table))
            if name in found
        ]
        sections += [(heading, shown)] if shown else []
    return sections


def _figure(folder: Path, name: str) -> dict:
    """A picture to embed, with the title and provenance that it carries in its metadata."""
    about = Image.open(folder / f"{name}.png").text
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


def _notebook(path: Path) -> Markup:
    """An executed notebook as HTML, reduced to harmless tags; outside links become text."""
    exporter = HTMLExporter(
        template_name="basic",
        exclude_anchor_links=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    html, _ = exporter.from_filename(str(path))
    html = re.sub(
        r"(?is)<(style|script)\b.*?</\1>", "", html
    )  # bleach would keep their content as text
    return Markup(
        bleach.clean(html, tags=TAGS, attributes=ATTRIBUTES, protocols={"data"}, strip=True)
    )
