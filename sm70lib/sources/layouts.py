"""Rows to train on, and how a record of each layout becomes one."""

import re
import zlib
from dataclasses import dataclass

from sm70lib.sources.problems import problem
from sm70lib.sources.wordings import TRUTHFULLY

Turns = tuple[tuple[str, str], ...]  # of each turn: system, user or assistant, and its text
TEXTS = ("text", "clean_text", "contents", "article")  # fields of running text
Answer = str | list[dict]  # a text, or turns of which the last one is the answer


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
        turns: role and text of every turn before the answer, for a chat template; `input` holds
            them as one text. () for a single question.
        digest: eight bytes of its text, which are equal for texts that differ only in case and
            white space; 0 until the audit has seen it.
    """

    source: str
    row: int
    instruction: str
    input: str
    output: str
    file: str
    rejected: str = ""
    turns: Turns = ()
    digest: int = 0


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
        return _instruction_of(record)
    reason = problem(renamed, "question") or problem(renamed, "answer")
    if reason:
        return reason
    return {
        "instruction": TRUTHFULLY,
        "input": " ".join(renamed["question"].split()),
        "output": renamed["answer"].strip(),
    }


def _instruction_of(record: dict) -> dict | str:
    """An Alpaca record, whose `input` may be missing or null; a str says why it gives no row."""
    row = record if record.get("input") is not None else record | {"input": ""}
    reason = problem(row, "instruction", "input", "output")
    if reason:
        return reason
    if record.get("system") or record.get("history"):
        return "a system line or earlier turns, which change what is asked; this layout has neither"
    return row


def text_of(record: dict) -> dict | str:
    """Running text, under its title unless it begins with it; a str says why it gives no row."""
    name = next((name for name in TEXTS if name in record), "text")
    reason = problem(record, name)
    if reason:
        return reason
    text = record[name]
    title = record.get("title") if name == "clean_text" else ""
    if title and not text.startswith(title):
        text = f"{title}\n\n{text}"
    return {"instruction": "", "input": "", "output": text}


def answer_of(record: dict) -> dict | str:
    """A question with its answer as running text; a str says why the record gives no row."""
    row = row_of(record)
    if isinstance(row, str):
        return row
    return {"instruction": "", "input": "", "output": f"{row['input']}\n{row['output']}"}


def reply_of(record: dict) -> dict | str:
    """The better answer of a pair as running text; a str says why the record gives no row."""
    pair = pair_of(record)
    if isinstance(pair, str):
        return pair
    if kept_back(pair["input"]):
        return "kept back for the benchmark preferred_replies_held_out"
    return {"instruction": "", "input": "", "output": pair["output"]}


def kept_back(prompt: str) -> bool:
    """Whether the replies to a prompt are held out: one prompt in ten, by its text."""
    return zlib.crc32(prompt.encode(errors="replace")) % 10 == 0


def pair_of(record: dict) -> dict | str:
    """A prompt with a better and a worse answer, in the layouts that public sets have.

    A str says why the record gives no row.
    """
    prompt, better, worse = _talk_of(record)
    if fault := _contradiction(record):
        return fault
    texts = asked(turns_of(prompt)) | {"rejected": _last(worse), "output": _last(better)}
    if texts["rejected"] == texts["output"]:
        return "a tie: both answers are the same"
    reason = problem(texts, "rejected") or problem(texts, "input") or problem(texts, "output")
    return reason or texts


def asked(turns: Turns) -> dict:
    """The fields of a row that say what was asked: a question alone, or several turns."""
    if len(turns) == 1:
        return {"instruction": "", "input": turns[0][1]}
    text = "\n\n".join(f"{speaker}: {text}" for speaker, text in turns)
    return {"instruction": "", "input": text, "turns": turns}


def turns_of(messages: list[dict]) -> Turns:
    """Role and text of each message, as OpenAI or ShareGPT write one."""
    speakers = {"human": "user", "gpt": "assistant"}
    said: list[tuple[str, str]] = []
    for message in messages:
        speaker = str(message.get("role") or message.get("from"))
        said.append((speakers.get(speaker, speaker), _content(message)))
    return tuple(said)


def _talk_of(record: dict) -> tuple[list[dict], Answer, Answer]:
    """The turns before the answers, the better answer and the worse one."""
    if "preferred_output" in record:  # OpenAI's
        return (
            record["input"]["messages"],
            record["preferred_output"],
            record["non_preferred_output"],
        )
    better, worse = record["chosen"], record["rejected"]
    if "conversations" in record:  # ShareGPT's
        return [*before(record), *record["conversations"]], [better], [worse]
    if not any(record.get(name) for name in ("prompt", "question", "instruction")):
        return _common_turns(_turns(better), _turns(worse))
    if isinstance(record.get("prompt"), list):
        return record["prompt"], better, worse
    question = {"role": "user", "content": _plain_prompt(record)}
    return [*before(record), question], better, worse


def before(record: dict) -> list[dict]:
    """The system line and the earlier turns that a record gives beside its question."""
    turns = [{"role": "system", "content": record["system"]}] if record.get("system") else []
    for question, answer in record.get("history") or []:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return turns


def _common_turns(better: list[dict], worse: list[dict]) -> tuple[list[dict], Answer, Answer]:
    """Two whole talks that differ in their last turn: what comes before it, and the two ends."""
    if better[:-1] != worse[:-1]:
        raise ValueError("two talks that part before their last turn")
    return better[:-1], better[-1:], worse[-1:]


def _turns(talk: str | list[dict]) -> list[dict]:
    """The turns of a talk; a text has them as "Human:" and "Assistant:" (Anthropic's)."""
    if isinstance(talk, list):
        return talk
    speakers = {"Human": "user", "Assistant": "assistant"}
    _, *parts = re.split(r"(?:^|\n\n)(Human|Assistant): ", talk)
    return [
        {"role": speakers[speaker], "content": text.strip()}
        for speaker, text in zip(parts[::2], parts[1::2])
    ]


def _contradiction(record: dict) -> str:
    """Why the scores of two answers do not say which is better; "" if they do, or are not given."""
    better, worse = record.get("score_chosen"), record.get("score_rejected")
    if better is None or worse is None:
        return ""
    if better == worse:
        return "a tie: both answers have the same score"
    if better < worse:
        return f"the chosen answer has the lower score ({better} against {worse})"
    return ""


def _plain_prompt(record: dict) -> str:
    if record.get("prompt"):
        return record["prompt"]
    parts = (record.get("instruction") or record.get("question"), record.get("input"))
    return "\n\n".join(filter(None, parts))


def _last(answer: Answer) -> str:
    return answer if isinstance(answer, str) else _content(answer[-1])


def _content(message: dict) -> str:
    return message["content"] if "content" in message else message["value"]
