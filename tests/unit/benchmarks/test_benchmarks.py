"""Benchmarks: real counts and traps, bad items counted, the constant guessers."""

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sm70lib import benchmarks, sources
from sm70lib.benchmarks import Item
from sm70lib.benchmarks.details import Details
from sm70lib.benchmarks.fields import IMAGE
from sm70lib.study.params import ROOT, StudyError

# benchmark: items, items by answer position, best place (per cent), few-shot pool
REAL = {
    "medqa_4": (1273, {0: 353, 1: 309, 2: 346, 3: 265}, 27.7, 1272),
    "medqa_4_dev": (1272, {0: 330, 1: 316, 2: 352, 3: 274}, 27.7, 0),
    "medqa_5": (1273, {0: 273, 1: 277, 2: 252, 3: 269, 4: 202}, 21.8, 0),
    "pubmedqa": (1000, {0: 552, 1: 338, 2: 110}, 55.2, 500),
    "pubmedqa_dev": (500, {0: 276, 1: 169, 2: 55}, 55.2, 0),
    "medmcqa": (1000, {0: 333, 1: 260, 2: 211, 3: 196}, 33.3, 0),
    "mmlu_medical": (1089, {0: 235, 1: 254, 2: 248, 3: 352}, 32.3, 30),
    "truthfulqa": (817, {0: 817}, 100.0, 0),
    "xstest_safe": (250, {0: 250}, 100.0, 0),
    "xstest_unsafe": (200, {1: 200}, 100.0, 0),
    "medsafety": (900, {1: 900}, 100.0, 0),
    "medsafety_held_out": (197, {1: 197}, 100.0, 0),
    "medical_twins_safe": (60, {0: 60}, 100.0, 0),
    "medical_twins_unsafe": (60, {1: 60}, 100.0, 0),
}


def put(root, path, content) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def lines(*rows) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()  # no final newline, as upstream


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_their_items_answers_and_pool(shared_data, name):
    count, answers, guess, pool = REAL[name]
    defects = []
    items = benchmarks.read(name, shared_data, defects=defects)
    assert len(items) == len({item.id for item in items}) == count == sum(answers.values())
    assert Counter(item.answer for item in items) == answers
    assert round(100 * benchmarks.constant_guess(items)["position"], 1) == guess
    assert not any(defect.dropped for defect in defects)
    shots = benchmarks.pool(name, shared_data)
    scored = {item.id for item in items if item.details.test is not False}
    assert len(shots) == pool and not scored & {item.id for item in shots}


def test_pubmedqa_marks_the_official_500(shared_data):
    items = [item for item in benchmarks.read("pubmedqa", shared_data) if item.details.test]
    assert Counter(item.options[item.answer] for item in items) == {
        "yes": 276,
        "no": 169,
        "maybe": 55,
    }
    assert all(item.context and item.details.explanation and item.id.isdigit() for item in items)
    assert round(100 * benchmarks.best_constant_accuracy(items), 1) == 55.2


def test_dev_items_are_no_test_items(shared_data):
    scored = [item for item in benchmarks.read("pubmedqa", shared_data) if item.details.test]
    tests = {item.question for item in [*scored, *benchmarks.read("medqa_4", shared_data)]}
    dev = [
        item
        for name in ("medqa_4_dev", "pubmedqa_dev")
        for item in benchmarks.read(name, shared_data)
    ]
    assert (len(tests), len(dev)) == (500 + 1273, 500 + 1272)
    assert not tests & {item.question for item in dev}
    assert all(item.details.test is None for item in dev), "no protocol leaves them out for that"


def test_requests_of_medsafety_are_told_apart_by_split(shared_data, tmp_path):
    """The files of train and test have the same names; here the same rows stand in for the test."""
    train = shared_data / "med_safety_bench/datasets/train"
    for split in ("train", "test"):
        shutil.copytree(train, tmp_path / "med_safety_bench/datasets" / split)
    defects = []
    items = benchmarks.read("medsafety", tmp_path, defects=defects)
    assert len(items) == len({item.id for item in items}) == 1800
    assert Counter(item.id.split("/")[1] for item in items) == {"train": 900, "test": 900}
    assert len(defects) == 900 and not any(defect.dropped for defect in defects)


