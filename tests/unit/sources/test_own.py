"""Rows from files of the user's own: every layout, what is left out and why, and their names."""

import json

import pandas as pd
import pytest

from sm70lib import preflight, sources
from sm70lib.corpus.templates import unfit
from sm70lib.sources.own import own_of
from sm70lib.sources.problems import shaped
from sm70lib.steps import steps
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError

TINY = ROOT / "params/tiny.yml"
ASKED, SAID = "What is pyrexia?", "Fever."
ROW = {"instruction": "", "input": ASKED, "output": SAID}
SYSTEM = ("system", "Be brief.")
EARLIER = (("user", "Hello"), ("assistant", "Good day."))


def openai(*turns: tuple[str, str]) -> list[dict]:
    return [{"role": role, "content": text} for role, text in turns]


def sharegpt(*turns: tuple[str, str]) -> list[dict]:
    return [{"from": role, "value": text} for role, text in turns]


def talk(*turns: tuple[str, str]) -> dict:
    text = "\n\n".join(f"{role}: {said}" for role, said in turns)
    return {"instruction": "", "input": text, "output": SAID, "turns": turns}


ENDS = (("user", ASKED), ("assistant", SAID))
LAYOUTS = [
    ({"instruction": ASKED, "output": SAID}, ROW | {"instruction": ASKED, "input": ""}),
    ({"Instruction": "Say", "Input": ASKED, "Output": SAID}, ROW | {"instruction": "Say"}),
    ({"input": ASKED, "output": SAID}, ROW),
    (
        {"question": ASKED, "answer": SAID},
        ROW | {"instruction": "Answer this question truthfully"},
    ),
    (
        {"instruction": ASKED, "context": "A case.", "response": SAID},  # Dolly's
        ROW | {"instruction": ASKED, "input": "A case."},
    ),
    (
        {"instruction": "Be brief.", "question": f"1\n{ASKED}", "answer": SAID},
        ROW | {"instruction": "Be brief.", "input": f"1\n{ASKED}"},
    ),
    (
        {"question": ASKED, "passage": "A case.", "answer": SAID},
        ROW | {"instruction": "Answer this question truthfully", "input": f"A case.\n\n{ASKED}"},
    ),
    ({"question": ASKED, "options": {"A": "x", "B": "y"}, "answer": "B"}, "has options, for which"),
    (
        {"question": f"{ASKED} A:  Rash B: Fever", "options": ["Rash", "Fever"], "answer": SAID},
        ROW
        | {
            "instruction": "Answer this question truthfully",
            "input": f"{ASKED} A:  Rash B: Fever",
        },
    ),
    ({"prompt": ASKED, "context": "A case.", "completion": SAID}, "has context, for which"),
    (
        {"prompt": f"A  case.\n{ASKED}", "context": "A case.\n", "completion": SAID},
        ROW | {"input": f"A  case.\n{ASKED}"},
    ),
    (
        {"prompt": openai(ENDS[0]), "choices": ["Rash", "Fever"], "completion": openai(ENDS[1])},
        "has choices, for which",
    ),
    (
        {"question": ASKED, "passage": "A case.", "chosen": SAID, "rejected": "Rash."},
        "has passage, for which",
    ),
    ({"question": ASKED, "context": ["A case."], "answer": SAID}, "no text under input"),
    (
        {
            "messages": [
                {"role": "user", "content": ASKED},
                {"role": "assistant", "content": SAID, "reasoning_content": "Pyr is fire."},
            ]
        },
        "a turn has reasoning_content, for which",
    ),
    ({"prompt": ASKED, "completion": f" {SAID}"}, ROW),
    ({"prompt": ASKED, "response": SAID}, ROW),
    ({"prompt": openai(SYSTEM, ENDS[0]), "completion": openai(ENDS[1])}, talk(SYSTEM, ENDS[0])),
    ({"messages": openai(*ENDS)}, ROW),
    ({"messages": openai(("system", ""), *ENDS)}, ROW),
    ({"messages": openai(SYSTEM, *EARLIER, *ENDS)}, talk(SYSTEM, *EARLIER, ENDS[0])),
    (
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}]}]
            + openai(ENDS[1])
        },
        ROW,
    ),
    ({"conversations": sharegpt(("human", ASKED), ("gpt", SAID))}, ROW),
    (
        {"system": "Be brief.", "conversations": sharegpt(("human", ASKED), ("gpt", SAID))},
        talk(SYSTEM, ENDS[0]),
    ),
    (
        {"instruction": ASKED, "output": SAID, "history": [["Hello", "Good day."]]},
        talk(*EARLIER, ENDS[0]),
    ),
    (
        {"text": "Running text.", "id": 7},
        {"instruction": "", "input": "", "output": "Running text."},
    ),
    ({"prompt": ASKED, "chosen": SAID, "rejected": "Rash."}, ROW | {"rejected": "Rash."}),
    ({"words": "?"}, "no record of a known layout"),
    ({"messages": openai(ENDS[0])}, "the turns are not user and assistant by turns"),
    ({"messages": openai(ENDS[1], *ENDS)}, "the turns are not user and assistant by turns"),
    ({"messages": openai(("tool", "x"), *ENDS)}, "a turn by tool; allowed are system, user"),
    ({"messages": openai(ENDS[0], ("assistant", " "))}, "empty assistant turn"),
    ({"messages": openai(ENDS[0], ("assistant", None))}, "no text under assistant turn"),
    ({"messages": "a text"}, "no record of a known layout"),
    ({"prompt": ASKED, "completion": SAID, "label": False}, "label is false"),
    ({"instruction": "", "input": "", "output": SAID}, "empty instruction and input"),
    ({"prompt": ASKED, "chosen": SAID, "rejected": SAID}, "a tie"),
    ([1], "no readable record"),
]


