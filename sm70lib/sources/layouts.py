"""Rows to train on, and how a record of each layout becomes one."""

from dataclasses import dataclass

from sm70lib.sources.records import problem


@dataclass(frozen=True, slots=True)
class Row:
    """One training row; a text-only row has neither instruction nor input, only a preference is `rejected`."""

    source: str
    row: int  # from 0 in `file`
    instruction: str
    input: str
    output: str
    file: str
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Defect:
    """A finding about a row or benchmark item: which check, what, and whether it was dropped for it."""

    source: str
    file: str
    row: int
    reason: str
    check: str = "read"
    dropped: bool = True


def row_of(record: dict) -> dict | str:
    """Instruction, input and output; or question and answer, which MedSafetyBench's own tables name otherwise."""
    names = {"harmful_medical_request": "question", "safe_response": "answer"}
    asked = {names.get(name, name.lower()): text for name, text in record.items()}
    if "question" not in asked:
        return problem(record, "instruction", "input", "output") or record
    return (
        problem(asked, "question")
        or problem(asked, "answer")
        or {
            "instruction": "Answer this question truthfully",
            "input": " ".join(asked["question"].split()),
            "output": asked["answer"].strip(),
        }
    )


def text_of(record: dict) -> dict | str:
    """Running text; a title stands above it unless the text begins with it."""
    name = next(
        (name for name in ("text", "clean_text", "contents", "article") if name in record), "text"
    )
    if reason := problem(record, name):
        return reason
    title = record.get("title") if name == "clean_text" else ""
    text = (
        f"{title}\n\n{record[name]}"
        if title and not record[name].startswith(title)
        else record[name]
    )
    return {"instruction": "", "input": "", "output": text}


def pair_of(record: dict) -> dict | str:
    """A prompt with a better and a worse answer, in the five layouts that public sets have."""
    if "preferred_output" in record:
        said = record["input"]["messages"]
        better, worse = record["preferred_output"], record["non_preferred_output"]
    elif "conversations" in record:
        said, better, worse = record["conversations"], [record["chosen"]], [record["rejected"]]
    else:
        said = [
            {
                "role": "user",
                "content": record.get("prompt")
                or "\n\n".join(filter(None, (record.get("instruction"), record.get("input")))),
            }
        ]
        better, worse = record["chosen"], record["rejected"]
    if record.get("score_chosen") is not None and record["score_chosen"] == record.get(
        "score_rejected"
    ):
        return "a tie: both answers have the same score"
    texts = {
        "instruction": "",
        "input": _spoken(said),
        "rejected": _last(worse),
        "output": _last(better),
    }
    if texts["rejected"] == texts["output"]:
        return "a tie: both answers are the same"
    return (
        problem(texts, "rejected") or problem(texts, "input") or problem(texts, "output") or texts
    )


def _last(answer: str | list[dict]) -> str:
    return answer if isinstance(answer, str) else _said(answer[-1])


def _said(message: dict) -> str:
    return message["content"] if "content" in message else message["value"]


def _spoken(messages: list[dict]) -> str:
    """The turns before the answer: one as it is, several with their speakers."""
    speakers = {"human": "user", "gpt": "assistant"}
    turns = [(message.get("role") or message.get("from"), _said(message)) for message in messages]
    return (
        turns[0][1]
        if len(turns) == 1
        else "\n\n".join(f"{speakers.get(who, who)}: {text}" for who, text in turns)
    )
