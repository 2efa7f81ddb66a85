"""Each rule on questions as exams ask them, and what a table by rule counts."""

import numpy as np
import pandas as pd
import pytest

from sm70lib.analysis import frames
from sm70lib.benchmarks import Item
from sm70lib.mistakes import by_rule, rules
from sm70lib.mistakes.coverage import coverage
from sm70lib.mistakes.rules import Case
from sm70lib.statistics import stats
from tests import synthetic

HOW = stats.How(resamples=200)
OPTIONS = ("aspirin", "ibuprofen", "heparin", "warfarin")


def case(question="Which drug?", options=OPTIONS, gold=0, context="", **answer):
    item = Item("i/1", "i/1", "medqa_4", question, context, tuple(options), gold)
    return Case(item, answer.pop("choice", 0), gold, **answer)


@pytest.mark.parametrize(
    ("rule", "holds", "fails"),
    [
        (
            rules.near_miss,
            [case(scores=(-1.0, -1.6, -9, -9)), case(scores=(-1.6, -1.0, -9, -9))],
            [case(scores=(-1.0, -1.8, -9, -9)), case(scores=(-9, -1.0, -1.1, -9)), case()],
        ),
        (
            rules.position_bias,
            [case(choice=2, favourite=2)],
            [case(choice=1, favourite=2), case(choice=None, favourite=None)],
        ),
        (
            rules.negated_stem,
            [
                case("All of the following are branches of the aorta EXCEPT:"),
                case("A man has a cough. Which drug is NOT a likely cause?"),
                case("Which is least likely to help?"),
                case("Which of these statements is false?"),
                case("Insensible loss does not come from:"),
                case("A patient couldn't sleep. Which drug shouldn't he take?"),
            ],
            [
                case("He does not smoke. Which drug is best?"),
                case("What is the best explanation for the patient not being affected?"),
                case("What determines whether or not a vaccine works?"),
                case("Which nothing? Which note?"),
            ],
        ),
        (
            rules.calculation,
            [
                case("Give 200 mg over 4 hours. At what rate?", ("50 mg/h", "5", ".5 mg", "< 1")),
                case("590 of 600 with and 20 of 600 without?", ("98%", "2 %", "$5", "10:1")),
            ],
            [
                case("Give 200 mg over 4 hours. At what rate?", ("50 mg/h", "5", "fast", "1")),
                case("Which chromosome?", ("5", "7", "18", "21")),
            ],
        ),
        (
            rules.lab_values,
            [
                case("Na+ 127 mEq/L, K+ 7.2 meq/L. What next?"),
                case("Leukocyte count is 13,000/mm3 and creatinine 1.4 mg/dL."),
                case("AST 53 U/L.", context="Uric acid 8 mg/dL was found."),
            ],
            [
                case("Blood pressure is 150/88 mm Hg and pulse is 80/min."),
                case("Creatinine is 1.4 mg/dL. Give 20 mg daily."),
            ],
        ),
        (
            rules.long_stem,
            [case("word " * 151), case("word " * 100, context="word " * 51)],
            [case("word " * 150)],
        ),
        (
            rules.shared_words,
            [case("Aspirin and heparin: which of both?", gold=1)],
            [case("Aspirin: which is it?", gold=0), case("Heparin? Aspirin?", gold=0), case()],
        ),
        (rules.unread, [case(choice=None)], [case(choice=0)]),
    ],
)
def test_a_rule_holds_where_it_says(rule, holds, fails):
    assert rule in {each.holds for each in rules.RULES}
    assert [each for each in holds if not rule(each)] == []
    assert [each for each in fails if rule(each)] == []


def test_every_rule_has_cases_above():
    marks = test_a_rule_holds_where_it_says.pytestmark[0].args[1]
    assert {rule for rule, _, _ in marks} == {each.holds for each in rules.RULES}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    made = frames.frame(synthetic.study(tmp_path_factory.mktemp("rules"), world=False))
    scores = [[score / 3 for score in each] for each in made["loglikelihoods"]]  # nearer by far
    return made.assign(loglikelihoods=scores, margin=made["margin"] / 3)


def test_marks_agree_with_the_rules_answer_by_answer(answers):
    marks = rules.marks(answers)
    assert list(marks) == [rule.name for rule in rules.RULES] and len(marks) == len(answers)
    near = answers["margin"] < rules.NEAR  # the best two
    right_near = answers["correct"].astype(bool) & near
    assert marks.loc[right_near, "near miss"].all()
    assert not marks.loc[answers["correct"].astype(bool) & ~near, "near miss"].any()
    for _, run in answers.groupby(frames.RUN):
        favourite = run["choice"].mode()[0]
        assert (marks.loc[run.index, "position bias"] == (run["choice"] == favourite)).all()


