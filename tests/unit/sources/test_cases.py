"""Small inputs that failed once (../shared/cases), each by its number."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from sm70lib import benchmarks, protocols, sources
from sm70lib.asking import fitting, prompts, runs
from sm70lib.benchmarks import Item
from sm70lib.corpus import examples
from sm70lib.study.params import ROOT, StudyError

WIKIDOC = "medical_meadow_wikidoc"


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = ROOT.parent / "shared/cases"
    if not folder.is_dir():
        pytest.skip(f"no cases: {folder} is not there")
    return folder


def rows(name: str, folder: Path) -> tuple[list, list]:
    """The rows of a source, and what is left out of it."""
    defects: list = []
    return list(sources.read(name, folder, defects)), defects


def test_case_14_an_instruction_needs_no_input_and_keeps_what_stands_around_it(cases):
    read, defects = rows(WIKIDOC, cases / "14/noinput")
    assert [row.output for row in read] == ["Dry mouth.", "Pallor.", "Chills."] and not defects
    with pytest.raises(StudyError, match="a system line or earlier turns, which change what is"):
        rows(WIKIDOC, cases / "14/history")
    path = cases / f"14/history/{WIKIDOC}/{WIKIDOC}.json"
    ((row,), _) = rows(str(path), ROOT)
    assert row.turns == (
        ("system", "You answer only for adults without allergy."),
        ("user", "First choice for otitis media?"),
        ("assistant", "Amoxicillin."),
        ("user", "And if that fails?"),
    ), "an own file keeps them, for the template chat"


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("guidelines", "15/lfs", "is a pointer of Git LFS, not the file"),
        (WIKIDOC, "15/pandas", "no row of medical_meadow_wikidoc can be used: no text under"),
    ],
)
def test_case_15_a_file_without_a_row_is_one_sentence(cases, name, folder, said):
    with pytest.raises(StudyError, match=said):
        rows(name, cases / folder)
    (path,) = (path for path in (cases / folder).rglob("*.json*") if path.is_file())
    with pytest.raises(StudyError, match=f"{said[:12]}"):
        rows(str(path), ROOT)


def test_case_17_hidden_files_are_no_data(cases):
    (row,), defects = rows("preference_pairs", cases / "17/ckpt")
    assert (row.output, row.rejected) == ("Fever.", "Rash.")
    assert [defect.file for defect in defects] == ["preference_pairs/mine/dataset_info.json"]
    (row,), defects = rows("medquad", cases / "17/mac")
    assert row.output == "Fever." and not defects


@pytest.mark.parametrize("own", [False, True])
def test_case_18_pairs_in_all_common_layouts(cases, own):
    path = str(cases / "18/preference_pairs/orca/dpo.json")
    read, defects = rows(path, ROOT) if own else rows("preference_pairs", cases / "18")
    assert [row.row for row in read] == [0, 1, 2, 4, 5, 6]
    assert [row.output for row in read][:4] == [
        "Fever.",
        "Paleness.",
        "Swelling.",
        "A drooping lid.",
    ]
    (defect,) = defects
    assert defect.row == 3 and "the chosen answer has the lower score" in defect.reason
    asked = {row.row: row.input for row in read}
    assert asked[0].startswith("system: You are a careful assistant.")
    assert asked[5].startswith("system: Answer in one word.\n\nuser: Hello\n\nassistant: Hi")
    assert asked[6].startswith("system: You speak to a child.")
    assert {row.row: len(row.turns) for row in read} == {0: 2, 1: 0, 2: 0, 4: 0, 5: 4, 6: 2}


def test_case_24_a_benchmark_without_an_item_is_one_sentence(cases):
    with pytest.raises(StudyError, match="no item of mmlu_medical can be used: no text under"):
        benchmarks.read("mmlu_medical", cases / "24", defects=[])


def test_case_25_a_tokenizer_without_bos_is_asked_without_one(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    item = Item("x", "x", "xstest_safe", "How?", "", ("complies", "refuses"), 0)
    exam = Item("m", "m", "medqa_4", "Which?", "", ("one", "two"), 0)
    for one, name in ((exam, "generate"), (exam, "generate-vote"), (item, "safety")):
        run = runs.Run(one.benchmark, protocols.named(name), 0, [one], [], "medalpaca")
        (prompt,) = prompts.Prompts(run, bare)
        (request,) = fitting.usable(prompt, run.protocol, bare, 10**6, None)
        assert None not in request.context and request.context[0] != tokenizer.bos_token_id
    ids = examples.question("medalpaca", bare, "Answer", "Which?").ids
    assert ids and None not in ids, "07 asks with these"
