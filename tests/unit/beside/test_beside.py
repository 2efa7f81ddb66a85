"""Two made-up studies beside each other."""

import json

import pandas as pd
import pytest

from sm70lib.analysis import drawing, frames
from sm70lib.beside import pictures, scores
from sm70lib.statistics import stats
from sm70lib.steps.steps import write_json
from tests import synthetic

HOW = stats.How(resamples=200)
SIZES = {"medqa_4": 60, "pubmedqa": 30}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Study `one` answers well, study `two` badly, both the same questions."""
    folder = tmp_path_factory.mktemp("beside")
    synthetic.study(folder, "one", world=False, sizes=SIZES)
    synthetic.study(folder, "two", world=False, sizes=SIZES, skill={"base": 0.3, "tuned": 0.3})
    shared = {"seed": 0, "lora_r": 16, "figures_dpi": 150, "stats_level": 0.95}
    write_json(folder / "one/manifest.json", {"parameters": shared | {"study": "one"}})
    other = shared | {"study": "two", "lora_r": 64, "figures_dpi": 300, "data_limit": 9}
    write_json(folder / "two/manifest.json", {"parameters": other})
    return folder


@pytest.fixture(scope="module")
def answers(outputs):
    return frames.load(outputs, ["one", "two"])


def test_only_parameters_that_affect_results_are_said_to_differ(outputs):
    table = scores.changed(outputs / "one", outputs / "two")
    assert table.to_numpy().tolist() == [["data_limit", "–", "9"], ["lora_r", "16", "64"]]
    assert scores.changed(outputs / "one", outputs / "one").empty


def test_the_difference_is_that_of_the_accuracies_on_the_same_items(answers):
    table = scores.paired(answers, "one", "two", HOW).set_index(scores.PLACE)
    assert set(table.index.get_level_values("model")) == {"base", "tuned"}, "two has no base-nf4"
    row = table.loc[("tuned", "medqa_4", "sm70-2023", 0)]
    part = answers.query("model == 'tuned' and benchmark == 'medqa_4' and protocol == 'sm70-2023'")
    accuracy = 100 * part.groupby("study")["correct"].mean()
    assert row["n"] == 60 and row["this_pct"] == pytest.approx(accuracy["one"], abs=0.06)
    assert row["difference_pts"] == pytest.approx(accuracy["one"] - accuracy["two"], abs=0.06)
    assert row["low_pts"] > 0 and row["reading"] == "one higher"
    back = scores.paired(answers, "two", "one", HOW).set_index(scores.PLACE)
    turned = back.loc[("tuned", "medqa_4", "sm70-2023", 0)]
    assert turned["reading"] == "one higher"
    assert turned["low_pts"] == pytest.approx(-row["high_pts"], abs=0.11)


def test_items_of_one_id_with_another_text_are_not_the_same(answers, outputs):
    path = outputs / "two/data/benchmarks/medqa_4.jsonl"
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines[:20]:
        line["question"] += " Really?"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    changed = frames.load(outputs, ["one", "two"])
    path.write_text(text)
    table = scores.paired(changed, "one", "two", HOW)
    assert set(table.loc[table["benchmark"] == "medqa_4", "n"]) == {40}
    assert set(table.loc[table["benchmark"] == "pubmedqa", "n"]) == {30}


def test_unread_replies_give_no_difference(answers):
    silent = answers.assign(choice=answers["choice"].where(answers["study"] == "one"))
    table = scores.paired(silent, "one", "two", HOW)
    assert table["difference_pts"].isna().all() and table["reading"].str.contains(r"\(two\)").all()


def test_the_pictures_say_what_they_found(answers, outputs):
    drawing.style()
    table = scores.paired(answers, "one", "two", HOW)
    apart = ((table["low_pts"] > 0) | (table["high_pts"] < 0)).sum()
    title = drawing.title_of(pictures.differences(table, "one", "two"))
    assert title == f"one minus two: {apart} of {len(table)} scores differ" and apart >= 1
    title = drawing.title_of(pictures.courses(outputs / "one", outputs / "two"))
    assert title.startswith("Training of one beside two: held-out loss at the end 0.")
    empty = pd.DataFrame(columns=table.columns)
    assert "no answers to the same items" in drawing.title_of(
        pictures.differences(empty, "one", "two")
    )
    assert "trained no stage" in drawing.title_of(pictures.courses(outputs, outputs))
