"""Numbers of tables, traced to the answers that they count."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from sm70lib import benchmarks
from sm70lib.__main__ import main
from sm70lib.analysis import accuracies, comparisons, frames, slices, tables
from sm70lib.mistakes import by_rule, narrow, rules, trace
from sm70lib.mistakes.coverage import coverage
from sm70lib.parameters import aggregates
from sm70lib.statistics import stats
from sm70lib.study.params import StudyError
from tests import synthetic

HOW = stats.How(resamples=200)
SIZES = {"medqa_4": 40, "usmle_step1": 20, "usmle_step2": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study with the tables that 05 and 06 write."""
    made = synthetic.study(tmp_path_factory.mktemp("trace"), sizes=SIZES)
    answers = frames.frame(made)
    results = accuracies.results(answers, HOW)
    first = results[results["protocol"] == "sm70-2023"]
    parameters = SimpleNamespace(
        **vars(synthetic.PARAMS) | {"eval_primary_benchmarks": ["medqa_4"]}
    )
    quotes = accuracies.quoted.read()
    wide = accuracies.wide(first, aggregates.names(first["benchmark"], members=False), quotes)
    pooled = aggregates.names(answers["benchmark"], [aggregates.POOLED], members=False)
    counted = frames.named(answers, pooled)
    both = frames.paired(counted, "base-nf4", "tuned")
    written = {
        "results": results,
        "paper": wide,
        "comparisons": comparisons.comparisons(answers, parameters, HOW),
        "contamination_effect": comparisons.contamination_effect(answers, HOW),
        "errors_by_slice": slices.by_slice(counted, HOW),
        "errors_flips": slices.flips(both, HOW),
        "errors_reliability": slices.reliability(counted),
        "errors_rules": by_rule.by_rule(counted, rules.marks(counted), HOW),
        "errors_two_ways": by_rule.two_ways(counted, "sm70-2023"),
    }
    for name, table in written.items():
        tables.write(table, made / "tables", name, "A table.")
    return made, written


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("results", "n"),
        ("results", "correct"),
        ("comparisons", "n"),
        ("contamination_effect", "n_flagged"),
        ("contamination_effect", "n_clean"),
        ("errors_by_slice", "n"),
        ("errors_flips", "gained"),
        ("errors_flips", "both wrong"),
        ("errors_reliability", "n"),
        ("errors_rules", "n"),
        ("errors_rules", "wrong"),
        ("errors_rules", "n_else"),
        ("errors_two_ways", "only the first"),
    ],
)
def test_as_many_items_stand_behind_a_number_as_it_says(folder, name, column):
    made, written = folder
    table = written[name].reset_index(drop=True)
    checked = 0
    for place in table.index[table[column] > 0][:: max(1, len(table) // 12)]:
        _, found = trace.behind(made, name, str(place + 1), column)
        assert found["item_id"].nunique() == table.loc[place, column], (name, place)
        checked += 1
    assert checked >= 2


STEMS = ("A 71-year-old woman coughs.", "A 30-year-old man coughs.", "Someone coughs.")
UNREAD = {"loglikelihoods": None, "choice": None, "choice_norm": None, "correct": False}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """A study of 60 questions about patients, of which each model left five replies unread."""
    made = synthetic.study(tmp_path_factory.mktemp("clinic"), world=False, sizes={"medqa_4": 60})
    asked = synthetic.items("medqa_4", 60, world=False)
    told = [replace(item, question=STEMS[place % 3]) for place, item in enumerate(asked)]
    benchmarks.save(made / "data/benchmarks", "medqa_4", told)
    for path in made.glob("predictions/*/*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [row | (UNREAD if number % 12 == 5 else {}) for number, row in enumerate(rows)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = frames.frame(made)
    written = {
        "errors_by_slice": slices.by_slice(answers, HOW),
        "errors_coverage": coverage(answers, HOW),
        "errors_habits": slices.habits(answers),
        "errors_calibration": slices.calibration(answers),
        "errors_confident": by_rule.confident(answers, rules.marks(answers)),
        "errors": slices.listing(frames.paired(answers, "base-nf4", "tuned")),
    }
    for name, table in written.items():
        tables.write(table, made / "tables", name, "A table.")
    return made, written


@pytest.mark.parametrize(
    "name", ["errors_by_slice", "errors_coverage", "errors_habits", "errors_calibration"]
)
def test_exactly_the_answers_behind_a_row_are_found(clinic, name):
    made, written = clinic
    table = written[name]
    assert {"patient_age", "patient_sex"} <= set(table.get("slice", narrow.SLICES))
    for place, row in enumerate(table.itertuples()):
        _, found = trace.behind(made, name, str(place + 1), "n")
        assert found["item_id"].nunique() == row.n, row
        if pd.notna(getattr(row, "acc_pct", None)):
            assert 100 * found["correct"].mean() == pytest.approx(row.acc_pct, abs=0.051)
        if name == "errors_coverage":
            assert found["confidence"].min() == pytest.approx(row.confidence, abs=0.00051)
    assert place >= 5


def test_numbers_of_pairs_of_like_length_are_about_these_pairs_alone():
    texts = [("No.", "Because it rains."), ("Yes.", "Not.")]
    pairs = [
        benchmarks.Item(f"p/{number}", f"p/{number}", "public_pairs", "Why?", "", both, 0)
        for number, both in enumerate(texts)
    ]
    run = dict.fromkeys(frames.RUN, "x")
    answers = pd.DataFrame({"item": pairs, "item_id": ["p/0", "p/1"], "flagged": False} | run)
    for column, found in {
        "n": ["p/0", "p/1"],
        "n_alike": ["p/1"],
        "acc_alike_pct": ["p/1"],
    }.items():
        assert narrow.narrowed(answers, run, column)["item_id"].tolist() == found


def test_a_row_about_one_mistake_leads_to_its_answers(clinic):
    made, written = clinic
    sure = written["errors_confident"].iloc[3]
    _, found = trace.behind(made, "errors_confident", "4", "confidence")
    assert found["item_id"].tolist() == [sure.item_id] and found["model"].tolist() == [sure.model]
    wrong = written["errors"].iloc[3]
    _, found = trace.behind(made, "errors", "4", "confidence_b")
    assert found["model"].tolist() == ["base-nf4", "tuned"]
    assert set(found["item_id"]) == {wrong.item_id}


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"ward": "north"}, "it is not known here which answers ward of this table chooses"),
        ({"slice": "ward", "value": "north"}, "there is no slice 'ward' any more"),
        ({"rule": "too hard"}, "there is no rule 'too hard' any more"),
    ],
)
def test_a_row_that_is_about_fewer_answers_than_could_be_found_is_refused(clinic, cells, why):
    made, _ = clinic
    run = {"study": "made", "model": "tuned", "benchmark": "medqa_4", "protocol": "harness"}
    pd.DataFrame([run | {"shots": 0} | cells | {"n": 12}]).to_csv(
        made / "tables/errors_mine.csv", index=False
    )
    with pytest.raises(StudyError, match=f"tables/errors_mine.csv of study made, 1, n: {why}"):
        trace.behind(made, "errors_mine", "1", "n")


