"""An exam of the user's own: the same items from every layout, and all rows decide how to count."""

import csv
import io
import json

import pandas as pd
import pytest

from sm70lib import benchmarks, preflight, protocols
from sm70lib.asking import runs
from sm70lib.sources import wordings
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError
from tests import small

TEXTS = ["Fever", "Rash", "Cough", "Pain"]
ANSWERS = (0, 3, 1, 2)  # positions of the right options


def questions() -> list[str]:
    return [f"Which sign is number {n}?" for n in range(len(ANSWERS))]


def read(tmp_path, rows, name="mine.json", defects=None) -> list[benchmarks.Item]:
    path = tmp_path / name
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
        path.write_text(text.getvalue())
    else:
        path.write_text(json.dumps(rows))
    return benchmarks.read(str(path), ROOT, defects=defects)


def options(column: str) -> dict[str, str]:
    return {column.format(letter): text for letter, text in zip("abcd", TEXTS)}


# By layout: the fields of a row for its question and the position of its right option
LAYOUTS = {
    "mapping, letter": lambda q, n: {
        "question": q, "options": dict(zip("ABCD", TEXTS)), "answer": "ABCD"[n]},
    "mapping, letter and text": lambda q, n: {
        "question": q, "options": dict(zip("ABCD", TEXTS)), "answer": TEXTS[n],
        "answer_idx": "ABCD"[n]},
    "mapping with numbers for labels": lambda q, n: {
        "question": q, "options": {str(k): text for k, text in enumerate(TEXTS, 1)},
        "answer": str(n + 1)},
    "list, from 0": lambda q, n: {"question": q, "choices": TEXTS, "answer": n},
    "list, from 1": lambda q, n: {"question": q, "choices": TEXTS, "answer": n + 1},
    "list, text": lambda q, n: {"stem": q, "options": TEXTS, "correct": TEXTS[n]},
    "objects": lambda q, n: {
        "question": q, "options": [{"key": k, "value": v} for k, v in zip("ABCD", TEXTS)],
        "answer_idx": "abcd"[n]},
    "ARC's": lambda q, n: {
        "question": q, "choices": {"text": TEXTS, "label": list("ABCD")}, "answerKey": "ABCD"[n]},
    "columns A to D": lambda q, n: {
        "Question": q, **{k.upper(): v for k, v in options("{}").items()},
        "Answer": f"({'ABCD'[n]})"},
    "option_a, cop": lambda q, n: {"question": q, **options("option_{}"), "cop": n + 1},
    "opa, cop": lambda q, n: {"question": q, **options("op{}"), "cop": n},
    "context": lambda q, n: {"context": "A case.", "question": q, **options("choice_{}"),
                             "label": "ABCD"[n]},
}  # fmt: skip


@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_items(tmp_path, layout, ending):
    rows = [LAYOUTS[layout](q, n) for q, n in zip(questions(), ANSWERS)]
    items = read(tmp_path, rows, f"mine.{ending}")
    before = "A case.\n" if layout == "context" else ""
    assert [item.question for item in items] == [before + q for q in questions()]
    assert {item.options for item in items} == {tuple(TEXTS)}
    assert tuple(item.answer for item in items) == ANSWERS
    assert [item.id for item in items] == [f"mine/{n:05}" for n in range(4)]
    assert {item.benchmark for item in items} == {"mine"} and len(LAYOUTS) == 12


def exam(*answers, texts=TEXTS) -> list[dict]:
    return [
        {"question": f"Which {n}?", "choices": texts, "answer": answer}
        for n, answer in enumerate(answers)
    ]


