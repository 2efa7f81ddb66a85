"""Layouts: whatever form a benchmark or source comes in, file or hub, it gives the same items."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from sm70lib import benchmarks, sources
from sm70lib.corpus import overlap
from sm70lib.sources.records import load_json, records, table
from sm70lib.study.params import StudyError

US = "medqa_usmle/data_clean/questions/US/4_options/phrases_no_exclude_test.jsonl"


def parquet(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def same(name: str, shared_data: Path, root: Path, count: int) -> None:
    """Both folders give the same `count` items."""
    here, there = (benchmarks.read(name, folder, defects=[]) for folder in (shared_data, root))
    assert len(here) == count and here == there


def test_pubmedqa_of_the_hub_is_the_authors(shared_data, tmp_path):
    rows = load_json(shared_data / "pubmedqa/data/ori_pqal.json", dict)
    hub = [
        {
            "pubid": int(key),
            "question": row["QUESTION"],
            "context": {
                "contexts": row["CONTEXTS"],
                "labels": row["LABELS"],
                "meshes": row["MESHES"],
                "reasoning_required_pred": list(row["reasoning_required_pred"]),
            },
            "long_answer": row["LONG_ANSWER"],
            "final_decision": row["final_decision"],
        }
        for key, row in rows.items()
    ]
    parquet(tmp_path / "pubmedqa/pqa_labeled/train-00000-of-00001.parquet", hub)
    with pytest.raises(
        StudyError,
        match="nothing says which 500 are the test; put the authors' test_ground_truth.json",
    ):
        benchmarks.read("pubmedqa", tmp_path)
    listed = (shared_data / "pubmedqa/data/test_ground_truth.json").read_bytes()
    (tmp_path / "pubmedqa/test_ground_truth.json").write_bytes(listed)
    same("pubmedqa", shared_data, tmp_path, 1000)
    items = benchmarks.read("pubmedqa", tmp_path)
    assert (
        sum(item.details.human == item.options[item.answer] for item in items) == 781
    )  # as the authors' file


def test_dev_items_of_the_hub_are_the_authors(shared_data, tmp_path):
    """MedQA's dev lies in another repository and form than its test.

    PubMedQA's dev lies where its test lies.
    """
    dev = [row for _, row in records(shared_data / US.replace("_test", "_dev"))]
    (tmp_path / "medqa_usmle").mkdir()
    (tmp_path / "medqa_usmle/dev.json").write_text(
        "\n".join(
            json.dumps(
                {
                    "id": f"dev-{n}",
                    "sent1": row["question"],
                    "sent2": "",
                    "label": "ABCD".index(row["answer_idx"]),
                    "meta_info": row["meta_info"],
                    **{f"ending{k}": row["options"][letter] for k, letter in enumerate("ABCD")},
                }
            )
            for n, row in enumerate(dev)
        )
    )
    same("medqa_4_dev", shared_data, tmp_path, 1272)
    abstracts, test = (
        load_json(shared_data / f"pubmedqa/data/{name}.json", dict)
        for name in ("ori_pqal", "test_ground_truth")
    )
    for fold, keys in {"test": test, "train": abstracts.keys() - test.keys()}.items():
        parquet(
            tmp_path / f"pubmedqa/fold0/{fold}-0.parquet", [abstracts[key] for key in sorted(keys)]
        )
    found, right = (benchmarks.read("pubmedqa_dev", root) for root in (tmp_path, shared_data))
    assert (
        sorted((item.question, item.answer) for item in found)
        == sorted((item.question, item.answer) for item in right)
        and len(found) == 500
    )


def test_pubmedqa_in_folds_marks_its_test_and_in_nested_rows_reads_the_same(shared_data, tmp_path):
    rows, test = (
        load_json(shared_data / f"pubmedqa/data/{name}.json", dict)
        for name in ("ori_pqal", "test_ground_truth")
    )
    for fold, keys in {"test": test, "train": rows.keys() - test.keys()}.items():
        parquet(
            tmp_path / f"fold/pubmedqa/pubmed_qa_labeled_fold0_source/{fold}-0.parquet",
            [rows[key] for key in sorted(keys)],
        )
        parquet(
            tmp_path / f"nested/pubmedqa/data/{fold}-0.parquet",
            [
                {
                    "id": key,
                    "data": {
                        "Question": rows[key]["QUESTION"],
                        "Context": rows[key]["CONTEXTS"],
                        "Long Answer": rows[key]["LONG_ANSWER"],
                        "Correct Answer": rows[key]["final_decision"],
                    },
                }
                for key in sorted(keys)
            ],
        )
    right = {
        item.question: (item.context, item.answer, item.details.test)
        for item in benchmarks.read("pubmedqa", shared_data)
    }
    for form in ("fold", "nested"):
        items = benchmarks.read("pubmedqa", tmp_path / form)
        assert {
            item.question: (item.context, item.answer, item.details.test) for item in items
        } == right
        assert len(items) == 1000 and len(right) == 1000


def test_medmcqa_counts_from_one_in_the_file_and_from_zero_on_the_hub(shared_data, tmp_path):
    rows = [row for _, row in records(next((shared_data / "medmcqa/data").glob("dev*.json")))]
    parquet(
        tmp_path / "medmcqa/data/validation-00000-of-00001.parquet",
        [row | {"cop": row["cop"] - 1} for row in rows],
    )
    same("medmcqa", shared_data, tmp_path, 1000)
    letters = [
        {
            "id": row["id"],
            "data": {
                "Question": row["question"],
                "Options": {letter: row[f"op{letter.lower()}"] for letter in "ABCD"},
                "Correct Option": "ABCD"[row["cop"] - 1],
            },
            "subject_name": row["subject_name"],
            "exp": row["exp"],
        }
        for row in rows
    ]
    parquet(tmp_path / "formatted/medmcqa/validation-0.parquet", letters)
    same("medmcqa", shared_data, tmp_path / "formatted", 1000)
    unlabelled = [row | {"cop": -1} for row in rows[:3]]
    parquet(tmp_path / "test/medmcqa/data/validation-0.parquet", unlabelled)
    with pytest.raises(
        StudyError, match=r"no item of medmcqa can be used: no right option, .* \(3\)"
    ):
        benchmarks.read("medmcqa", tmp_path / "test", defects=[])


def test_mmlu_of_the_hub_is_the_authors_in_both_layouts(shared_data, tmp_path):
    for path in (shared_data / "mmlu_medical/data/test").glob("*.csv"):
        subject = path.stem.removesuffix("_test")
        rows = list(table(path))
        parquet(
            tmp_path / f"cais/mmlu_medical/{subject}/test-00000-of-00001.parquet",
            [
                {
                    "question": row[0],
                    "subject": subject,
                    "choices": row[1:5],
                    "answer": "ABCD".index(row[5]),
                }
                for row in rows
            ],
        )
        parquet(
            tmp_path / f"lukaemon/mmlu_medical/{subject}/test-0.parquet",
            [dict(zip(("input", "A", "B", "C", "D", "target"), row)) for row in rows],
        )
    for form in ("cais", "lukaemon"):
        same("mmlu_medical", shared_data, tmp_path / form, 1089)


def test_nine_subjects_hold_the_six_and_a_header_swallowing_reader_loses_one_each(
    shared_data, tmp_path
):
    sizes = {"high_school_biology": 310, "nutrition": 306, "virology": 166}
    for path in (shared_data / "mmlu_medical/data/test").glob("*.csv"):
        parquet(
            tmp_path / f"mmlu_medical/{path.stem[:-5]}/test-0.parquet",
            [
                {"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])}
                for row in table(path)
            ],
        )
    for subject, size in sizes.items():  # invented questions, the real numbers
        parquet(
            tmp_path / f"mmlu_medical/{subject}/test-0.parquet",
            [
                {"question": f"{subject} {n}?", "choices": list("abcd"), "answer": n % 4}
                for n in range(size)
            ],
        )
    nine, six = (
        benchmarks.read(name, tmp_path, defects=[]) for name in ("mmlu_medical_9", "mmlu_medical")
    )
    assert (len(nine), len(six)) == (1871, 1089) and {item.id for item in six} < {
        item.id for item in nine
    }
    assert len(nine) - sum(item.details.swallowed for item in nine) == 1862  # what Meditron printed


def test_truthfulqa_of_the_hub_is_the_authors_with_its_99_medical_questions(shared_data, tmp_path):
    rows = load_json(shared_data / "truthfulqa/data/v1/mc_task.json", list)
    parquet(
        tmp_path / "truthfulqa/multiple_choice/validation-00000-of-00001.parquet",
        [
            {
                "question": row["question"],
                **{
                    name: {"choices": list(row[name]), "labels": list(row[name].values())}
                    for name in ("mc1_targets", "mc2_targets")
                },
            }
            for row in rows
        ],
    )
    parquet(
        tmp_path / "truthfulqa/generation/validation-00000-of-00001.parquet",
        [
            {"question": row["Question"], "category": row["Category"]}
            for _, row in records(shared_data / "truthfulqa/data/v1/TruthfulQA.csv")
        ],
    )
    same("truthfulqa", shared_data, tmp_path, 817)
    counts = Counter(item.details.category for item in benchmarks.read("truthfulqa", tmp_path))
    medical = [counts[name] for name in ("Health", "Nutrition", "Psychology", "Science")]
    assert medical == [55, 16, 19, 9] and sum(medical) == 99


def test_medqa_in_five_layouts(shared_data, tmp_path):
    rows = [row for _, row in records(shared_data / US)]
    layouts = {
        "gbaker": [row | {"metamap_phrases": []} for row in rows],
        "hf": [
            {
                "sent1": row["question"],
                "sent2": "",
                **{f"ending{n}": row["options"][letter] for n, letter in enumerate("ABCD")},
                "label": "ABCD".index(row["answer_idx"]),
                "meta_info": row["meta_info"],
            }
            for row in rows
        ],
        "bigbio": [
            row | {"options": [{"key": key, "value": text} for key, text in row["options"].items()]}
            for row in rows
        ],
        "choices": [
            {
                "question": row["question"],
                "choices": list(row["options"].values()),
                "answer": [row["answer"]],
                "meta_info": row["meta_info"],
            }
            for row in rows
        ],
    }
    for form, changed in layouts.items():
        parquet(tmp_path / form / "medqa_usmle/data/test-00000-of-00001.parquet", changed)
    (tmp_path / "lines/medqa_usmle").mkdir(parents=True)
    (tmp_path / "lines/medqa_usmle/phrases_no_exclude_test.jsonl").write_bytes(
        (shared_data / US).read_bytes()
    )
    for form in (*layouts, "lines"):
        same("medqa_4", shared_data, tmp_path / form, 1273)


STEPS = [("one", 94), ("two", 109), ("three", 122)]


def step_exams(root: Path, stems: list[str]) -> Path:
    """The list of all three steps in one, written here, with the stems that are given in its last
    rows.
    """
    rows = [
        {
            "question_id": 0,
            "category": name,
            "answer": f"({'ABCDE'[n % 5]}) option {n % 5}",
            "text": f"Question {name} {n} about vitamin (B) and more?\n\n"
            + "\n".join(f"({letter}) option {at}" for at, letter in enumerate("ABCDE")),
        }
        for name, size in STEPS
        for n in range(size)
    ]
    for row, stem in zip(rows[::-1], stems):
        row["text"] = (
            stem + " " + row["text"][row["text"].index("(A)") :].replace("\n", " ")
        )  # inline, as 40 rows are
    rows[-5]["category"] = None
    path = root / "usmle_self_assessment/evaluation/step_exams.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_usmle_in_both_public_forms(tmp_path):
    step_exams(tmp_path / "listed", [])
    found = {n: benchmarks.read(f"usmle_step{n}", tmp_path / "listed") for n in (1, 2, 3)}
    assert [len(items) for items in found.values()] == [94, 109, 122] and sum(
        map(len, found.values())
    ) == 325
    first = found[1][3]
    assert (first.question, first.answer, first.details.step) == (
        "Question one 3 about vitamin (B) and more?",
        3,
        "step1",
    )
    assert all(len(item.options) == 5 for items in found.values() for item in items)
    for n, items in found.items():
        parquet(
            tmp_path / f"hub/usmle_self_assessment/usmle_step_{n}/data/test-0.parquet",
            [
                {
                    "question": item.question,
                    "options": dict(zip("ABCDEFG", [*item.options, None, None])),
                    "answer": item.options[item.answer],
                    "answer_idx": "ABCDE"[item.answer],
                }
                for item in items
            ],
        )
        assert [(item.question, item.options, item.answer) for item in items] == [
            (item.question, item.options, item.answer)
            for item in benchmarks.read(f"usmle_step{n}", tmp_path / "hub")
        ]


def test_questions_of_the_sample_exam_that_meadow_holds_are_found(shared_data, tmp_path):
    rows = [
        row.input
        for row in sources.read("medical_meadow_mmmlu", shared_data)
        if len(row.input) > 600
    ][:37]
    stems = [re.fullmatch(r"Q:(.*?)\? ?\n.*", text, re.S)[1] + "?" for text in rows]
    step_exams(tmp_path, stems)
    items = [item for n in (1, 2, 3) for item in benchmarks.read(f"usmle_step{n}", tmp_path)]
    hits = overlap.Overlap(items).find(list(sources.read("medical_meadow_mmmlu", shared_data)))
    found = {hit["item_id"] for hit in hits}
    assert (
        len(items) == 325
        and len(stems) == 37 == len(found)
        and all("step3" in item for item in found)
    )


PAIRS = {
    "ultrafeedback": (
        "data/train_prefs-00000-of-00001.parquet",
        {"prompt": "ask", "score_chosen": 8.0, "score_rejected": 7.0},
    ),
    "snorkel_2": (
        "data/train_iteration_2-00000-of-00001.parquet",
        {"prompt": "ask", "all_rm_scores": [0.1]},
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_preferences_of_the_hub_are_read_without_the_question_and_without_ties(tmp_path, name):
    file, more = PAIRS[name]
    turns = {
        kind: [{"role": "user", "content": "ask"}, {"role": "assistant", "content": kind}]
        for kind in ("chosen", "rejected")
    }
    rows = [
        more | turns,
        more | turns | {"rejected": turns["chosen"]},
        more | turns | {"chosen": []},
    ]
    if "score_chosen" in more:
        rows.append(more | turns | {"score_chosen": 7.0})
    parquet(tmp_path / (sources.SOURCES[name].folder or name) / file, rows)
    defects = []
    found = list(sources.read(name, tmp_path, defects))
    assert [(row.input, row.output, row.rejected) for row in found] == [
        ("ask", "chosen", "rejected")
    ]
    assert (
        len(defects) == len(rows) - 1
        and sum("a tie" in defect.reason for defect in defects) == len(rows) - 2
    )


def test_real_preference_files_are_read_in_three_layouts(shared_data):
    defects = []
    rows = list(sources.read("preference_pairs", shared_data, defects))
    files = Counter(row.file.split("/")[1] for row in rows) + Counter(
        defect.file.split("/")[1] for defect in defects
    )
    assert (
        files == {"llama_factory": 300, "rasbt": 1100, "orca_dpo_pairs": 284}
        and files.total() == 1684
    )
    assert len(defects) < 100 and all(
        "a tie" in defect.reason or "empty" in defect.reason for defect in defects
    )
    several = [row for row in rows if row.input.startswith(("user: ", "system: "))]
    assert len(several) >= 106 and all(row.output != row.rejected for row in rows)


TEXTS = {
    "guidelines": (
        "open_guidelines.jsonl",
        {"title": "Fever", "clean_text": "Give fluids.", "raw_text": "x"},
        "Fever\n\nGive fluids.",
    ),
    "pubmed_abstracts": (
        "chunk/pubmed23n0001.jsonl",
        {"id": "1", "title": "T", "content": "c", "contents": "T. c"},
        "T. c",
    ),
    "pubmed_papers": (
        "document/train-00000-of-00005.parquet",
        {"article": "long", "abstract": "short"},
        "long",
    ),
    "redpajama": ("wikipedia_sample.jsonl", {"text": "said", "meta": "{}"}, "said"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_running_text_of_the_neighbours(tmp_path, name):
    file, row, expected = TEXTS[name]
    path = tmp_path / name / file
    path.parent.mkdir(parents=True)
    if path.suffix == ".parquet":
        parquet(path, [row])
    else:
        path.write_text(json.dumps(row) + "\n" + json.dumps({"text": ""}))
    rows = list(sources.read(name, tmp_path, []))
    assert [(row.instruction, row.input, row.output) for row in rows] == [("", "", expected)]


def test_meadow_medquad_and_safety_read_the_same_from_the_hub(shared_data, tmp_path):
    meadow = load_json(shared_data / "medical_meadow_mmmlu/medical_meadow_mmmlu.json", list)
    parquet(tmp_path / "medical_meadow_mmmlu/data/train-00000-of-00001.parquet", meadow)
    medquad = list(sources.read("medquad", shared_data, []))
    parquet(
        tmp_path / "medquad/data/train-00000-of-00001.parquet",
        [{"question": row.input, "answer": row.output, "qtype": "x"} for row in medquad],
    )
    for name, count in (("medical_meadow_mmmlu", 3787), ("medquad", 1039)):
        here, there = (
            [(row.instruction, row.input, row.output) for row in sources.read(name, root, [])]
            for root in (shared_data, tmp_path)
        )
        assert here == there and len(here) == count
    (tmp_path / "med_safety_bench/datasets/train/gpt4").mkdir(parents=True)
    csv = (
        shared_data
        / "med_safety_bench/datasets/train/gpt4/med_safety_demonstrations_category_1.csv"
    )
    (tmp_path / "med_safety_bench/datasets/train/gpt4/one.csv").write_bytes(csv.read_bytes())
    assert len(list(sources.read("med_safety_bench", tmp_path))) == 50


def test_every_benchmark_has_a_reader_that_says_what_it_reads():
    documented = [
        known.reader.func if hasattr(known.reader, "func") else known.reader
        for known in benchmarks.BENCHMARKS.values()
    ]
    assert len(documented) >= 20 and all(
        reader.__doc__ and reader.__module__.startswith("sm70lib.benchmarks.")
        for reader in documented
    )


def test_mmlu_pro_and_toxigen_of_the_hub(tmp_path):
    rows = [
        {
            "question_id": 70 + n,
            "question": f"Which drug helps town {n}?",
            "options": [f"drug {letter}" for letter in "ABCDEFGHIJ"[: 3 + n]],
            "answer": "ABCDEFGHIJ"[2 + n],
            "answer_index": 2 + n,
            "cot_content": "",
            "category": "health" if n else "law",
            "src": "",
        }
        for n in range(8)
    ]
    rows[3]["answer"] = "A"  # contradicts its number
    parquet(tmp_path / "mmlu_pro/data/test-00000-of-00001.parquet", rows)
    parquet(tmp_path / "mmlu_pro/data/validation-00000-of-00001.parquet", rows[:2])
    defects = []
    items = benchmarks.read("mmlu_pro", tmp_path, defects=defects)
    assert [item.id for item in items] == [f"mmlu_pro/{70 + n}" for n in (0, 1, 2, 4, 5, 6, 7)]
    assert [item.options[item.answer] for item in items][-1] == "drug J"
    assert [item.details.subject for item in items][:2] == ["law", "health"]
    assert [defect.reason for defect in defects] == ["no right option, or two that disagree"]
    law, shot = benchmarks.pool("mmlu_pro", tmp_path)
    assert law.id == "mmlu_pro/validation/70"
    health = benchmarks.read("mmlu_pro_health", tmp_path, defects=[])
    assert health == [replace(item, benchmark="mmlu_pro_health") for item in items[1:]]
    assert [of_health.id for of_health in benchmarks.pool("mmlu_pro_health", tmp_path)] == [shot.id]
    ratings = [(5.0, 1.0), (1.0, 1.0), (3.5, 2.0), (3.0, 2.6), (5.0, None)]
    parquet(
        tmp_path / "toxigen/annotated/test-00000-of-00001.parquet",
        [
            {"text": f"Statement {n}", "toxicity_ai": ai, "toxicity_human": human}
            for n, (ai, human) in enumerate(ratings)
        ],
    )
    found = benchmarks.read("toxigen", tmp_path, defects=defects)
    assert [item.options[item.answer] for item in found] == ["Yes", "No", "No", "Yes"]
    for item, (ai, human) in zip(found, ratings):  # as the harness's doc_to_target
        assert item.answer == int(round((ai + human) > 5.5, 0))
    assert len(defects) == 2 and defects[1].row == 4


def test_medxpertqa_of_the_hub_is_read_without_the_options_in_its_questions(tmp_path):
    options = {letter: f"drug {letter}" for letter in "ABCDEFGHIJ"}
    listed = " ".join(f"({letter}) {text}" for letter, text in options.items())
    rows = [
        {
            "id": f"Text-{n}",
            "question": f"Case {n}.\nWhich drug?\nAnswer Choices: {listed}",
            "options": options,
            "label": "J",
            "medical_task": "Treatment",
            "body_system": "Nervous",
            "question_type": "Reasoning",
        }
        for n in range(3)
    ]
    rows[1]["question"] = "Which of the Answer Choices: is right?"  # no list of options
    rows[2]["label"] = "K"
    folder = tmp_path / "medxpertqa/Text"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "dev.jsonl").write_text(json.dumps(rows[0]))
    defects = []
    first, second = benchmarks.read("medxpertqa", tmp_path, defects=defects)
    assert (first.id, first.question) == ("medxpertqa/Text-0", "Case 0.\nWhich drug?")
    assert (len(first.options), first.options[first.answer]) == (10, "drug J")
    assert (first.details.subject, first.details.category) == ("Nervous", "Reasoning")
    assert second.question == rows[1]["question"]
    assert [defect.reason for defect in defects] == ["no right option, or two that disagree"]
    assert benchmarks.pool("medxpertqa", tmp_path)[0].id == "medxpertqa/dev/Text-0"


def test_fully_open_meditron_is_read_as_conversations_from_tables_and_lines(tmp_path):
    said = [("human", "Which drug?"), ("gpt", "Aspirin."), ("human", "Why?"), ("gpt", "It helps.")]
    talk = [{"from": speaker, "value": text} for speaker, text in said]
    rows = [{"conversations": talk[:2]}, {"conversations": talk}, {"conversations": talk[:1]}]
    parquet(tmp_path / "a/fully_open_meditron/data/train-00000-of-00001.parquet", rows)
    lines = tmp_path / "b/fully_open_meditron/curated_qa/curated_qa.jsonl"
    lines.parent.mkdir(parents=True)
    lines.write_text("\n".join(map(json.dumps, rows)))
    for root in (tmp_path / "a", tmp_path / "b"):
        defects = []
        one, several = sources.read("fully_open_meditron", root, defects)
        assert (one.instruction, one.input, one.output) == ("", "Which drug?", "Aspirin.")
        assert several.output == "It helps." and len(several.turns) == 3
        assert ["with an answer at the end" in defect.reason for defect in defects] == [True]