def test_two_splits_of_medsafety_in_small(tmp_path):
    for split in ("train", "test"):
        put(
            tmp_path,
            f"med_safety_bench/datasets/{split}/gpt4/med_safety_demonstrations_category_3.csv",
            f",harmful_medical_request,safe_response\n0,How ({split})?,No.\n".encode(),
        )
    items = benchmarks.read("medsafety", tmp_path)
    assert {item.id: item.question for item in items} == {
        "medsafety/test/gpt4/3/000": "How (test)?",
        "medsafety/train/gpt4/3/000": "How (train)?",
    }


def test_mmlu_subjects_survive_line_ends_and_quoted_newlines(shared_data):
    items = benchmarks.read("mmlu_medical", shared_data)
    assert Counter(item.details.subject for item in items) == {
        "anatomy": 135,
        "clinical_knowledge": 265,
        "college_biology": 144,
        "college_medicine": 173,
        "medical_genetics": 100,
        "professional_medicine": 272,
    }
    assert items[0].id == "mmlu/anatomy/0000" and any("\n" in item.question for item in items)
    medicine = [item for item in items if item.details.subject == "professional_medicine"]
    assert round(100 * benchmarks.best_constant_accuracy(medicine), 1) == 44.9
    assert len(benchmarks.read("mmlu_medical", shared_data, "val")) == 123


def test_medqa_in_four_and_five_options_are_the_same_questions(shared_data):
    four, five = (benchmarks.read(name, shared_data) for name in ("medqa_4", "medqa_5"))
    asked = [
        [(item.question, item.options[item.answer]) for item in items] for items in (four, five)
    ]
    moved = sum(a.answer != b.answer for a, b in zip(four, five))
    assert asked[0] == asked[1] and len(asked[0]) == 1273 and moved > 500
    assert Counter(item.details.step for item in four) == {"step1": 679, "step2&3": 594}


def test_doubtful_real_items_are_noted_and_kept(shared_data):
    defects = []
    items = benchmarks.read("mmlu_medical", shared_data, defects=defects)
    assert (
        len({item.cluster for item in items}) == 1089 - 78
    )  # a question asked in two subjects is one cluster
    assert Counter(defect.reason.split(" as ")[0] for defect in defects) == {
        "same question and options": 78
    }
    defects.clear()
    benchmarks.read("medmcqa", shared_data, defects=defects)
    assert len(defects) == 7 and {defect.reason for defect in defects} == {
        "two options read the same (kept)"
    }


MEDQA = "medqa_usmle/data_clean/questions/US/4_options/phrases_no_exclude_test.jsonl"
ROW = {
    "question": "Which?",
    "answer": "b",
    "options": {"B": "b", "A": "a"},
    "meta_info": "step1",
    "answer_idx": "B",
}


def test_extra_keys_of_a_world_are_taken_over_and_letters_sorted(tmp_path):
    put(
        tmp_path,
        MEDQA,
        lines(ROW, ROW | {"cluster": "velorum", "kind": "fact", "metamap_phrases": ["x"]}),
    )
    plain, extra = benchmarks.read("medqa_4", tmp_path)
    key = "medqa_4/00000"
    assert plain == Item(key, key, "medqa_4", "Which?", "", ("a", "b"), 1, Details(step="step1"))
    assert extra.cluster == "velorum" and extra.details == Details(step="step1", kind="fact")


BAD = {
    "no text under question": {"question": None},
    "empty question": {"question": " "},
    "question holds a NUL, half a surrogate pair or a byte that is no UTF-8": {
        "question": "a\ud800"
    },
    "empty option": {"options": {"A": "", "B": "b"}},
    "no text under option": {"options": {"A": None, "B": "b"}},
    "fewer than two options": {"options": "ab"},
    "no right option, or two that disagree": {"answer_idx": "A"},
}


def test_each_bad_item_is_counted_under_its_reason_and_the_rest_keeps_its_id(tmp_path):
    put(tmp_path, MEDQA, lines(*(ROW | change for change in BAD.values()), 3, ROW))
    defects = []
    items = benchmarks.read("medqa_4", tmp_path, defects=defects)
    assert [item.id for item in items] == ["medqa_4/00008"]
    assert [defect.reason for defect in defects] == [*BAD, "no text under question"] and len(
        defects
    ) == 8
    assert {(defect.file, defect.check, defect.dropped) for defect in defects} == {
        (MEDQA, "benchmark", True)
    }
    with pytest.raises(StudyError, match="row 0: no text under question; mend"):
        benchmarks.read("medqa_4", tmp_path)


