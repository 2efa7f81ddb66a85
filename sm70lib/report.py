"""The report: one page with scorecard, tables and figures, and a page for every executed notebook.

The pages can be read from a shared folder. They have no scripts and no outside addresses, figures
are embedded, and all text from data is escaped.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

import bleach
import nbformat
from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from sm70lib.cards import model
from sm70lib.guidelines import tripod
from sm70lib.mistakes import pages
from sm70lib.mistakes.lists import FOLDER
from sm70lib.reporting import about, agreed, reading, result, runcard, scorecard, sections
from sm70lib.reporting.made import Made
from sm70lib.steps import replaced
from sm70lib.steps.keys import mark, outputs, read
from sm70lib.steps.steps import require_as_written, write_text
from sm70lib.study.files import public
from sm70lib.study.params import StudyError, rehearsal
from sm70lib.untrusted.escaping import visible

TAGS = set(
    "a b blockquote br code dd details div dl dt em h1 h2 h3 h4 h5 hr i img kbd li ol p pre s span "
    "strong sub summary sup table tbody td th thead tr u ul".split()
)
ATTRIBUTES = {"*": ["class", "colspan", "rowspan"], "a": ["href"], "img": ["src", "alt", "width"]}
ATTRIBUTES |= {"td": ["data-head"]}


def build(study: str) -> Path:
    """Renders the report of a study, and writes the cards of what it has trained.

    Args:
        study: The study's name.

    Returns:
        The path of the page, `outputs/<study>/report/index.html`.

    Raises:
        StudyError: 06 has not run yet, or a table or a figure has changed since.
    """
    folder = outputs() / study
    if not (folder / "tables" / "scorecard.csv").is_file():
        raise StudyError(
            f"outputs/{study}/tables/scorecard.csv is missing: "
            f"run the study up to 06_figures ({replaced.runs(study)}){_instead(study)}"
        )
    _require_as_written(folder)
    page, made = _template(), Made(folder)
    paths = sorted((folder / "notebooks").glob("*.ipynb"))
    shared = {
        "study": study,
        "rehearsal": rehearsal(study),
        "base_note": _base_note(made),
        "notebooks": [path.stem for path in paths],
        "made": made.manifest,
        "code_style": Markup(HtmlFormatter(style="friendly").get_style_defs(".highlight")),
    }
    for path in paths:
        _write(folder, path.stem, page.render(shared, title=path.stem, body=_notebook(path)))
    _items(folder, page, shared)
    others = _beside(folder, page, shared, made.parameters.get("figures_studies", []))
    content = _first_screen(made) | _tables_and_figures(made)
    text = page.render(shared, title=f"Study {study}", others=others, **content)
    index = _write(folder, "index", text)
    model.write(folder)
    return index


def _write(folder: Path, name: str, text: str) -> Path:
    """Writes a page of the report, without places of this machine and orders to a browser."""
    path = folder / "report" / f"{name}.html"
    write_text(path, visible(public(text)))
    return path


def _tables_and_figures(made: Made) -> dict:
    """What stands below the first screen: sections, tables without a form to read, and items."""
    tables = sorted(made.folder.glob("tables/*.csv"))
    return {
        "items": (made.folder / "report" / FOLDER).exists(),
        "plain": [path.name for path in tables if not path.with_suffix(".md").exists()],
        "sections": sections.sections(
            made.folder, made.parameters.get("eval_primary_protocol", "")
        ),
    }


def _instead(study: str) -> str:
    """Where an arm is reported that ran for the sake of another study; "" for other studies."""
    for manifest in sorted(outputs().glob("*/manifest.json")):
        if study in read(manifest).get("parameters", {}).get("figures_studies", ()):
            name = manifest.parent.name
            return (
                f"; it ran as an arm of study {name}, whose report compares the two "
                f"(python -m sm70lib report {name})"
            )
    return ""


def _beside(folder: Path, page: Template, shared: dict, others: list[str]) -> list[str]:
    """Writes a page for each other study that 06 compared; gives their names."""
    found = {other: sections.beside(folder, other) for other in others}
    compared = [other for other, shown in found.items() if shown]
    for other in compared:
        text = page.render(shared, title=f"{folder.name} beside {other}", alone=found[other])
        _write(folder, f"beside-{other}", text)
    return compared


def _items(folder: Path, page: Template, shared: dict) -> None:
    """Writes the pages of items anew; they quote questions and stay beside the report."""
    place = folder / "report" / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    plain = shared | {"code_style": "", "up": "../", "notebooks": []}
    for name, text in pages.build(
        folder, lambda title, body: page.render(plain, title=title, body=body)
    ):
        write_text(place / name, visible(public(text)))


def _require_as_written(folder: Path) -> None:
    """Raises StudyError if a table or a figure is not as 05 or 06 recorded it."""
    for name in ("05_error_analysis", "06_figures"):
        require_as_written(folder.name, *mark(folder, name).get("outputs", {}), by=name)


def _template() -> Template:
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader(Path(__file__).parent),
    )
    return environment.get_template("report.html.j2")


def _base_note(made: Made) -> str:
    """What the reader has to know of the base's weights; "" if nothing."""
    note = made.base.get("made_from", {}).get("note")
    return f"The base {made.base['model']} was {note}." if note else ""


def _first_screen(made: Made) -> dict:
    """What a reader sees first: what was done, the result, how to read it, and the scorecard."""
    lines = result.lines(made)
    return {
        "about": about.sentence(made),
        "lines": lines,
        "reading": reading.sentences(made, lines),
        "agreed": agreed.agreement(made),
        "scorecard": scorecard.scorecard(made),
        "exported": (made.folder / "tables/scorecard.json").is_file(),
        "runcard": runcard.runcard(made),
        "tripod": tripod.items(made),
    }


def _with_values(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the injected values in its cell of parameters, which explains each."""
    cells = notebook.cells
    injected = [cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", ())]
    values: dict[str, str] = {}
    for cell in injected:  # papermill writes each value on a line of its own
        values |= dict(re.findall(r"^(\w+) = (.*)$", cell.source, re.MULTILINE))
        cells.remove(cell)
    for cell in cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = "\n".join(_with_value(line, values) for line in cell.source.split("\n"))
    return notebook


def _with_value(line: str, values: dict[str, str]) -> str:
    """A line of the cell of parameters with the value that was injected, if one was."""
    found = re.match(r"(?P<name>\w+)(?P<type>: .+?)? = .*?(?P<help>  # .*)?$", line)
    if found is None or found["name"] not in values:
        return line
    return f"{found['name']}{found['type'] or ''} = {values[found['name']]}{found['help'] or ''}"


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
    notebook = _with_values(nbformat.read(path, as_version=4))
    html, _ = _exporter().from_notebook_node(notebook)
    # bleach would keep the content of these tags as text
    html = re.sub(r"(?is)<(style|script)\b.*?</\1>", "", html)
    return Markup(
        bleach.clean(html, tags=TAGS, attributes=ATTRIBUTES, protocols={"data"}, strip=True)
    )
