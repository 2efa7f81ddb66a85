"""What comes from rows and names is text wherever it is written: no program takes it for orders."""

import csv
import io
import json
import re

import mistune
import nbformat
import pandas as pd
import pytest

from sm70lib import __main__, report
from sm70lib.analysis import tables
from sm70lib.cards import data as cards
from sm70lib.presentation import forms
from sm70lib.presentation.styled import styled
from sm70lib.study.params import StudyError
from sm70lib.untrusted import escaping
from tests import small

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")']
HARMLESS = ["-5.3", "+1.2", "-1e-05", "-1,000", "a=b", "", "10 %", "'=1", "– 3"]
COLOURED = "\x1b[31mred\x1b]8;;http://x\x07\x9b2J\u202egnp.exe"
STRANGE = (
    "<script>alert(1)</script> ![x](http://track.er/p.png) | a\nb \\input{/etc/passwd} $x^2$ ~"
)


rendered = mistune.create_markdown(escape=False, plugins=["table"])  # raw HTML goes through


def test_a_spreadsheet_computes_no_cell():
    table = pd.DataFrame({"text": FORMULAS + HARMLESS, "number": -1.5})
    read = list(csv.DictReader(io.StringIO(escaping.csv(table), newline="")))
    assert [row["text"] for row in read] == [
        *(f"'{escaping.visible(text)}" for text in FORMULAS),
        *HARMLESS,
    ]
    assert {row["number"] for row in read} == {"-1.5"}


@pytest.mark.parametrize("dtype", ["object", "str", "category"])
def test_harmless_tables_are_written_as_pandas_writes_them(dtype):
    table = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, None, 2], "c": [True, False, True]})
    table["d"] = pd.Series(["x", None, "-3"], dtype=dtype)
    table["e"] = pd.Series([1, None, "y"], dtype=object)
    table["f"] = pd.array([1, None, 3], dtype="Int64")
    assert escaping.csv(table) == table.to_csv(index=False)
    assert escaping.markdown_table(table) == table.to_markdown()


def test_the_files_of_a_table_hold_no_orders(tmp_path):
    table = pd.DataFrame({"model": [STRANGE, COLOURED], "p": [0.0001, 0.5], STRANGE: ["=1", "2"]})
    tables.write(table, tmp_path / "mine/tables", "t", "Caption of 5 % {a} ^ ~ \\input{x}")
    written = {kind: (tmp_path / f"mine/tables/t.{kind}").read_text() for kind in ("md", "tex")}
    html = rendered(written["md"])
    assert "<script" not in html and "<img" not in html and "track.er" in html
    assert html.count("<tr>") == 3, "no row is torn apart"
    assert "< 0.001" in written["md"] and "$<$ 0.001" in written["tex"]
    assert not re.search(r"\\(input|write|immediate)\b", written["tex"])
    assert not any(escaping.CONTROL.search(text) for text in written.values())


def test_the_data_card_shows_names_as_text():
    p = small.parameters(
        data_sources=["medical_meadow_wikidoc"], study="mine", sft_loss="all", audit_leak="drop"
    )
    funnel = pd.DataFrame({"kept": [3]}, index=pd.Index([STRANGE], name="source"))
    leaks = pd.DataFrame({"source": [STRANGE], "any": [1]})
    html = rendered(cards.card(p, funnel, leaks, "0" * 64, None))
    assert "<script" not in html and "<img" not in html


def test_a_page_holds_no_control_character():
    page = str(forms.html(styled(pd.DataFrame({"reply": [COLOURED]}))))
    assert "red" in page and not escaping.CONTROL.search(page)


def test_escape_codes_of_a_notebook_do_not_reach_its_page(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    for path in ("tables", "notebooks", "base"):
        (folder / path).mkdir(parents=True)
    (folder / "tables/scorecard.csv").write_text("claim,verdict,reference,ours,low,high,n,shots\n")
    book = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell("x")
    cell.outputs = [
        nbformat.v4.new_output("stream", text=COLOURED),
        nbformat.v4.new_output("display_data", {"text/html": f"<p>{COLOURED}</p>"}),
    ]
    book.cells = [cell]
    nbformat.write(book, folder / "notebooks/04_eval.ipynb")
    card = {"tally": [], "own": [], "paper": [], "folded": []}
    monkeypatch.setattr(report, "_first_screen", lambda made: {"scorecard": card})
    monkeypatch.setattr(report.sections, "sections", lambda *rest: [])
    monkeypatch.setattr(report, "outputs", lambda: tmp_path)
    report.build("mine")
    pages = [path.read_text() for path in (folder / "report").glob("*.html")]
    assert len(pages) == 2 and not any(map(escaping.CONTROL.search, pages))


def test_an_error_shows_no_escape_codes_on_a_terminal(monkeypatch, capsys):
    def fails(given):
        raise StudyError(f"{COLOURED}: wrong")

    monkeypatch.setattr(__main__, "_run", fails)
    assert __main__.main(["report", "mine"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ␛[31mred") and not escaping.CONTROL.search(said)


@pytest.mark.parametrize(
    "value", ["x" * 10**7, ["y" * 50] * 50, {"a": "\x1b[2J\n" * 999}, COLOURED]
)
def test_a_value_in_a_sentence_is_one_short_line(value):
    said = escaping.shortened(value, 80)
    assert len(said) <= 80 and "\n" not in said and "\x1b" not in said


def test_what_is_left_as_it_is():
    for text in ("Llama-2-70B †", "a < 0.001", "[1.2, 3.4]", "50 % [45, 55]", "n = 3"):
        assert escaping.markdown(text) == escaping.visible(text) == escaping.shortened(text) == text
    assert json.dumps(escaping.visible("line\nline\ttab")) == json.dumps("line\nline\ttab")