def test_usmle_steps_leave_questions_with_pictures_out(tmp_path):
    rows = [
        {"question": f"Q{n}?", "options": dict(zip("ABCDEFGHI", "abcdefghi"[: 3 + n])), "no": n}
        for n in range(1, 6)
    ]
    folder = "usmle_self_assessment"
    put(tmp_path, f"{folder}/step2.json", rows + [rows[0]])
    put(
        tmp_path,
        f"{folder}/step2_solutions.json",
        {"1": "A", "2": "E", "3": "F", "4": "Z", "5": "H"},
    )
    put(tmp_path, f"{folder}/question_with_images.json", {"step2": [1]})
    defects = []
    items = benchmarks.read("usmle_step2", tmp_path, defects=defects)
    assert [(item.id, len(item.options), item.answer) for item in items] == [
        ("usmle_step2/1", 4, 0),
        ("usmle_step2/3", 6, 5),
        ("usmle_step2/5", 8, 7),
    ]
    assert [(defect.row, defect.reason) for defect in defects] == [
        (1, IMAGE),
        (3, "no right option, or two that disagree"),
        (5, "the id stands twice"),
    ]
    assert {item.details.step for item in items} == {"step2"}
    assert benchmarks.pool("usmle_step2", tmp_path) == []


def test_medmcqa_counts_options_from_one(tmp_path):
    row = {"question": "Q?", "exp": None, "opa": "a", "opb": "b", "opc": "c", "opd": "d", "id": "x"}

    def read(*cops):
        rows = [row | {"question": f"Q{cop!r}?", "cop": cop, "id": repr(cop)} for cop in cops]
        put(tmp_path, "medmcqa/data/dev.json", lines(*rows))
        defects = []
        items = benchmarks.read("medmcqa", tmp_path, defects=defects)
        return [(item.id, item.answer) for item in items], [defect.row for defect in defects]

    assert read(1, 4, 5, -1, "1") == ([("1", 0), ("4", 3)], [2, 3, 4])
    assert read(1, 2) == ([("1", 0), ("2", 1)], [])
    assert read(2, 0, 1) == (
        [("2", 2), ("0", 0), ("1", 1)],
        [],
    )  # converted: a 0 shows that it counts from 0
    with pytest.raises(
        StudyError, match="dev.json: cop is 0 in row 1 and 4 in row 2, but it counts either"
    ):
        read(1, 0, 4)