def test_an_option_whose_column_has_another_name_is_missed_and_said(tmp_path):
    """Every question would be asked without it. One such answer alone is a slip in its row."""
    rows = [{"question": f"{n}?", "A": "x", "B": "y", "*C": "z", "answer": "C"} for n in (1, 2)]
    with pytest.raises(StudyError, match="the answer is C in 2 rows, and no row has an option C"):
        read(tmp_path, rows, defects=[])
    doubts: list = []
    assert len(read(tmp_path, [rows[0], rows[1] | {"answer": "B"}], defects=doubts)) == 1
    assert len(doubts) == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (exam(1, 2, 3), "read as numbers from 0 or as numbers from 1, and nothing says which"),
        (exam("1", "2"), "read as numbers from 0 or as numbers from 1"),
        (exam(0, 2, 4), "the answer is 0 in row 0 and 4 in row 2, and no one reading"),
        (exam("A", "Cough"), "the answer is 'A' in row 0 and 'Cough' in row 1, and no one reading"),
        (
            exam("2", "3", texts=["1", "2", "3", "4"]),
            "numbers from 0 or as numbers from 1 or as texts of options",
        ),
    ],
)
def test_answers_that_can_be_read_in_several_ways_or_in_none_are_one_sentence(tmp_path, rows, said):
    with pytest.raises(StudyError, match="write them as letters") as error:
        read(tmp_path, rows, defects=[])
    assert said in str(error.value) and "\n" not in str(error.value)
    study = {"study": "mine", "eval_benchmarks": [str(tmp_path / "mine.json")]}
    study |= {"eval_primary_benchmarks": study["eval_benchmarks"]}
    loaded = params.load(ROOT / "params/tiny.yml", overrides=study)
    with pytest.raises(StudyError, match="write them as letters"):
        preflight.require_own(loaded, ["01_data"])


def test_one_row_that_decides_is_enough(tmp_path):
    assert [item.answer for item in read(tmp_path, exam(1, 2, 4))] == [0, 1, 3]
    assert [item.answer for item in read(tmp_path, exam(1, 2, 0))] == [1, 2, 0]
    blood = ["A", "B", "AB", "O"]
    assert [item.answer for item in read(tmp_path, exam("A", "AB", texts=blood))] == [0, 2]


def test_an_item_that_cannot_be_used_is_listed_with_its_reason(tmp_path):
    rows = [
        *exam("A", "", "Z", -1, None),
        {"question": "", "choices": TEXTS, "answer": "A"},
        {"question": "One?", "choices": TEXTS[:1], "answer": "A"},
        {"question": "Many?", "choices": [f"text {n}" for n in range(11)], "answer": "B"},
        {"question": "Blank?", "choices": ["Fever", " "], "answer": "A"},
        {
            "question": "Which?",
            "choices": TEXTS,
            "answer_idx": "B",
            "answer": "C",
        },
        [],
    ]
    defects = []
    (item,) = read(tmp_path, rows, defects=defects)
    assert item.answer == 0 and {defect.source for defect in defects} == {"mine"}
    assert {defect.row: defect.reason for defect in defects} == {
        **dict.fromkeys((1, 2, 3, 4, 9), "no right option, or two that disagree"),
        5: "no text under question",
        6: "fewer than two options",
        7: "more than 10 options",
        8: "empty option",
        10: "no text under question",
    }


def test_an_exam_without_a_usable_item_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="no item of .*mine.json can be used: no right option"):
        read(tmp_path, exam("Z", "Y"), defects=[])


def asked(
    tmp_path, name: str, protocols_asked: list[str], shots: list[int], caps: dict | None = None
) -> list[runs.Run]:
    items = read(tmp_path, exam("A", "B", "C", "D"))
    benchmarks.save(tmp_path, "mine", items)
    benchmarks.save(tmp_path, "mine.pool", benchmarks.pool(name, ROOT))
    p = small.parameters(
        eval_benchmarks=[name],
        eval_protocols=protocols_asked,
        eval_shots=shots,
        eval_limit=None,
        eval_caps=caps or {},
    )
    return runs.runs(p, tmp_path)


def test_protocols_that_suit_any_exam_ask_it_and_others_are_refused(tmp_path):
    name = str(tmp_path / "mine.json")
    every = [protocol.name for protocol in protocols.PROTOCOLS]
    found = asked(tmp_path, name, every, [0])
    covered = {run.protocol.name for run in found}
    assert covered >= {"harness", "as-trained", "sm70-2023", "generate"}
    assert not covered & {"meditron", "question-only", "safety", "harness-mc2"}
    assert {run.name for run in found} >= {"mine-harness-0", "mine-as-trained-0"}
    (run,) = [run for run in found if run.protocol.name == "harness"]
    assert run.protocol.prompt(run.items[0]) == (
        "Question: Which 0?\nA. Fever\nB. Rash\nC. Cough\nD. Pain\nAnswer:"
    )
    with pytest.raises(StudyError, match="none of meditron, safety covers mine with"):
        asked(tmp_path, name, ["meditron", "safety"], [0])


