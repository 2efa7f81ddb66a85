"""Tables for readers: numbers that line up, names that people write, nothing hidden."""

import re

import pandas as pd
import pytest

from sm70lib import benchmarks
from sm70lib.presentation import columns, forms, latex, names
from sm70lib.presentation.styled import styled

TABLE = pd.DataFrame(
    {
        "study": ["made", "made"],
        "benchmark": ["medqa_4", "usmle_step1"],
        "before": ["base-nf4", "base-nf4"],
        "n": [1273, 94],
        "difference_pts": [3.1, -0.04],
        "low_pts": [0.25, -4],
        "high_pts": [6, 4.5],
        "p": ["< 0.001", "0.4"],
        "p_holm": [0.003, None],
        "spread_pts": [None, None],
        "reading": ["tuned higher", "base-nf4 chose A in 100% of its answers"],
    }
)


def test_numbers_have_the_same_decimals_and_stand_at_the_right():
    seen = styled(TABLE, "Compared.")
    heads = ["Benchmark", "n", "Difference [interval] (points)", "p", "p (Holm)", "Reading"]
    assert seen.heads == heads and seen.right == [False, True, True, True, True, False]
    first, second = seen.rows
    assert first == ["MedQA", "1,273", "+3.1 [0.2, 6.0]", "< 0.001", "0.003", "tuned higher"]
    assert second[:5] == ["USMLE step 1", "94", "0.0 [-4.0, 4.5]", "0.400", "–"]
    assert second[5] == "base (NF4) chose A in 100% of its answers"


def test_what_all_rows_share_goes_to_the_caption_once():
    assert styled(TABLE, "Compared.").caption == "Compared. Study: made. Before: base (NF4)."
    assert styled(TABLE, "Study made.").caption == "Study made. Before: base (NF4)."
    assert "Study" in styled(TABLE.head(1)).heads, "one row shares nothing"


def test_a_table_read_from_its_csv_looks_the_same(tmp_path):
    TABLE.to_csv(tmp_path / "t.csv", index=False)
    again = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    assert styled(again, "x") == styled(TABLE, "x")


def test_nothing_is_left_of_nan_and_of_an_index():
    text = (
        forms.markdown(styled(TABLE)) + forms.html(styled(TABLE)) + latex.latex(styled(TABLE), "t")
    )
    assert "nan" not in text.lower() and "None" not in text and "1273.0" not in text


def test_latex_has_rules_and_as_many_columns_as_its_head():
    tex = latex.latex(styled(TABLE, "50 % of a_b & c."), "t")
    (form,) = re.findall(r"\\begin\{tabular\}\{(.+)\}$", tex, re.MULTILINE)
    assert form == "lrrrr>{\\raggedright\\arraybackslash}p{4.2cm}", (
        "long texts have lines of their own"
    )
    body = tex.split("\\toprule")[1].split("\\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert len(lines) == 3 and all(line.count(" & ") == 5 for line in lines)
    assert "\\midrule" in body and "\\caption{50 \\% of a\\_b \\& c." in tex
    assert tex.count("\\begin{") == tex.count("\\end{") == 2
    assert "$<$ 0.001" in tex and "[$-$4.0, 4.5]" in tex and "100\\%" in tex


def test_what_latex_lacks_or_takes_for_an_order_is_written_out():
    texts = ["[1] 日", "x ≥ 3 → µg", "a\x07 ~"]
    rows = latex.latex(styled(pd.DataFrame({"model": texts, "n": [1, 2, 3]})), "t")
    assert "{}[1] [U+65E5]" in rows and "x $\\geq$ 3 $\\rightarrow$ $\\mu$g" in rows
    assert "a[U+2407] \\textasciitilde{}" in rows


def test_a_long_latex_table_breaks_between_pages():
    tex = latex.latex(styled(pd.concat([TABLE] * 30)), "t")
    assert "\\begin{longtable}" in tex and "\\endfirsthead" in tex and "tabular" not in tex


def test_html_is_escaped_and_marks_numbers_and_quotes():
    rows = pd.DataFrame({"system": ["<b>x</b> †", "own"], "value_pct": [1, 22.5]})
    html = forms.html(styled(rows))
    assert "&lt;b&gt;x" in html and "<b>" not in html
    assert html.count('class="num"') == 3 and html.count('class="quoted"') == 1
    assert ">1.0<" in html and ">22.5<" in html


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("medqa_4 - pubmedqa", "MedQA - PubMedQA"),
        ("tuned above base-nf4", "tuned above base (NF4)"),
        ("data/medqa_4.jsonl and pubmed_causal stay", "data/medqa_4.jsonl and pubmed_causal stay"),
        ("base of nothing", "base of nothing"),
    ],
)
def test_short_names_in_a_sentence_are_written_out(given, written):
    assert names.text(given) == written


def test_names_that_nobody_listed_stay_as_they_are():
    assert names.BENCHMARKS.keys() >= benchmarks.BENCHMARKS.keys(), "each has a name in words"
    assert names.benchmark("riddles") == "riddles" and names.model("gpt-x") == "gpt-x"
    assert names.model("tuned-2-dpo-seed3") == "tuned, stage 2 (preferences), seed 3"
    assert columns.of("some_new_column").head == "Some new column"


def test_a_narrow_page_can_show_a_verdict_without_scrolling():
    long = pd.concat([TABLE] * 20, ignore_index=True)
    for table in (TABLE, long):
        html = forms.html(styled(table))
        cells = re.findall(r'<td[^>]*data-head="Reading">([^<]+)<', html)
        assert 'class="stack"' in html and len(cells) == len(table)
    assert "stack" not in forms.html(styled(long.drop(columns="reading"))), "too long for cards"


def test_numbers_of_several_units_each_have_their_decimals():
    rows = [
        {"measure": "loss (nats)", "reference": 0.05, "ours": 0.0647, "low": -0.047, "high": 0.176},
        {"measure": "refusals (points)", "reference": 30, "ours": 96.67, "low": 76.6, "high": 99.8},
        {"measure": "", "reference": None, "ours": None, "low": None, "high": None},
    ]
    made = styled(pd.DataFrame(rows))
    assert made.heads == ["Measure", "Reference", "Ours [interval]"]
    assert made.rows[0][1:] == ["0.050", "0.065 [-0.047, 0.176]"]
    assert made.rows[1][1:] == ["30.0", "96.7 [76.6, 99.8]"]
    assert made.rows[2][1:] == ["–", "–"] and made.right[1:] == [True, True]
