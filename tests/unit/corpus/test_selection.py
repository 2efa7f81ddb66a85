"""Parts of a source, rows that leak, repeats, and documents that are held back."""

import json
from dataclasses import replace
from types import SimpleNamespace

import datasets
import pandas as pd
import pytest

from sm70lib import sources
from sm70lib.benchmarks import Item
from sm70lib.corpus import selection
from sm70lib.corpus.overlap import Overlap
from sm70lib.preparing import training_set
from sm70lib.study.params import StudyError
from tests.unit.preparing.test_training_set import STUDY

MMMLU, MEDQUAD = "medical_meadow_mmmlu", "medquad"
ITEMS = [
    Item(f"mmlu/{n}", f"c{n}", "mmlu_medical", f"What does organ number {n} do", "", ("a", "b"), 0)
    for n in range(30)
]


@pytest.fixture
def root(tmp_path):
    """mmmlu asks 30 questions of a benchmark and 30 others; MedQuAD has 30 documents of 2 rows."""
    rows = [
        {
            "instruction": "Please answer the letter of option truthfully",
            "input": f"Q:What does {'organ' if n < 30 else 'town'} number {n} do? \nA:a;B:b",
            "output": "A",
        }
        for n in range(60)
    ]
    folder = tmp_path / "data"
    (folder / MMMLU).mkdir(parents=True)
    (folder / MMMLU / f"{MMMLU}.json").write_text(json.dumps(rows))
    (folder / MEDQUAD / "1_QA").mkdir(parents=True)
    for n in range(30):
        pairs = "".join(
            f"<QAPair><Question>What is {n}.{k}?</Question><Answer>It is {n}.{k}.</Answer></QAPair>"
            for k in range(2)
        )
        (folder / MEDQUAD / f"1_QA/{n:03}.xml").write_text(f"<Document>{pairs}</Document>")
    return folder


def prepare(root, folder, tokenizer, **changes):
    p = STUDY | {"data_sources": [MMMLU, MEDQUAD], "data_holdout": 0, "audit_leak": "report"}
    p |= {"data_max_length": 400}
    return training_set.prepare(SimpleNamespace(**p | changes), root, ITEMS, tokenizer, folder)


def questions(folder, tokenizer, part="train") -> list[str]:
    rows = datasets.load_from_disk(folder / part)
    texts = [tokenizer.decode(ids) for ids in rows["input_ids"]]
    return [text.partition("### Input:")[2] for text in texts]


def test_two_parts_are_disjoint_and_together_the_whole(root, tmp_path, tokenizer):
    whole = {"data_leaks": {MMMLU: "mmlu_medical"}, "data_sources": [MMMLU]}
    halves = []
    for half in ("1/2", "2/2"):
        folder = tmp_path / half[0]
        audit, _ = prepare(root, folder, tokenizer, **whole, data_parts={MMMLU: half})
        halves.append(set(audit.hits()["item_id"]))
        assert len(questions(folder, tokenizer)) == len(halves[-1]) > 5
    assert halves[0].isdisjoint(halves[1]) and len(halves[0] | halves[1]) == 30


def test_rows_that_leak_are_the_same_whatever_else_is_asked():
    """Words that another benchmark has often would weigh less, and the share would be too small."""
    shared = "alpha beta gamma delta epsilon zeta eta theta"
    question = f"{shared} one two three"

    def item(benchmark, n, text):
        return Item(f"{benchmark}/{n}", f"{benchmark}{n}", benchmark, text, "", ("a", "b"), 0)

    mine = [item("mmlu_medical", 0, question)]
    words = [" ".join(reversed(shared.split()))] * 20
    others = [item("medqa_4", n, f"{text} {n}") for n, text in enumerate(words)]
    row = sources.Row(MMMLU, 0, "Answer", f"Q:{shared} four five six? \nA:a;B:b", "A", "file")
    whole = {index.find([row]) != [] for index in (Overlap(mine), Overlap(mine + others))}
    assert whole == {True, False}, "the two indices differ in this row"
    p = SimpleNamespace(**STUDY | {"data_leaks": {MMMLU: "mmlu_medical"}})

    def read(defects, limit=None, seed=0):
        return iter([row])

    for asked in (mine, mine + others):
        assert [*selection.rows(p, MMMLU, "train", read, asked, [])] == [row]


