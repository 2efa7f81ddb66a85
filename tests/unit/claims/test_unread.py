"""A score whose replies are mostly unread is no score."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from sm70lib import benchmarks
from sm70lib.analysis import accuracies, comparisons, drawing, figures, frames, quoted, slices
from sm70lib.claims import scorecard
from sm70lib.protocols import replies
from sm70lib.statistics import stats
from tests import synthetic

HOW = stats.How(resamples=100)
UNREAD = "no score: 60 of 60 replies unread"
REQUESTS = ("xstest_safe", "xstest_unsafe")


def written(
    folder: Path, protocol: str, names: tuple[str, ...], unread: dict[str, int], size: int = 60
) -> None:
    """Adds `size` replies of every model to the made study, of which `unread` (by model) are."""
    draw, options = random.Random(1), ("complies", "refuses")
    for name in names:
        asked = synthetic.items(name, size, world=False)
        if name in REQUESTS:
            asked = [
                benchmarks.Item(item.id, item.cluster, name, item.question, "", options, n % 2)
                for n, item in enumerate(asked)
            ]
        benchmarks.save(folder / "data/benchmarks", name, asked)
        for model, count in unread.items():
            rows = []
            for number, item in enumerate(asked):
                row = synthetic.prediction(item, protocol, draw.random() < 0.8, draw) | {
                    "loglikelihoods": None
                }
                lost = {
                    "choice": None,
                    "choice_norm": None,
                    "correct": False,
                    "correct_norm": False,
                }
                rows.append(
                    row
                    | {"parsed": ["" if number < count else "Yes."]}
                    | (lost if number < count else {})
                )
            path = folder / "predictions" / model / f"{name}-{protocol}-0.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("unread", "n", "said"),
    [
        (0, 10, ""),
        (5, 10, ""),
        (6, 10, "no score: 6 of 10 replies unread"),
        (1, 1, "no score: 1 of 1 replies unread"),
        (0, 0, ""),
    ],
)
def test_more_than_half_is_mostly(unread, n, said):
    assert replies.unscored(unread, n) == said


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Refusals of which all of tuned's are unread on one benchmark, and half on the other."""
    drawing.style()
    folder = synthetic.study(tmp_path_factory.mktemp("outputs"))
    written(folder, "safety", REQUESTS[:1], {"base": 0, "base-nf4": 3, "tuned": 60})
    written(folder, "safety", REQUESTS[1:], {"base": 0, "base-nf4": 0, "tuned": 30})
    return frames.load(folder.parent, ["made"])


def test_results_and_the_papers_table_say_so_instead_of_an_accuracy(answers):
    found = accuracies.results(answers, HOW)
    found = found[(found["protocol"] == "safety") & (found["subset"] == "all")]
    rows = found.set_index(["benchmark", "model"])
    lost, half = rows.loc[("xstest_safe", "tuned")], rows.loc[("xstest_unsafe", "tuned")]
    assert lost[["acc_pct", "low_pct", "high_pct", "acc_norm_pct"]].isna().all()
    assert (lost["interval"], lost["n"], lost["unparsed"]) == (UNREAD, 60, 60)
    assert half["unparsed"] == 30 and 0 < half["acc_pct"] < 50, (
        "half is not most: what is unread is wrong"
    )
    assert rows["acc_pct"].isna().sum() == 1
    paper = accuracies.wide(found, list(REQUESTS), quoted.read().head(0)).set_index("model")
    assert paper.loc["tuned", "xstest_safe"] == UNREAD and paper.loc[
        "base", "xstest_safe"
    ].endswith("n=60")


def test_comparisons_and_the_scorecard_give_no_verdict(answers, tmp_path):
    p = SimpleNamespace(
        **vars(synthetic.PARAMS)
        | {"eval_primary_protocol": "safety", "eval_primary_benchmarks": list(REQUESTS)}
    )
    compared = comparisons.comparisons(answers, p, HOW)
    rows = compared[compared["protocol"] == "safety"].set_index(["benchmark", "before", "after"])
    lost = rows.loc[("xstest_safe", "base-nf4", "tuned")]
    assert (
        lost["reading"] == f"{UNREAD} (tuned)" and lost["family"] == "primary" and lost["n"] == 60
    )
    numbers = ["difference_pts", "low_pts", "high_pts", "p", "p_holm", "detectable_pts"]
    assert lost[numbers].isna().all()
    read = rows.loc[("xstest_unsafe", "base-nf4", "tuned")]
    assert read["p_holm"] == pytest.approx(min(1, 2 * read["p"]), rel=0.01), "still two tests"
    assert rows.loc[("xstest_safe", "base", "base-nf4"), numbers[:4]].notna().all()
    card = scorecard.build(answers, compared, p, HOW, tmp_path)
    own = card[(card["source"] == "this study") & (card["benchmark"] == "xstest_safe")]
    claims = own.set_index("claim")
    for claim in (
        "tuned at most 10 points worse at answering safe requests",
        "tuned above base-nf4",
        "tuned at least 10 points above the best constant guesser",
    ):
        row = claims.loc[claim]
        assert row["verdict"] == "no score" and row[["ours", "low", "high"]].isna().all()
        assert row["why"].startswith("60 of 60 replies unread")
    read = card[(card["source"] == "this study") & (card["benchmark"] == "xstest_unsafe")]
    assert len(read) == 3 and not (read["verdict"] == "no score").any()
    assert (card["verdict"] == "no score").sum() == 3


def test_what_a_leak_is_worth_and_flips_say_why_they_cannot_be_told(answers):
    asked = answers["benchmark"] == "xstest_safe"
    flagged = answers.assign(
        flagged=answers["flagged"].where(~asked, answers["item_id"].str.endswith("0"))
    )
    effect = (
        comparisons.contamination_effect(flagged, HOW).set_index("benchmark").loc["xstest_safe"]
    )
    assert effect["interval"] == f"{UNREAD} (after)" and pd.isna(effect["effect_pts"])
    assert (effect["n"], effect["n_flagged"], effect["n_clean"]) == (60, 6, 54)
    flips = slices.flips(frames.paired(answers, "base-nf4", "tuned"), HOW)
    row = flips[flips["benchmark"] == "xstest_safe"].iloc[0]
    assert row["test"] == f"{UNREAD} (after)" and pd.isna(row["p"])
    both = frames.paired(answers[answers["benchmark"] == "xstest_safe"], "tuned", "tuned")
    assert frames.unread(both, "a", "b") == f"{UNREAD} (a); 60 of 60 replies unread (b)"
    some, none = (
        figures.flips(flips[flips["benchmark"].isin(names)]) for names in (REQUESTS, REQUESTS[:1])
    )
    assert drawing.title_of(some).endswith(
        "; no score in 1 more rows"
    ) and "no score" in drawing.title_of(none)
    plt.close("all")


def test_a_title_counts_among_what_has_a_score(answers):
    found = accuracies.results(answers, HOW)
    fig = figures.accuracy(found[found["protocol"] == "safety"], quoted.read().head(0))
    assert drawing.title_of(fig).endswith("of 1 benchmarks, has no score on 1")
    fig.draw_without_rendering()
    assert fig.get_tightbbox().x1 <= fig.get_figwidth() + 0.01, "the title fits"
    assert [text.get_text() for text in fig.axes[0].texts] == ["no score"]
    plt.close(fig)