def test_a_cell_of_the_paper_table_is_traced_by_its_benchmark(folder):
    made, written = folder
    row = "model=tuned,source=study made"
    cells, found = trace.behind(made, "paper", row, "usmle")
    assert set(found["benchmark"]) == {"usmle"} and len(found) == 44
    right = 100 * found["correct"].mean()
    assert cells["usmle"].startswith(f"{right:.1f} [") and cells["usmle"].endswith("n=44")
    cleaned = f"model={accuracies.CLEANED}"
    cells, found = trace.behind(made, "paper", cleaned, "medqa_4")
    assert not found["flagged"].any() and cells["medqa_4"].endswith(f"n={len(found)}")


def test_a_line_says_where_the_answer_stands(folder):
    made, _ = folder
    row = "model=tuned,benchmark=usmle_step2,protocol=harness,subset=all"
    *answers, last = trace.text(made, "results", row, "n").split("\n")[1:]
    assert len(answers) == 24 and last.startswith("24 answers to 24 items, ")
    place, item_id, said = answers[6].split("  ")
    path, number = place.rsplit(":", 1)
    line = json.loads((made / path).read_text().splitlines()[int(number) - 1])
    assert line["item_id"] == item_id
    letters = "".join(chr(65 + line[name]) for name in ("choice", "gold"))
    verdict = "right" if line["correct"] else "wrong"
    assert said == f"answer {letters[0]}, right {letters[1]}: {verdict}"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nothing", "1", "n"), "has no table nothing; it has comparisons, "),
        (("results", "1", "m"), "has no column m; it has study, model"),
        (("results", "0", "n"), "0 is 0 of "),
        (("results", "model=tuned", "n"), "model=tuned is .* rows; name exactly one"),
        (("results", "modle=tuned", "n"), "no column 'modle'; a row is a number from 1"),
        (("paper", f"model={accuracies.GUESSER}", "medqa_4"), "the guesser answers nothing"),
        (("paper", "model=tuned", "shots"), "choose the column of a benchmark"),
    ],
)
def test_what_cannot_be_traced_is_said_in_one_sentence(folder, arguments, why):
    with pytest.raises(StudyError, match=why):
        trace.text(folder[0], *arguments)


def test_the_command_prints_the_answers_or_one_sentence(folder, monkeypatch, capsys):
    made, _ = folder
    monkeypatch.setenv("SM70_OUTPUTS", str(made.parent))
    (made / "manifest.json").write_text("{}")
    row = "model=tuned,benchmark=usmle,protocol=harness,subset=all"
    assert main(["trace", "made", "results", row, "n"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "tables/results.csv, n: 44" and len(printed) == 1 + 44 + 1
    assert main(["trace", "lost", "results", row, "n"]) == 2
    assert "study lost has no results; these have: made" in capsys.readouterr().err
