"""What the notebooks say they found, and how they show their tables."""

import fnmatch
import json

import pandas as pd
import pytest

from sm70lib.presentation import found
from sm70lib.presentation.shown import NOTHING, shown
from sm70lib.study.params import ROOT

FUNNEL = pd.DataFrame({"rows": [100, 20], "leak": [3, 18], "label": [7, 0], "kept": [90, 2]})
LEAKS = pd.DataFrame(
    {"source": ["medical_meadow_mmmlu"] * 2, "benchmark": ["medqa_4", "usmle_step3"]}
    | {"items": [300, 120], "any": [6, 12]}
)
RUNS = pd.MultiIndex.from_tuples(
    [("medqa_4", "harness", 0, 9), ("usmle", "harness", 0, 9)],
    names=["benchmark", "protocol", "shots", "n"],
)
SCORES = pd.DataFrame({"base": [25.0, 20], "base-nf4": [25.0, 21], "tuned": [24.0, 60]}, RUNS)


CURVE = pd.DataFrame({"loss": [2, 1.0], "eval_loss": [0.4, 0.2]})
UNKNOWN = pd.Series({"kl_nats": None, "agreement_pct": None})
NOTED = pd.DataFrame({"items": [3, 4], "dropped": [True, False]})


@pytest.mark.parametrize(
    ("said", "words"),
    (
        (found.kept(FUNNEL, ["leak", "label"]), "92 of 120 rows are kept; * is leak (21 rows)."),
        (found.kept(FUNNEL.head(0), ["leak"]), "0 of 0 rows are kept: no check dropped any."),
        (found.leaks(LEAKS), "2 of 2 * USMLE step 3, of which 12 of 120 items (10.0 %) * mmmlu."),
        (found.leaks(LEAKS.assign(any=0)), "No item of any benchmark stands in a source."),
        (found.labels({"checked": 0, "verdict": "unverifiable"}), "No label *: unverifiable."),
        (
            found.labels({"checked": 9, "verdict": "permuted", "agree": 0, "agree_renamed": 1}),
            "The labels of pubmed_causal are permuted: 0 % of 9 agree *, and 100 % once *.",
        ),
        (
            found.learned(pd.DataFrame({"step": [1, 9], "loss": [6.4, 0.53]})),
            "By step 9 the loss had fallen from 6.40 to 0.53 nats per token.",
        ),
        (found.learned(pd.DataFrame()), "Nothing was trained here*"),
        (found.four_bits(UNKNOWN), "What four bits cost is not known here*"),
        (
            found.scored(SCORES, "base-nf4", "tuned"),
            "tuned is above base (NF4) in 1 of 2 runs, most on USMLE under harness (+39.0 points)*",
        ),
        (found.scored(SCORES[["base"]], "base", "tuned"), "2 runs are scored; base and tuned *"),
        (found.trained({"1-sft": CURVE}), "Loss, 1-sft: from 0.400 to 0.200 on held-out rows."),
        (found.trained({"1-dpo": CURVE[["loss"]]}), "* 2.000 to 1.000 on its training rows."),
        (found.doubts(NOTED), "3 items are left out; 4 are noted and stay."),
    ),
)
def test_a_sentence_says_what_was_found(said, words):
    assert fnmatch.fnmatch(said, words), said


def test_a_guesser_that_knows_the_layout_of_a_file_does_not_count():
    table = pd.DataFrame(
        {"items": [10, 10], "position_pct": [100.0, 35.5], "text_pct": [25.0, 30]},
        ["truthfulqa", "pubmedqa"],
    )
    assert "gets from 25.0 % (TruthfulQA) to 35.5 % (PubMedQA)" in found.guessers(table)


def test_a_table_is_shown_without_index_and_with_what_was_found():
    page = shown(SCORES, "Found <b>this</b>.").data
    assert "base (NF4)" in page and "MedQA" in page
    assert page.count("<th") == 6, "shots, which are all the same, stand in the caption"
    assert "Found &lt;b&gt;this&lt;/b&gt;." in page and "Shots: 0." in page
    assert 'class="num"' in page and "NaN" not in page


def test_an_empty_table_is_a_sentence():
    assert NOTHING in shown(pd.DataFrame(columns=["a"])).data
    assert "No item" in shown(LEAKS.head(0), "No item.").data


def test_the_notebooks_show_no_table_of_pandas():
    """Tables end cells by the styler; the funnel is shown once."""
    shows = 0
    for path in sorted((ROOT / "notebooks").glob("0[0-4]*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        shows += sum(source.count("shown(") for source in code)
        if path.stem == "01_data":
            assert sum(source.count("shown(funnel,") for source in code) == 1
        assert not [source for source in code if source.rstrip().endswith(".round(3)")]
    assert shows >= 25
