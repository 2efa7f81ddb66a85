"""An invented study as 05 and 06 leave it, with hostile texts, for tests of its report."""

import base64
from pathlib import Path

import nbformat

from sm70lib.analysis import (
    accuracies,
    comparisons,
    drawing,
    figures,
    frames,
    quoted,
    slices,
    tables,
)
from sm70lib.claims import scorecard
from sm70lib.mistakes import by_rule, rules
from sm70lib.statistics import stats
from tests import synthetic

HOSTILE = "<b>x</b><script>alert(1)</script>"


def write(outputs: Path, sizes: dict = synthetic.SIZES) -> Path:
    """Writes the study `made` with tables, a figure and a hostile notebook; returns its folder."""
    folder, how = synthetic.study(outputs, sizes=sizes), stats.How(resamples=100)
    answers = frames.load(outputs, ["made"])
    found, compared = (
        accuracies.results(answers, how),
        comparisons.comparisons(answers, synthetic.PARAMS, how),
    )
    card = scorecard.build(answers, compared, synthetic.PARAMS, how, folder)
    wrong = slices.listing(frames.paired(answers, "base", "tuned")).head(5).assign(question=HOSTILE)
    ruled = by_rule.by_rule(answers, rules.marks(answers), how)
    written = {"scorecard": card, "results": found, "errors_examples": wrong}
    written |= {"comparisons": compared}
    first = found[found["protocol"] == "sm70-2023"]
    wide = accuracies.wide(first, ["medqa_4", "usmle"], quoted.read())
    for name, table in (written | {"errors_rules": ruled, "paper": wide}).items():
        tables.write(table, folder / "tables", name, tables.caption("Caption.", answers))
    tables.write(quoted.read(), folder / "tables", "quoted", "Quoted.")
    (folder / "tables" / "errors.csv").write_text("question\n")
    drawing.style()
    nobody = quoted.read().head(0)
    drawing.save(figures.accuracy(first, nobody), folder / "figures", "accuracy", "made of this")
    (folder / "notebooks").mkdir()
    nbformat.write(notebook(), folder / "notebooks" / "04_eval.ipynb")
    return folder


def notebook() -> nbformat.NotebookNode:
    """A notebook whose outputs hold scripts, styles, widgets, outside pictures and a link."""
    page = (
        "<style>td {color: red}</style><table><thead><tr><th>a</th></tr></thead>"
        "<tr><td onclick='x()'>kept</td></tr></table><script src='https://example.org/x.js'></script>"
        "<img src='https://example.org/x.png'>"
    )
    picture = base64.b64encode(b"png").decode()
    shown = [
        {"text/html": page, "text/plain": "plain"},
        {"image/png": picture},
        {"application/javascript": "x()", "text/plain": "js"},
    ]
    outputs = [
        *(nbformat.v4.new_output("display_data", data) for data in shown),
        nbformat.v4.new_output("stream", text=f"said {HOSTILE}\n"),
    ]
    text = (
        "# Story\n[paper](https://example.org/paper) and "
        "<iframe src='https://example.org'></iframe> $x^2$"
    )
    return nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell(text),
            nbformat.v4.new_code_cell(
                "lora_r: int = 16  # rank\nseed: int = 0  # seed", metadata={"tags": ["parameters"]}
            ),
            nbformat.v4.new_code_cell(
                "# Parameters\nlora_r = 64\nworld = []", metadata={"tags": ["injected-parameters"]}
            ),
            nbformat.v4.new_code_cell("print('<b>')", outputs=outputs),
        ]
    )
