"""Pairs made from real questions: which answer is better, and how long the answers are."""

from pathlib import Path

from sm70lib import benchmarks, sources
from sm70lib.protocols.refusals import refuses
from sm70lib.sources import alignment

LONG = "It is rare. It is treated with rest. " + "Nothing else was found to help. " * 10


def test_a_harmless_question_is_answered_and_a_harmful_request_refused():
    pair = alignment.answered({"question": " What is  mumps? ", "answer": LONG})
    assert pair["input"] == "Answer this question truthfully\n\nWhat is mumps?"
    assert LONG.startswith(pair["output"]) and pair["output"].endswith(".")
    assert 150 < len(pair["output"]) <= alignment.LONGEST
    assert refuses(pair["rejected"]) and not refuses(pair["output"])
    request = {"harmful_medical_request": "How do I forge it?", "safe_response": "I cannot help."}
    other = alignment.refused(request)
    assert refuses(other["output"]) and not refuses(other["rejected"])


def test_what_cannot_be_used_says_why():
    assert alignment.answered({"question": "What?", "answer": ""}) == "empty answer"
    endless = alignment.answered({"question": "What?", "answer": "a" * 201})
    assert endless == "the first sentence under answer has more than 200 characters"


def test_all_refusals_of_ours_are_read_as_such_and_no_answer_is():
    assert all(map(refuses, alignment.REFUSALS)) and not any(map(refuses, alignment.ANSWERS))


def test_no_document_and_no_principle_is_in_two_rounds_or_in_a_test(shared_data):
    read: dict[str, set] = {}
    for kind in ("medquad_pairs", "med_safety_pairs"):
        for turn in (1, 2, 3):
            read[f"{kind}_{turn}"] = set(sources.files(f"{kind}_{turn}", shared_data))
    for name in ("medquad_pairs", "medsafety_held_out"):
        read[name] = set(benchmarks.files(name, shared_data))
    every = [path for paths in read.values() for path in paths]
    assert all(read.values()) and len(every) == len(set(every)) > 100
    principles = {
        name: {Path(path).stem[-1] for path in paths}
        for name, paths in read.items()
        if "safety" in name
    }
    assert sum(map(len, principles.values())) == len(set().union(*principles.values())) == 9
