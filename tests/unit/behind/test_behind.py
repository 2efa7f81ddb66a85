"""Rows of the scorecard lead to their answers, and quoted rows to their source."""

import shutil

import pandas as pd
import pytest

from sm70lib import behind
from sm70lib.__main__ import main
from sm70lib.analysis import quoted, tables
from sm70lib.mistakes import trace
from sm70lib.steps.steps import write_json
from sm70lib.study.params import ROOT, StudyError

REFERENCE = ROOT / "outputs/reference/tiny"
PARTS = ("tables", "predictions", "data", "base")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The committed study: its tables, and the predictions that these were made from."""
    folder = tmp_path_factory.mktemp("outputs") / "tiny"
    for part in PARTS:
        shutil.copytree(REFERENCE / part, folder / part)
    quotes = quoted.read()
    tables.write(quoted.by_system(quotes), folder / "tables", "quoted_systems", "Quoted.")
    write_json(folder / "manifest.json", {"parameters": {}})
    return folder


def card(study) -> list[dict[str, str]]:
    table = pd.read_csv(study / "tables/scorecard.csv", dtype=str, keep_default_na=False)
    return table.to_dict("records")


def test_the_answers_of_every_claim_give_its_number(study, monkeypatch):
    answers = trace.answers_of(study, behind.CARD, "tiny")
    monkeypatch.setattr(trace, "answers_of", lambda *_: answers)
    checked = 0
    for cells in card(study):
        if not cells["benchmark"]:
            continue
        found = behind.of_claim(study, cells)
        assert str(found["item_id"].nunique()) == cells["n"], cells
        right = 100 * found.groupby("model", sort=False)["correct"].mean()
        gap = right.iloc[0] - right.iloc[1] if len(right) == 2 else right.iloc[0]
        assert gap == pytest.approx(float(cells["ours"]), abs=0.051), cells
        checked += 1
    assert checked == 21


def test_a_command_prints_the_answers_of_a_claim(study, monkeypatch, capsys):
    monkeypatch.setenv("SM70_OUTPUTS", str(study.parent))
    place = "claim=tuned above base-nf4,benchmark=medqa_4"
    assert main(["trace", "tiny", "scorecard", place, "ours"]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head == "tables/scorecard.csv, ours: 50.3; tuned above base-nf4"
    assert len(lines) == 600 and last.startswith("600 answers to 300 items, ")
    assert main(["trace", "tiny", "scorecard", "1", "verdict"]) == 2
    said = capsys.readouterr().err
    assert "this row has no number" in said and "invented world" in said


def test_a_claim_about_documents_says_where_their_losses_stand(study):
    claim = {"claim": "P2", "benchmark": "old_text", "protocol": "loss"}
    with pytest.raises(StudyError, match=r"losses on documents .* stages/\*/holdout.csv"):
        behind.of_claim(study, claim)


def test_a_quoted_number_says_where_it_was_printed(study):
    source = "source=model card wanglab/ClinicalCamel-70B, five-shot table"
    said = behind.text(study, "quoted_systems", f"system=GPT-4 †,{source}", "medqa_4")
    assert "quoted, not measured here: GPT-4, medqa_4, 81.4 (as quoted beside" in said
    assert "5-shot; n not stated, 1273 inferred; verified): model card wanglab" in said
    assert len(said.splitlines()) == 2
    with pytest.raises(StudyError, match="prints no number of GPT-4 † that could be read here"):
        behind.text(study, "quoted_systems", f"system=GPT-4 †,{source}", "usmle_step1")
    table = pd.read_csv(study / "tables/quoted.csv", dtype=str, keep_default_na=False)
    legible = table["value_pct"].ne("").to_numpy().nonzero()[0][0]
    said = behind.text(study, "quoted", str(legible + 1), "value_pct")
    assert said.endswith(table["source"][legible]) and len(said.splitlines()) == 2
    with pytest.raises(StudyError, match="could be read here"):
        behind.text(study, "quoted", "1", "value_pct")