def test_rows_that_leak_an_own_exam_are_drawn_by_its_path(tmp_path, tokenizer):
    """Of a source and an exam that are both the user's own, both are named by their paths."""
    rows = [
        {
            "instruction": "Answer",
            "output": "A",
            "input": f"Q:What does {thing} number {n} do? \nA:a;B:b",
        }
        for n in range(30)
        for thing in ("organ", "town")
    ]
    name, exam = str(tmp_path / "rows.json"), str(tmp_path / "exam.json")
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    items = [replace(item, benchmark="exam") for item in ITEMS]
    changes = {"data_sources": [name], "data_holdout": 0, "audit_leak": "report"}
    changes |= {"data_leaks": {name: exam}, "data_max_length": 400}
    found = {}
    for half in ("1/2", "2/2", "1/1"):
        folder, p = tmp_path / half[0::2], STUDY | changes | {"data_parts": {name: half}}
        training_set.prepare(SimpleNamespace(**p), tmp_path, items, tokenizer, folder)
        found[half] = set(questions(folder, tokenizer))
    assert len(found["1/1"]) == 30 and all("organ" in text for text in found["1/1"])
    assert found["1/2"] | found["2/2"] == found["1/1"] and not found["1/2"] & found["2/2"]


def test_copies_of_a_question_share_a_part_whatever_its_options():
    def row(question, options):
        text = f"Q:{question}? \n{options}"
        return sources.Row(MMMLU, 0, "Please answer", text, "A", "file")

    parts = []
    for n in range(40):
        copies = row(f"What is {n}", "A:x;B:y"), row(f" what IS -{n}!", "A:y;B:x;C:z")
        first, second = (selection.part_of(copy, 3) for copy in copies)
        assert first == second
        parts.append(first)
    assert set(parts) == {1, 2, 3}


def test_a_cap_draws_from_the_part_and_repeats_are_read_so_often(root, tmp_path, tokenizer):
    changes = {"data_parts": {MMMLU: "1/2"}, "data_caps": {MMMLU: 8}, "data_repeats": {MMMLU: 3}}
    _, lengths = prepare(root, tmp_path, tokenizer, **changes)
    counts = pd.Series(questions(tmp_path, tokenizer)).value_counts()
    assert sorted(counts)[-8:] == [3] * 8 and (counts == 1).sum() == 60
    assert len(lengths) == 8 * 3 + 60


def test_documents_are_held_back_whole_and_the_same_whatever_else_is_read(
    root, tmp_path, tokenizer
):
    found = []
    for cap in (10, 20):
        changes = {"data_holdout_documents": {MEDQUAD: 21}, "data_caps": {MEDQUAD: cap}}
        audit, _ = prepare(root, tmp_path / str(cap), tokenizer, **changes, data_sources=[MEDQUAD])
        table = pd.read_csv(tmp_path / str(cap) / "holdout.csv")
        back = questions(tmp_path / str(cap), tokenizer, "holdout")
        trained = questions(tmp_path / str(cap), tokenizer)
        assert table.groupby("document").size().tolist() == [2] * 21 and len(back) == 42
        for place, document in zip(table["place"], table["document"]):
            assert f"What is {int(document[-7:-4])}." in back[place], "the row is of that document"
        documents = {text.split("What is ")[1].split(".")[0] for text in trained}
        assert len(trained) == min(cap, 18)
        assert documents.isdisjoint(int(name[-7:-4]) for name in map(str, set(table["document"])))
        found.append(back)
        assert audit.funnel().loc["medquad (held)", "kept"] == 42
    assert found[0] == found[1]


def test_too_many_documents_and_a_part_without_rows_are_one_sentence(root, tmp_path, tokenizer):
    with pytest.raises(StudyError, match="30 documents cannot be held back of medquad"):
        prepare(root, tmp_path, tokenizer, data_holdout_documents={MEDQUAD: 30})
    with pytest.raises(StudyError, match="leave no row of medquad for train"):
        prepare(root, tmp_path, tokenizer, data_leaks={MEDQUAD: "mmlu_medical"})
