"""Rows to train on, and how a record of each layout becomes one."""

from dataclasses import dataclass

from sm70lib.sources.problems import problem


@dataclass(frozen=True, slots=True)
class Row:
    """One training row.

    Attributes:
        source: the name of its source.
        row: its position in `file`, from 0.
        instruction: what is asked; "" for running text.
        input: what it is asked about; "" for running text.
        output: the answer, or the running text.
        file: its file, below the data folder.
        rejected: the worse answer of a preference; "" for any other row.
    """

    source: str
    row: int
    instruction: str
    input: str
    output: str
    file: str
    rejected: str = ""


@dataclass(frozen=True, slots=True)
class Defect:
    """A finding about a row or a benchmark item.

    Attributes:
        source: the name of the source or benchmark.
        file: the file, below the data folder.
        row: the position in `file`, from 0.
        reason: what was found.
        check: which check found it.
        dropped: whether the row or item was dropped for it.
    """

    source: str
    file: str
    row: int
    reason: str
    check: str = "read"
    dropped: bool = True


def row_of(record: dict) -> dict | str:
    """Instruction, input and output, or question and answer; a str says why it gives no row.

    MedSafetyBench's own tables have other names for question and answer.
    """
    names = {"harmful_medical_request": "question", "safe_response": "answer"}
    renamed = {names.get(name, name.lower()): text for name, text in record.items()}
    if "question" not in renamed:
        return problem(record, "instruction", "input", "output") or record
    reason = problem(renamed, "question") or problem(renamed, "answer")
    if reason:
        return reason
    return {
        "instruction": "Answer this question truthfully",
        "input": " ".join(renamed["question"].split()),
        "output": renamed["answer"].strip(),
    }


def text_of(record: dict) -> dict | str:
    """Running text, under its title unless it begins with it; a str says why it gives no row."""
    names = ("text", "clean_text", "contents", "article")
    name = next((name for name in names if name in record), "text")
    reason = problem(record, name)
    if reason:
        return reason
    text = record[name]
    title = record.get("title") if name == "clean_text" else ""
    if title and not text.startswith(title):
        text = f"{title}\n\n{text}"
    return {"instruction": "", "input": "", "output": text}


def pair_of(record: dict) -> dict | str:
    """A prompt with a better and a worse answer, in the five layouts that public sets have.

    A str says why the record gives no row.
    """
    if "preferred_output" in record:
        prompt = record["input"]["messages"]
        better, worse = record["preferred_output"], record["non_preferred_output"]
    elif "conversations" in record:
        prompt = record["conversations"]
        better, worse = [record["chosen"]], [record["rejected"]]
    else:
        prompt = [{"role": "user", "content": _plain_prompt(record)}]
        better, worse = record["chosen"], record["rejected"]
    score = record.get("score_chosen")
    if score is not None and score == record.get("score_rejected"):
        return "a tie: both answers have the same score"
    texts = {
        "instruction": "",
        "input": _joined(prompt),
        "rejected": _last(worse),
        "output": _last(better),
    }
    if texts["rejected"] == texts["output"]:
        return "a tie: both answers are the same"
    reason = problem(texts, "rejected") or problem(texts, "input") or problem(texts, "output")
    return reason or texts


def _plain_prompt(record: dict) -> str:
    if record.get("prompt"):
        return record["prompt"]
    parts = (record.get("instruction"), record.get("input"))
    return "\n\n".join(filter(None, parts))


def _last(answer: str | list[dict]) -> str:
    return answer if isinstance(answer, str) else _content(answer[-1])


def _content(message: dict) -> str:
    return message["content"] if "content" in message else message["value"]


def _joined(messages: list[dict]) -> str:
    """The turns before the answer: a single one as it is, several with their speakers."""
    turns = [
        (message.get("role") or message.get("from"), _content(message)) for message in messages
    ]
    if len(turns) == 1:
        return turns[0][1]
    speakers: dict[object, str] = {"human": "user", "gpt": "assistant"}
    return "\n\n".join(f"{speakers.get(speaker, speaker)}: {text}" for speaker, text in turns)