def test_shots_of_an_own_exam_are_its_first_items_which_are_not_scored(tmp_path):
    (run,) = asked(tmp_path, str(tmp_path / "mine.json"), ["harness"], [1])
    assert [shot.question for shot in run.pool] == ["Which 0?"]
    assert [item.question for item in run.items] == ["Which 1?", "Which 2?", "Which 3?"]


def test_a_cap_names_an_own_exam_by_its_path(tmp_path):
    name = str(tmp_path / "mine.json")
    (run,) = asked(tmp_path, name, ["harness"], [0], caps={name: 2})
    assert len(run.items) == 2


def test_numbers_and_letters_count_empty_options_too(tmp_path):
    """The third of four is the third, whether or not the second is empty."""
    columns = {"A": "Fever", "B": "", "C": "Cough", "D": "Pain"}
    whole = {"A": "Fever", "B": "Rash", "C": "Cough", "D": "Pain"}
    for answer, decides in ((2, 0), (3, 4), ("(C)", "(D)")):
        rows = [{"question": "Which?", **columns, "answer": answer}]
        rows.append({"question": "And which?", **whole, "answer": decides})
        first, _ = read(tmp_path, rows, "mine.csv")
        assert first.options == ("Fever", "Cough", "Pain")
        assert first.options[first.answer] == "Cough", answer


def test_columns_may_be_numbered_from_0(tmp_path):
    rows = [
        {"question": q, **{f"option{n}": text for n, text in enumerate(TEXTS)}, "answer": "ABCD"[n]}
        for q, n in zip(questions(), ANSWERS)
    ]
    items = read(tmp_path, rows)
    assert {item.options for item in items} == {tuple(TEXTS)}
    assert tuple(item.answer for item in items) == ANSWERS


def test_a_question_with_more_columns_than_options_allowed_is_left_out_and_said(tmp_path):
    many = {letter: f"option {letter}" for letter in "ABCDEFGHIJKL"}
    few = dict(zip("ABCD", TEXTS)) | dict.fromkeys("EFGHIJKL", "")
    rows = [{"question": q, **cells, "answer": "A"} for q, cells in zip("xy", (many, few))]
    defects = []
    (item,) = read(tmp_path, rows, "mine.csv", defects)
    assert item.options == tuple(TEXTS)
    assert [defect.reason for defect in defects] == ["more than 10 options"]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("mine.csv", "question,A,B,answer\nFieber?,ja,nein,A\nHöhe?,ja,nein,B\n"),
        (
            "mine.jsonl",
            '{"question": "Fieber?", "options": ["ja", "nein"], "answer": "A"}\n'
            '{"question": "Wo?", "options": ["Höhe", "nein"], "answer": "B"}\n',
        ),
    ],
)
def test_a_file_in_another_encoding_is_refused_whole(tmp_path, name, rows):
    path = tmp_path / name
    path.write_bytes(rows.encode("cp1252"))
    with pytest.raises(StudyError, match="is no UTF-8 .row 1 has a byte .* save it as UTF-8"):
        benchmarks.read(str(path), ROOT, defects=[])


@pytest.mark.parametrize("mark", [";", "\t"])
def test_cells_may_be_separated_as_spreadsheets_of_other_countries_do(tmp_path, mark):
    path = tmp_path / "mine.csv"
    lines = ["question", "A", "B", "answer"], ['"How, and why?"', "so", "thus", "B"]
    path.write_text("\n".join(map(mark.join, lines)) + "\n")
    (item,) = benchmarks.read(str(path), ROOT, defects=[])
    assert (item.question, item.options, item.answer) == ("How, and why?", ("so", "thus"), 1)


def test_options_are_asked_in_their_own_characters():
    options = {"A": "5\u00a0mg", "B": "می\u200cشود", "C": "it's \ufffd", "D": "a\n\u3000b"}
    asked = wordings.bracketed("How much", options)
    assert asked == (
        "Q:How much? \n{'A': '5\u00a0mg', 'B': 'می\u200cشود', 'C': \"it's \ufffd\", "
        "'D': 'a\\n\u3000b'},"
    )
    plain = {"A": "it's", "B": 'a "b"', "C": "back\\slash", "D": "é"}
    assert wordings.bracketed("x", plain) == f"Q:x? \n{plain},", "as Meadow has it"
