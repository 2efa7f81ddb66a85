"""The item-level frame and every way of cutting it, on a made-up study whose answers are known."""

import json
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sm70lib import benchmarks
from sm70lib.analysis import comparisons, frames, slices
from sm70lib.asking.asked_items import of_items
from sm70lib.benchmarks.details import Details
from sm70lib.claims import estimates
from sm70lib.statistics import stats
from sm70lib.study.params import StudyError
from tests import synthetic

HOW = stats.How(resamples=200)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return frames.frame(synthetic.study(tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="module")
def both(answers):
    return frames.paired(answers, "base-nf4", "tuned")


def lines(folder, change):
    """Rewrites one prediction file line by line; the file's path."""
    path = folder / "predictions" / "tuned" / "medqa_4-harness-0.jsonl"
    rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_frame_has_a_row_for_every_prediction_with_its_item(answers):
    runs = len(synthetic.SKILL) * len(synthetic.PROTOCOLS)
    assert len(answers) == sum(synthetic.SIZES.values()) * runs == 2160
    assert answers.groupby(frames.RUN).size().nunique() == len(synthetic.SIZES)
    row = answers.iloc[0]
    assert (row["item"].id, row["kind"], row["options"], row["study"]) == (
        row["item_id"],
        "known",
        4,
        "made",
    )
    assert answers["flagged"].sum() == 20 * runs
    assert answers["cluster"].nunique() == 30


def test_confidence_margin_and_brier_follow_from_the_loglikelihoods(answers):
    for row in answers.sample(50, random_state=0).itertuples():
        share = np.exp(row.loglikelihoods) / np.exp(row.loglikelihoods).sum()
        truth = np.eye(len(share))[row.gold]
        assert row.confidence == pytest.approx(share[row.choice]) == share.max()
        assert row.margin == pytest.approx(np.log(share.max() / np.sort(share)[-2]))
        assert row.brier == pytest.approx(((share - truth) ** 2).sum())


def test_questions_without_a_cluster_are_their_own(tmp_path):
    answers = frames.frame(
        synthetic.study(tmp_path, world=False, sizes={"medqa_4": 12, "pubmedqa": 12})
    )
    assert answers["cluster"].nunique() == 24 and answers["kind"].isna().all()


def test_broken_line_unknown_item_and_no_predictions_are_said_in_one_sentence(tmp_path):
    folder = synthetic.study(tmp_path, sizes={"medqa_4": 8})
    path = lines(folder, lambda row: row)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(
        StudyError, match="tuned/medqa_4-harness-0.jsonl, line 8 .* run 04_eval again"
    ):
        frames.frame(folder)
    folder = synthetic.study(tmp_path, "other", sizes={"medqa_4": 8})
    lines(folder, lambda row: row | {"item_id": f"{row['item_id']}99"})
    with pytest.raises(StudyError, match="'medqa_4.*99' is not in data/benchmarks/medqa_4.jsonl"):
        frames.frame(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="empty/predictions is empty; run 04_eval"):
        frames.frame(tmp_path / "empty")


def test_an_unparsed_answer_without_loglikelihoods_goes_through(tmp_path):
    folder = synthetic.study(tmp_path, sizes={"medqa_4": 8})
    unparsed = {"loglikelihoods": [], "choice": None, "choice_norm": None, "correct": False}
    lines(folder, lambda row: row | unparsed)
    answers = frames.frame(folder)
    assert answers["confidence"].isna().sum() == 8
    assert len(slices.habits(answers)) == len(slices.calibration(answers)) == 5  # of 6 runs
    assert len(slices.listing(frames.paired(answers, "base", "tuned"))) > 0


def test_slices_are_those_that_vary_and_add_up(answers):
    table = slices.by_slice(answers, HOW)
    # In one file, step and number of options are the same, and so are the options of PubMedQA
    assert set(table["slice"]) == {"kind", "position"}
    assert "pubmedqa" not in set(table.loc[table["slice"] == "position", "benchmark"])
    sums = table[table["slice"] == "kind"].groupby(frames.RUN)["n"].sum()
    assert (sums.to_numpy() == answers.groupby(frames.RUN).size().to_numpy()).all() and len(
        sums
    ) == 30
    query = "model == 'tuned' and benchmark == 'medqa_4' and protocol == 'harness' and "
    one, row = (
        answers.query(query + "kind == 'fact'"),
        table.query(query + "value == 'fact'").iloc[0],
    )
    assert row["acc_pct"] == round(100 * one["correct"].mean(), 1)


def test_length_stands_in_bands_and_few_items_are_not_judged(answers):
    run = answers[(answers["model"] == "tuned") & (answers["benchmark"] == "medqa_4")]
    run = run[run["protocol"] == "harness"]
    long = [replace(item, context="word " * 120) for item in run["item"]]
    items = [*long[:9], *run["item"][9:]]
    table = slices.by_slice(run.assign(item=items), HOW).query("slice == 'length'")
    assert table["value"].tolist() == ["1 to 25", "101 to 150"] and table["n"].tolist() == [111, 9]
    assert table["acc_pct"].notna().tolist() == [True, False]
    assert table["interval"].iloc[1] == "fewer than 10 items"


def test_length_of_a_question_without_spaces_is_that_of_its_characters(answers):
    item = answers["item"].iloc[0]
    assert slices.words(replace(item, question="发热，" * 30, context="with CT")) == 62
    assert slices.words(replace(item, question="Is 1.5 mg - or x-ray?", context="")) == 6


def test_flips_count_what_changed(both):
    table = slices.flips(both, HOW)
    counts = table[["both right", "gained", "lost", "both wrong"]]
    assert (counts.sum(axis=1) == table["n"]).all() and len(table) == 5 * 2 * 3
    assert (
        table["gained"].sum()
        == ((~both["correct_a"].astype(bool)) & both["correct_b"].astype(bool)).sum()
    )
    strong = table[(table["benchmark"] == "medqa_4") & (table["protocol"] == "sm70-2023")]
    assert (strong["p"] < 0.05).all() and (strong["gained"] > strong["lost"]).all()


def test_habits_show_a_favourite_position_and_a_taste_for_length(tmp_path):
    folder = synthetic.study(tmp_path, sizes={"medqa_4": 40})
    lines(folder, lambda row: row | {"choice": 1, "choice_norm": 0, "correct": row["gold"] == 1})
    table = slices.habits(frames.frame(folder)).set_index(["model", "protocol"])
    row = table.loc["tuned", "harness"]
    assert (row["favourite"], row["favourite_chosen_pct"], row["agree_pct"]) == ("B", 100, 0)
    sizes = [len(text) for text in ("velaquene", "a longer option", "mid", "x|y & <b>x</b>")]
    assert row["chosen_length"] == pytest.approx(sizes[1] / np.mean(sizes), abs=0.01)


def test_an_exam_of_ones_own_in_pubmedqas_form_has_no_favourite_position(answers):
    part = answers[answers["benchmark"] == "medqa_4"]
    assert len(slices.habits(part)) > 0
    items = [replace(item, benchmark="pubmedqa") for item in part["item"]]
    assert slices.habits(part.assign(benchmark="mine", item=items)).empty


def test_calibration_error_is_zero_where_confidence_is_the_accuracy():
    rows = [{"confidence": 0.75, "correct": number % 4 < 3} for number in range(40)]
    rows += [{"confidence": 0.25, "correct": number % 4 == 0} for number in range(40)]
    run = {"study": "s", "model": "m", "benchmark": "b", "protocol": "p", "shots": 0}
    answers = pd.DataFrame(rows).assign(margin=1.0, brier=0.4, **run)
    answers = answers.assign(item_id=range(80), cluster=range(80))
    assert slices.calibration(answers)["ece_pts"].tolist() == [0]
    sure = answers.assign(confidence=1.0)
    assert slices.calibration(sure)["ece_pts"].tolist() == [50]
    assert slices.reliability(sure)["bin"].tolist() == [9]


def test_reliability_bins_hold_every_answer(answers):
    bins = slices.reliability(answers)
    assert bins["n"].sum() == len(answers)
    assert bins["confidence_pct"].between(10 * bins["bin"], 10 * bins["bin"] + 10).all()


def test_intervals_of_a_tenth_allow_for_clusters_as_those_of_slices_do(answers):
    alone = answers.assign(cluster=answers["item_id"])
    wide, narrow = (slices.reliability(part, HOW) for part in (answers, alone))
    assert (wide["acc_pct"] == narrow["acc_pct"]).all()
    assert set(narrow["interval"]) == {"Wilson"} and "Wilson, effective n" in set(wide["interval"])
    assert (wide["high_pct"] - wide["low_pct"]).sum() > (
        narrow["high_pct"] - narrow["low_pct"]
    ).sum()
    row = wide.iloc[0]
    part = answers.merge(wide.iloc[[0]][frames.RUN])
    part = part[(10 * part["confidence"]).astype(int).clip(upper=9) == row["bin"]]
    expected = frames.accuracy(part, HOW)
    assert [row[name] for name in expected if name != "acc_pct"] == [
        expected[name] for name in expected if name != "acc_pct"
    ]


def test_listing_holds_every_wrong_answer_with_its_text(both):
    wrong = slices.listing(both)
    assert len(wrong) == (both["outcome"] != "both right").sum() > 0
    gained = wrong[wrong["outcome"] == "gained"]
    assert (gained["after"] == gained["gold"]).all() and (gained["before"] != gained["gold"]).all()


def test_an_unread_reply_stands_in_the_listing_with_its_first_words(tmp_path):
    folder = synthetic.study(tmp_path, sizes={"medqa_4": 8})
    said = {
        "medqa_4/001": ["I would\n say " + "so " * 60],
        "medqa_4/002": [" "],
        "medqa_4/003": ["B", "A"],
    }
    unread = {"loglikelihoods": None, "choice": None, "choice_norm": None, "correct": False}
    lines(
        folder,
        lambda row: (
            row | (unread | {"parsed": said[row["item_id"]]} if row["item_id"] in said else {})
        ),
    )
    both = frames.paired(frames.frame(folder), "base", "tuned")
    listed = slices.listing(both[both["protocol"] == "harness"]).set_index("item_id")
    after = listed.loc[list(said), "after"].tolist()
    assert (
        after[0].startswith("unread: I would say so so")
        and len(after[0]) == len("unread: ") + slices.SHOWN
    )
    assert after[1:] == ["unread: empty reply", "unread: B"]
    assert set(listed.loc[list(said), "outcome"]) <= {"lost", "both wrong"}
    before = slices.listing(frames.paired(frames.frame(folder), "tuned", "base"))
    assert before["before"].str.startswith("unread: ").sum() == 3


def test_n_counts_items_not_items_times_seeds(answers):
    """Three draws on the same items are three draws: neither n nor the interval gains by them."""
    once = answers[(answers["benchmark"] == "medqa_4") & (answers["protocol"] == "harness")]
    thrice = pd.concat([once.assign(seed=seed) for seed in (1, 2, 3)], ignore_index=True)
    for table in (
        lambda x: slices.by_slice(x, HOW),
        slices.habits,
        slices.reliability,
        slices.calibration,
    ):
        pd.testing.assert_frame_equal(table(thrice), table(once), check_dtype=False)
    some, same = (slices.flips(frames.paired(x, "base", "tuned"), HOW) for x in (once, thrice))
    pd.testing.assert_frame_equal(some, same, check_dtype=False)
    differ = thrice.assign(correct=thrice["correct"] & (thrice["seed"] != 3))
    counts = slices.flips(frames.paired(differ, "base", "tuned"), HOW)[
        ["n", *frames.OUTCOMES.values()]
    ]
    assert counts["n"].tolist() == [40] * 3
    assert counts.iloc[:, 1:].sum(axis=1).tolist() == pytest.approx([40] * 3, abs=0.3)
    items = frames.by_item(differ[differ["model"] == "tuned"], ["correct"])
    assert len(items) == 120 and set((3 * items["correct"]).round(6)) == {0, 2}


def test_a_constant_model_is_named_unless_the_key_is_constant_too(answers):
    part = answers[(answers["benchmark"] == "medqa_4") & (answers["model"] == "tuned")]
    assert frames.habit(part) is None
    place, share, read = frames.habit(part.assign(choice=1.0))
    assert (place, share, len(read)) == (1, 1, len(part))
    assert frames.habit(part.assign(choice=1.0, gold=1)) is None, "always right is no habit"
    refusals = part.assign(choice=1.0, benchmark="xstest_safe")
    assert frames.habit(refusals) is None, "a refusal is no letter"


def test_tables_and_scorecard_say_of_the_same_models_that_they_are_constant(answers):
    """Two rules disagreed where one position is right 97 times of 100, and about refusals."""
    part = answers[(answers["benchmark"] == "medqa_4") & (answers["model"] == "tuned")]
    nearly = [0 if place == 0 else 1 for place in range(len(part))]
    for case, said in (
        (part.assign(choice=1.0), True),
        (part.assign(choice=1.0, gold=nearly), False),
        (part.assign(choice=1.0, benchmark="xstest_safe"), False),
        (part, False),
    ):
        both = case.assign(choice_a=case["choice"], choice_b=part["choice"])
        gap = stats.Estimate(0.0, -0.1, 0.1, len(part), "")
        told = comparisons.reading(both, ("a", "choice_a"), ("b", "choice_b"), gap)
        assert told.startswith("no verdict: a chose B in 100%") == said
        assert ("100% of its answers are" in estimates.constant(case)) == said


def test_an_item_is_shown_as_its_protocol_asked_it(tmp_path):
    """TruthfulQA's mc2 has other options than mc1: choices point into those."""
    folder = synthetic.study(tmp_path)
    item = benchmarks.Item(
        "t/1",
        "t/1",
        "truthfulqa",
        "Is it?",
        "",
        ("It is", "No"),
        0,
        Details(mc2={"It is": 1, "Yes": 1, "No": 0}),
    )
    benchmarks.save(folder / "data/benchmarks", "truthfulqa", [item])
    line = synthetic.prediction(item, "harness-mc2", True, random.Random(0)) | {
        "choice": 2,
        "choice_norm": 2,
        "correct": False,
    }
    (folder / "predictions/tuned/truthfulqa-harness-mc2-0.jsonl").write_text(
        json.dumps(line) + "\n"
    )
    row = frames.frame(folder).set_index("item_id").loc["t/1"]
    assert row["item"].options == ("It is", "Yes", "No") and row["options"] == 3


def test_each_item_is_looked_at_once_whoever_answered_it(answers):
    seen = []
    found = of_items(answers["item"], lambda item: seen.append(item) or item.id)
    assert found == answers["item_id"].tolist() and len(seen) < len(answers)
    assert len(seen) == len({id(item) for item in answers["item"]})
    assert of_items([], len) == []