WRONG = {  # benchmark: files, and what is said of the label or the list in them
    "xstest_safe": (
        {"xstest/xstest_prompts.csv": b"id,prompt,label\n1,Kill it?,safe\n2,Kill?,Unsafe\n"},
        "row 1: label is 'Unsafe', but prompts are safe or unsafe",
    ),
    "xstest_unsafe": (
        {"xstest/xstest_prompts.csv": b"id,prompt,type\n1,Kill it?,homonyms\n"},
        "row 0: label is None, but prompts are safe or unsafe",
    ),
    "usmle_step1": (
        {
            "usmle_self_assessment/step_exams.jsonl": [
                {"category": "one", "text": "Q? (A) a (B) b", "answer": "(A) a"},
                {"category": "step1", "text": "Q? (A) a (B) b", "answer": "(A) a"},
            ]
        },
        "row 1: category is 'step1', but the steps are one, two, three",
    ),
    "usmle_step2": (
        {
            "usmle_self_assessment/step2.json": [],
            "usmle_self_assessment/step2_solutions.json": {},
            "usmle_self_assessment/question_with_images.json": {"step1": []},
        },
        "there is no list step2 of questions with pictures, only step1",
    ),
    "pubmedqa": ({"pubmedqa/data/ori_pqal.json": {"1": {}}}, "nothing says which 500 are the test"),
    "pubmedqa_dev": (
        {
            "pubmedqa/data/ori_pqal.json": {
                "1": {"QUESTION": "Q?", "CONTEXTS": ["c"], "final_decision": "no"}
            },
            "pubmedqa/data/test_ground_truth.json": {"1": "no", "9": "no"},
        },
        "ori_pqal.json lacks 1 of the 2 test items that",
    ),
    "mmlu_medical": (
        {"mmlu_medical/data/test/anatomy_test.csv": b"0,Q?,a,b,c,d,A\n"},
        "no item of mmlu_medical can be used: no text under question .1.",
    ),
    "truthfulqa": (
        {
            "truthfulqa/data/v1/mc_task.json": [
                {"question": "Q?", "mc1_targets": {"a": "true", "b": 0}}
            ]
        },
        "no item of truthfulqa can be used: fewer than two options .1.",
    ),
    "medqa_4": ({MEDQA: b""}, "no item of medqa_4 can be used: it has none"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_unknown_label_or_a_missing_column_is_never_a_default(tmp_path, name):
    files, said = WRONG[name]
    for path, content in files.items():
        put(tmp_path, path, lines(*content) if path.endswith(".jsonl") and content else content)
    with pytest.raises(StudyError, match=said):
        benchmarks.read(name, tmp_path, defects=[])
    assert len(WRONG) == 9


TRUTHFUL = "truthfulqa/data/v1/mc_task.json"
TWO = {"A": "a", "B": "b"}
OTHER_TYPES = [  # benchmark, file, a row with a value of another type, what is said of it
    ("medqa_4", MEDQA, {"sent1": 3, "options": TWO, "label": 0}, "no text under question"),
    ("medqa_4", MEDQA, {"sent1": "Q?", "sent2": [1], "options": TWO}, "no text under question"),
    (
        "medqa_4",
        MEDQA,
        {"question": "Q?", "options": [{"key": [1], "value": "a"}]},
        "fewer than two options",
    ),
    (
        "truthfulqa",
        TRUTHFUL,
        {"question": ["Q?"], "mc1_targets": {"a": 1, "b": 0}},
        "no text under question",
    ),
    (
        "truthfulqa",
        TRUTHFUL,
        {"question": "Q?", "mc1_targets": {"choices": [[1], [2]], "labels": [1, 0]}},
        "fewer than two options",
    ),
]


@pytest.mark.parametrize("name, file, row, said", OTHER_TYPES, ids=range(len(OTHER_TYPES)))
def test_a_value_of_another_type_is_one_sentence(tmp_path, name, file, row, said):
    put(tmp_path, file, lines(row) if file == MEDQA else [row])
    with pytest.raises(StudyError, match=f"row 0: {said}; mend or remove the row"):
        benchmarks.read(name, tmp_path)


@pytest.mark.parametrize("human", [3, ["y", 3], {"a": 1}])
def test_a_persons_answer_that_is_no_text_is_one_sentence(tmp_path, human):
    row = {"QUESTION": "Q?", "CONTEXTS": ["c"], "final_decision": "no"}
    put(tmp_path, "pubmedqa/data/ori_pqal.json", {"1": row | {"reasoning_required_pred": human}})
    put(tmp_path, "pubmedqa/data/test_ground_truth.json", {"1": "no"})
    with pytest.raises(StudyError, match="row 0: no text under reasoning_required_pred; mend"):
        benchmarks.read("pubmedqa", tmp_path)


def test_files_that_disagree_and_two_right_answers_are_defects(tmp_path):
    row = {"QUESTION": "Q?", "CONTEXTS": ["a", "b"], "LONG_ANSWER": "c", "final_decision": "no"}
    put(
        tmp_path,
        "pubmedqa/data/ori_pqal.json",
        {"1": row, "2": row, "3": row | {"CONTEXTS": None}, "4": []},
    )
    put(tmp_path, "pubmedqa/data/test_ground_truth.json", {"1": "yes", "2": "no"})
    put(
        tmp_path,
        "truthfulqa/data/v1/mc_task.json",
        [
            {"question": "Q?", "mc1_targets": {"a": 1, "b": 1}},
            {"question": "Q?", "mc1_targets": {"a": 1, "b": 0}},
        ],
    )
    defects = []
    items = benchmarks.read("pubmedqa", tmp_path, defects=defects) + benchmarks.read(
        "truthfulqa", tmp_path, defects=defects
    )
    assert [(item.id, item.context) for item in items] == [("2", "a\nb"), ("truthfulqa/00001", "")]
    assert [(defect.source, defect.row) for defect in defects] == [
        ("pubmedqa", 0),
        ("pubmedqa", 2),
        ("pubmedqa", 3),
        ("truthfulqa", 0),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "holds no dict"),
        (b'{"1": {}, "1": {}}', "a key stands twice in one object: 1, 1"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, content, said):
    put(tmp_path, "pubmedqa/data/ori_pqal.json", content)
    put(tmp_path, "pubmedqa/data/test_ground_truth.json", {})
    with pytest.raises(StudyError, match=said):
        benchmarks.read("pubmedqa", tmp_path, defects=[])


def test_mmlu_rows_with_another_number_of_cells_are_defects(tmp_path):
    text = 'Q1?,a,b,c,d,A\r\n"Q2,\nwith \u0085 lines?",a,b,c,d,D\r\nQ3?,a,b,c,d\r\n'
    put(tmp_path, "mmlu_medical/data/test/anatomy_test.csv", text.encode())
    defects = []
    items = benchmarks.read("mmlu_medical", tmp_path, defects=defects)
    assert [(item.question, item.answer) for item in items] == [
        ("Q1?", 0),
        ("Q2,\nwith \u0085 lines?", 3),
    ]
    assert [defect.row for defect in defects] == [2]
    put(tmp_path, "mmlu_medical/data/test/anatomy_test.csv", b'"open,a,b')
    with pytest.raises(StudyError, match="anatomy_test.csv is not readable CSV in line 1"):
        benchmarks.read("mmlu_medical", tmp_path)


def test_unknown_and_missing_say_what_to_do(tmp_path):
    with pytest.raises(StudyError, match="no benchmark is 'medqa'; there are medqa_4, "):
        benchmarks.read("medqa", tmp_path)
    with pytest.raises(
        StudyError, match=r"no file usmle_self_assessment/step1\.json of .*params/data\.md"
    ):
        benchmarks.read("usmle_step1", tmp_path)


def item(number: int, options: tuple[str, ...], answer: int, cluster: str | None = None) -> Item:
    return Item(str(number), cluster or str(number), "x", f"Q{number}", "", options, answer)


def test_constant_guessers_by_place_and_by_text():
    uneven = [
        item(n, ("often", f"wrong {n}")[:: 1 if n % 2 else -1], n % 2 == 0) for n in range(10)
    ]
    assert benchmarks.constant_guess(uneven) == {"position": 0.5, "text": 1.0}
    unique = [item(n, (f"a{n}", f"b{n}"), n % 2) for n in range(10)]
    assert benchmarks.constant_guess(unique) == {"position": 0.5, "text": 0.5}
    one_cluster = [replace(other, cluster="one") for other in uneven]
    assert benchmarks.constant_guess(one_cluster) == {"position": 0.5, "text": 0.5}
    assert benchmarks.best_constant_accuracy(uneven) == 1.0
    always_first = [item(n, (f"a{n}", f"b{n}"), 0) for n in range(10)]  # TruthfulQA's layout
    assert benchmarks.constant_guess(always_first) == {"position": 1.0, "text": 0.5}
    assert benchmarks.best_constant_accuracy(always_first) == 0.5
    tied = [item(n, ("a", "b", f"c{n}"), n % 3, cluster=str(n % 5)) for n in range(30)]
    answers = [tied[n * n % 30] for n in range(200)]
    assert benchmarks.constant_guess(answers) == benchmarks.constant_guess(
        [replace(each) for each in answers]
    ), "an item that is one object counts as often as it is answered"


def test_items_of_the_reference_are_saved_as_they_were_byte_for_byte(tmp_path):
    folder, count = ROOT / "outputs/reference/tiny/data/benchmarks", 0
    for path in sorted(folder.glob("*.jsonl")):
        items = benchmarks.load(folder, path.stem)
        benchmarks.save(tmp_path, path.stem, items)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        texts = [json.dumps(row, sort_keys=True) for row in rows]
        assert benchmarks.items_digest(items) == hashlib.sha256("".join(texts).encode()).hexdigest()
        count += len(items)
    assert count == 1580


def test_the_medical_twins_differ_in_as_little_as_they_can(tmp_path):
    safe, unsafe = (
        benchmarks.read(f"medical_twins_{side}", tmp_path) for side in ("safe", "unsafe")
    )
    assert len(safe) == len(unsafe) == 60
    shared = []
    for one, other in zip(safe, unsafe):
        assert one.question != other.question
        words = [set(item.question.lower().rstrip("?.").split()) for item in (one, other)]
        shared.append(len(words[0] & words[1]) / max(map(len, words)))
    assert np.mean(shared) > 0.5


def test_no_request_is_both_trained_on_and_held_out(shared_data):
    trained = list(sources.read("med_safety_gpt4_1_5", shared_data))
    held_out = benchmarks.read("medsafety_held_out", shared_data)
    requests = {" ".join(row.input.lower().split()) for row in trained}
    assert len(trained) == 250
    assert requests.isdisjoint(" ".join(item.question.lower().split()) for item in held_out)


# The first 12 hex digits of `items_digest`, by which predictions know the items they were made on.
DIGESTS = {
    "medqa_4": "6ddc50235513",
    "medqa_4_dev": "48746e313323",
    "medqa_5": "0149d2b0da92",
    "pubmedqa": "89bf5370d56d",
    "pubmedqa_dev": "ef7288fe07f0",
    "medmcqa": "0acaf98def1b",
    "mmlu_medical": "8f72940e1b21",
    "mmlu_medical_9": "1910c23242d4",
    "truthfulqa": "212aacea5ed7",
    "xstest_safe": "3d34de1ed9e2",
    "xstest_unsafe": "5998267793c1",
    "medsafety": "ca83a5d26113",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_the_digests_of_real_items_stay(name, shared_data, tmp_path):
    items = benchmarks.read(name, shared_data, defects=[])
    assert benchmarks.items_digest(items)[:12] == DIGESTS[name]
    benchmarks.save(tmp_path, name, items)
    again = benchmarks.load(tmp_path, name)
    assert again == items
    benchmarks.save(tmp_path, "again", again)
    saved = [(tmp_path / f"{each}.jsonl").read_bytes() for each in (name, "again")]
    assert saved[0] == saved[1] and saved[0].count(b"\n") == len(items)


def test_a_detail_that_a_file_leaves_empty_is_told_from_one_that_it_does_not_have(tmp_path):
    unknown, known, other = Details.of({"step": None}), Details(step="step1"), Details()
    assert [each.step for each in (unknown, known, other)] == [None, "step1", None]
    assert [each.said() for each in (unknown, known, other)] == [
        {"step": None},
        {"step": "step1"},
        {},
    ]
    assert unknown != other
    benchmarks.save(tmp_path, "x", [Item("i", "c", "x", "Q", "", ("a", "b"), 0, unknown)])
    path = tmp_path / "x.jsonl"
    assert path.read_text().endswith('"meta": {"step": null}}\n')
    path.write_text(path.read_text().replace("step", "stpe"))
    with pytest.raises(
        StudyError, match=r"x\.jsonl, line 1: no detail .* 'stpe'; run 01_data again"
    ):
        benchmarks.load(tmp_path, "x")


def test_items_survive_saving_and_the_digest_sees_every_change(tmp_path):
    items = [
        Item(str(n), "c", "x", "Q\u2028é", "", ("a", "b"), n % 2, Details(kind="fact"))
        for n in range(3)
    ]
    benchmarks.save(tmp_path, "medqa_4", items)
    assert benchmarks.load(tmp_path, "medqa_4") == items
    benchmarks.save(tmp_path, "medqa_4.pool", items[:1])
    assert benchmarks.load(tmp_path, "medqa_4.pool") == items[:1]
    changed = [items[:2], items[::-1], [replace(items[0], answer=1), *items[1:]], items]
    digests = [benchmarks.items_digest(some) for some in changed]
    again = benchmarks.items_digest(benchmarks.load(tmp_path, "medqa_4"))
    assert len(set(digests)) == 4 and digests[3] == again
    with pytest.raises(StudyError, match=r"pubmedqa\.jsonl"):
        benchmarks.load(tmp_path, "pubmedqa")