@pytest.mark.parametrize(("record", "wanted"), LAYOUTS, ids=range(len(LAYOUTS)))
def test_a_record_in_a_usual_layout_is_a_row_or_has_a_reason(record, wanted):
    found = shaped(own_of, record)
    if isinstance(wanted, str):
        assert isinstance(found, str) and found.startswith(wanted)
    else:
        assert {name: found[name] for name in wanted} == wanted
        assert bool(found.get("turns")) == ("turns" in wanted)


def test_a_file_gives_the_same_rows_in_every_format(tmp_path):
    records = [{"prompt": f"{ASKED} {n}", "completion": SAID} for n in range(5)]
    frame = pd.DataFrame(records)
    (tmp_path / "a.json").write_text(json.dumps(records))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    frame.to_csv(tmp_path / "c.csv", index=False)
    frame.to_parquet(tmp_path / "d.parquet")
    read = {}
    for path in sorted(tmp_path.iterdir()):
        rows = list(sources.read(str(path), ROOT))
        assert {row.source for row in rows} == {path.stem}
        assert {row.file for row in rows} == {path.as_posix()}
        read[path.stem] = [(row.row, row.input, row.output) for row in rows]
    assert (
        len(read) == 4 and len(read["a"]) == 5 and len({str(rows) for rows in read.values()}) == 1
    )


def test_a_cap_draws_from_an_own_file_as_from_any_other(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"text": f"Text {n}."}) + "\n" for n in range(30)))
    drawn = [row.row for row in sources.read(str(path), ROOT, [], 7, 1)]
    assert len(drawn) == 7 and drawn == sorted(drawn)
    assert drawn == [row.row for row in sources.read(str(path), ROOT, [], 7, 1)]
    assert drawn != [row.row for row in sources.read(str(path), ROOT, [], 7, 2)]


def study(**changes):
    return params.load(TINY, overrides={"study": "mine"} | changes)


def refused(said: str, **changes) -> None:
    with pytest.raises(StudyError) as error:
        preflight.require_own(study(**changes), list(steps.STEPS))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_what_cannot_be_used_is_told_before_anything_runs(tmp_path):
    chat, plain, pairs = (tmp_path / f"{name}.jsonl" for name in ("chat", "plain", "pairs"))
    chat.write_text(json.dumps({"messages": openai(SYSTEM, *ENDS)}) + "\n")
    plain.write_text(json.dumps({"messages": openai(*ENDS)}) + "\n")
    pairs.write_text(json.dumps({"prompt": ASKED, "chosen": SAID, "rejected": "Rash."}) + "\n")
    dpo = {"train_stages": ["sft", "dpo"]}
    refused("mine/a.jsonl: ", data_sources=["mine/a.jsonl"])
    refused(
        f"{chat}: no row of chat can be used: a system line or earlier turns, for which only "
        "data_template chat has a place, and not medalpaca (1)",
        data_sources=[str(chat)],
    )
    refused("no better and worse answer (chosen, rejected) (1)", **dpo, dpo_sources=[str(plain)])
    preflight.require_own(study(data_sources=[str(chat)], data_template="chat"), ["01_data"])
    preflight.require_own(study(**dpo, dpo_sources=[str(pairs)]), ["01_data"])
    preflight.require_own(study(data_sources=["mine/a.jsonl"]), ["06_figures"])


def test_pairs_with_earlier_turns_need_no_chat_template():
    row = talk(SYSTEM, ENDS[0]) | {"rejected": "Rash."}
    assert unfit("preferences", "medalpaca", row) == unfit("train", "chat", talk(*ENDS)) == ""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("data_sources", ["a/x.json", "b/x.csv"], "two files are called x, as tables would be"),
        ("data_sources", ["gazetteer.json"], "gazetteer is a name of the catalogue already"),
        ("data_sources", ["a/x.txt"], "must end in .json, .jsonl, .csv, .parquet"),
        ("data_sources", ["a/my file.csv"], "'my file' has other characters"),
        ("data_sources", ["gazeteer"], "Input should be 'medical_meadow"),
        ("eval_benchmarks", ["usmle.csv"], "usmle is a name of the catalogue already"),
        ("data_caps", {"a/x.txt": 3}, "must end in"),
    ],
)
def test_a_path_that_cannot_be_named_is_refused_by_the_study_file(name, value, said):
    with pytest.raises(StudyError, match=said):
        study(**{name: value})


def test_a_base_that_is_known_to_lack_a_chat_template_is_refused_at_once(tmp_path):
    for base, lacks in (("meta-llama/Llama-2-70b-hf", True), (None, False), ("a/unknown", False)):
        asked = study(data_template="chat", base_model=base)
        if lacks:
            with pytest.raises(StudyError, match="Llama-2-70b-hf has no chat template; choose"):
                preflight.require_chat_template(asked)
        else:
            preflight.require_chat_template(asked)
    asked = study(data_template="chat", base_model=str(tmp_path))
    with pytest.raises(StudyError, match="has no chat template"):
        preflight.require_chat_template(asked)
    (tmp_path / "chat_template.jinja").write_text("x")
    preflight.require_chat_template(asked)


@pytest.mark.parametrize("parts", [["Fever."], [{"type": "text"}], [{"type": "image"}], [None]])
def test_parts_of_a_message_that_are_no_text_give_a_reason(parts):
    reason = own_of(
        {"messages": [*openai(("user", ASKED)), {"role": "assistant", "content": parts}]}
    )
    assert isinstance(reason, str)
