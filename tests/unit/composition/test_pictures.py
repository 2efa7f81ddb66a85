"""What the pictures of 01 draw: bars as high as the counts, and titles that the numbers write."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sm70lib.analysis import drawing
from sm70lib.composition import pictures, tables
from sm70lib.corpus.audit import CHECKS
from tests.composed import ASKED, FUNNEL, HELD, LENGTHS, NAMES


@pytest.fixture(autouse=True)
def style():
    drawing.style()
    yield
    plt.close("all")


def widths(fig) -> dict[str, list[float]]:
    """The lengths of the bars of each part, from the top."""
    [ax] = fig.axes
    return {part.get_label(): [bar.get_width() for bar in part] for part in ax.containers}


def labels(fig) -> list[str]:
    return [label.get_text() for label in fig.axes[0].get_yticklabels()]


def test_bars_are_the_rows_that_studies_take():
    fig = pictures.holdings(HELD)
    assert widths(fig) == {"cord19": [900, 90], "medqa": [100, 0]}
    second = fig.axes[0].containers[1]
    assert [bar.get_x() for bar in second] == [900, 90], "parts stand behind each other"
    assert labels(fig) == ["sm70", "sm70-small"]
    assert drawing.title_of(fig) == "sm70 takes 1,000 rows, 90% of them from cord19"


def test_bars_are_the_shares_of_positions():
    fig = pictures.answer_positions(tables.answer_positions(ASKED))
    assert widths(fig)["position 1"] == [0.25, 1, 0] and widths(fig)["position 10"] == [0, 0, 0.5]
    assert labels(fig) == ["MedQA", "TruthfulQA", "MMLU-Pro"]
    assert drawing.title_of(fig).endswith("most unequal in TruthfulQA, position 1 in 100% of items")
    none = pictures.answer_positions(tables.answer_positions({}))
    assert drawing.title_of(none).startswith("No benchmark has an accuracy")


def test_bars_are_the_rows_that_checks_dropped():
    fig = pictures.funnel(FUNNEL.assign(leak=[0, 3]), CHECKS)
    assert widths(fig) == {"duplicate": [2, 0], "leak": [0, 3]}, "other checks dropped none"
    assert labels(fig) == ["wikidoc", "practice questions"]
    assert drawing.title_of(fig) == "5 of 9 rows are dropped, most by the check leak (3)"
    clean = pictures.funnel(FUNNEL.assign(**dict.fromkeys(CHECKS, 0)), CHECKS)
    assert drawing.title_of(clean) == "No check dropped any of 9 rows"


def test_the_histogram_counts_every_row_of_every_source_before_the_cut():
    fig = pictures.token_lengths(LENGTHS, 20)
    [ax] = fig.axes
    counted = {part.get_label(): sum(bar.get_height() for bar in part) for part in ax.containers}
    assert counted == {"practice questions": 3, "wikidoc": 2}
    ends = [bar.get_x() + bar.get_width() for part in ax.containers for bar in part]
    assert max(ends) == pytest.approx(27), "20 tokens and 7 that were cut"
    assert ax.lines[0].get_xdata() == [20, 20] and ax.lines[0].get_label() == "limit (20 tokens)"
    assert drawing.title_of(fig) == "2 of 5 rows are longer than the limit of 20 tokens"
    colours = [part[0].get_facecolor() for part in ax.containers]
    assert colours[0] != colours[1]


def test_bars_are_the_shares_of_sources():
    shares = tables.source_shares(tables.with_tokens(FUNNEL, LENGTHS, NAMES))
    fig = pictures.source_shares(shares)
    drawn = widths(fig)
    assert drawn["rows"] == [0.4, 0.6] and drawn["tokens that carry loss"] == [0.7, 0.3]
    assert drawn["tokens"] == pytest.approx([35 / 77, 42 / 77])
    said = "Largest share of the loss: wikidoc, 70% of its tokens and 40% of the rows"
    assert drawing.title_of(fig) == said
    text = shares.rename(index={NAMES[0]: "text"}).assign(tokens=np.nan)
    assert widths(pictures.source_shares(text))["tokens"] == [0, 0], "of running text, not counted"


def test_more_parts_than_colours_are_told_apart_by_hatches():
    looks = {tuple(look.values()) for look in pictures._looks(24)}
    assert len(looks) == 24 and len(pictures._looks(30)) == 30
    assert {look["hatch"] for look in pictures._looks(6)} == {""}


def test_of_many_sources_the_largest_are_drawn_and_the_title_says_so():
    index = [f"source {number}" for number in range(50)]
    many = pd.DataFrame({"rows": 100, "leak": range(50)}, index)
    fig = pictures.funnel(many, ["leak"])
    assert widths(fig)["leak"] == list(range(10, 50)) and labels(fig)[0] == "source 10"
    assert drawing.title_of(fig).endswith("shown are the 40 largest of 50")
    shares = pd.DataFrame(dict.fromkeys(tables.MEASURES, 0.02), index)
    assert "40 largest of 50" in drawing.title_of(pictures.source_shares(shares))
    lengths = pd.DataFrame({"source": index, "tokens": range(50), "cut": 0})
    drawn = [pictures.token_lengths(lengths, 64), fig]
    for each in drawn:
        each.draw_without_rendering()
        assert each.axes[0].get_window_extent().height / each.dpi > 1 and each.get_figheight() < 12