def test_a_rule_and_its_opposite_add_up_to_the_run(answers):
    marks = rules.marks(answers)
    table = by_rule.by_rule(answers, marks, HOW)
    assert set(table["rule"]) == {"near miss", "position bias"}
    sizes = answers.groupby(frames.RUN).size().rename("size").reset_index()
    both = table.merge(sizes, on=frames.RUN)
    assert len(both) == len(table) > 30 and (both["n"] + both["n_else"] == both["size"]).all()
    judged = table[table["n"] >= by_rule.FEWEST]
    shares = 100 * (1 - judged["wrong"] / judged["n"])
    assert np.allclose(shares, judged["acc_pct"], atol=0.06) and len(judged) > 20
    few = table[table["n"] < by_rule.FEWEST]
    assert few["acc_pct"].isna().all()


def test_requests_are_no_exam_questions(answers):
    requests = answers.assign(benchmark="xstest_safe", choice=np.nan)
    marks = rules.marks(requests)
    assert marks["unread"].all() and not marks.drop(columns="unread").to_numpy().any()


def test_the_surest_mistakes_are_wrong_and_sorted_and_quote_no_question(answers):
    table = by_rule.confident(answers, rules.marks(answers), 7)
    assert (table.groupby("model").size() == 7).all() and (table["chosen"] != table["right"]).all()
    for model, part in table.groupby("model"):
        wrong = answers[(answers["model"] == model) & ~answers["correct"].astype(bool)]
        surest = wrong["confidence"].nlargest(7).round(3).tolist()
        assert part["confidence"].tolist() == surest
    assert "question" not in table and not table.astype(str).map(lambda x: "Which" in x).any(
        axis=None
    )
    shown = by_rule.with_texts(table, answers)
    assert len(shown) == len(table) and shown["question"].str.startswith("Which").all()
    assert (shown["answer"] != shown["right answer"]).all()


def test_of_several_draws_the_surest_wrong_one_is_shown_in_words(answers):
    once = answers.query("model == 'tuned' and protocol == 'harness' and benchmark == 'medqa_4'")
    other = (once["gold"] + 2) % 4  # another wrong answer, and a surer one
    surer = once.assign(choice=other, correct=False, confidence=0.99, seed=43)
    draws = pd.concat([once.assign(choice=(once["gold"] + 1) % 4, correct=False), surer])
    draws = draws.reset_index(drop=True)
    table = by_rule.confident(draws, rules.marks(draws), 5)
    assert set(table["seed"]) == {43} and set(table["sample"]) == {0}
    shown = by_rule.with_texts(table, draws)
    assert len(shown) == len(table) == 5
    letters = [synthetic.OPTIONS.index(text) for text in shown["answer"]]
    assert list(map(by_rule.letter, letters)) == table["chosen"].tolist()


def test_two_ways_count_the_items_that_both_asked(answers):
    table = by_rule.two_ways(answers, "sm70-2023")
    sums = table[["both right", "only the first", "only the second", "both wrong"]].sum(axis=1)
    assert (sums == table["n"]).all() and len(table) == 3 * 5
    row = table.query("model == 'tuned' and benchmark == 'medqa_4'").iloc[0]
    part = answers.query("model == 'tuned' and benchmark == 'medqa_4'")
    first = part[part["protocol"] == "sm70-2023"]["correct"].sum()
    assert row["both right"] + row["only the first"] == first
    assert (row["read_a"], row["read_b"]) == ("likelihood", "likelihood")


def test_what_a_model_writes_is_text_and_has_no_confidence(answers):
    written = answers.assign(parsed=[["B"]] * len(answers), confidence=np.nan)
    both = pd.concat(
        [answers[answers["protocol"] == "harness"], written[written["protocol"] == "sm70-2023"]]
    )
    table = by_rule.two_ways(both, "harness")
    assert set(table["read_a"]) == {"likelihood"} and set(table["read_b"]) == {"text"}
    assert by_rule.confident(written, rules.marks(written)).empty
    assert coverage(written, HOW).empty


def test_the_surest_answers_grow_to_all_of_them(answers):
    table = coverage(answers, HOW)
    whole = table[table["coverage_pct"] == 100].set_index(frames.RUN)
    accuracy = 100 * answers.groupby(frames.RUN)["correct"].mean()
    assert np.allclose(whole["acc_pct"], accuracy.loc[whole.index].astype(float), atol=0.06)
    for _, part in table.groupby(frames.RUN):
        assert part["n"].is_monotonic_increasing and part["confidence"].is_monotonic_decreasing
        assert part["n"].min() >= by_rule.FEWEST
