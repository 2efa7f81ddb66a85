"""Numbers of tables, traced to the answers that they count."""

import json
from types import SimpleNamespace

import pytest

from sm70lib.__main__ import main
from sm70lib.analysis import accuracies, comparisons, frames, slices, tables
from sm70lib.mistakes import by_rule, rules, trace
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
