"""Records of the user's own files, in the layouts that the field writes training rows in."""

import re
from typing import Any

from sm70lib.sources.layouts import (
    TEXTS,
    Turns,
    asked,
    before,
    pair_of,
    row_of,
    text_of,
    turns_of,
)
from sm70lib.sources.problems import problem
from sm70lib.sources.wordings import TRUTHFULLY

TALKS = ("messages", "conversations", "conversation")
ANSWERS = ("completion", "response")
OUTPUTS = ("output", "answer", *ANSWERS)
CONTEXTS = ("context", "passage")
OPTIONS = ("options", "choices")
# What a turn may hold beside its content. A row without it would teach something else, so the row
# is left out.
THOUGHTS = ("reasoning_content", "thinking", "tool_calls", "function_call")
SPEAKERS = ("system", "user", "assistant")


def own_of(record: dict) -> dict | str:
    """A row from a record in any of the layouts; a str says why it gives no row.

    The fields that a record has say which layout it is in: a preference (chosen, rejected), a
    conversation (messages, or ShareGPT's conversations), prompt and completion, instruction and
    output, question and answer, or running text.
    """
    given = {name.lower(): value for name, value in record.items() if value is not None}
    if "preferred_output" in given or {"chosen", "rejected"} <= given.keys():
        return _whole(given, pair_of(given))
    if any(name in given for name in TALKS):
        return _talk_of(given)
    if "prompt" in given and any(name in given for name in ANSWERS):
        return _whole(given, _completion_of(given))
    if any(name in given for name in ("instruction", "question", "input")):
        return _whole(given, _instruction_of(given))
    if any(name in given for name in TEXTS):
        return text_of(given)
    return "no record of a known layout"


def _whole(record: dict, row: dict | str) -> dict | str:
    """The row, if it asks everything that the record asks; a str names the field that it lacks.

    A question without its passage or its options would teach something else.
    """
    if isinstance(row, str):
        return row
    asked = " ".join(f"{row.get('instruction', '')} {row['input']}".split())
    for name in (*CONTEXTS, *OPTIONS):
        if not _stands_in(record.get(name), asked):
            return f"has {name}, for which a row has no place; write its text into the question"
    return row


def _stands_in(value: Any, text: str) -> bool:
    """Whether every text of a field stands in `text`, as whole words between single blanks."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return all(_stands_in(part, text) for part in value)
    sought = "" if value is None else " ".join(str(value).split())
    return not sought or bool(re.search(rf"(?<!\w){re.escape(sought)}(?!\w)", text))


def _talk_of(record: dict) -> dict | str:
    """A conversation, perhaps with a system line beside it."""
    messages = record[next(name for name in TALKS if name in record)]
    lost = next((name for turn in messages for name in THOUGHTS if turn.get(name)), None)
    if lost:
        return f"a turn has {lost}, for which a row has no place; write it into the content"
    return _row_of_talk((*turns_of(before(record)), *turns_of(messages)))


def _completion_of(record: dict) -> dict | str:
    """A prompt and its completion: two texts, or two lists of messages."""
    if record.get("label") in (False, 0):
        return "label is false: an answer that nobody should give"
    prompt, answer = record["prompt"], record[next(name for name in ANSWERS if name in record)]
    if isinstance(prompt, list):
        return _row_of_talk((*turns_of(prompt), *turns_of(answer)))
    return _row_of_talk((*turns_of(before(record)), ("user", prompt), ("assistant", answer)))


def _instruction_of(record: dict) -> dict | str:
    """Instruction and output, or question and answer, perhaps after earlier turns."""
    earlier = turns_of(before(record))
    output = next((record[name] for name in OUTPUTS if name in record), None)
    row = row_of({"instruction": "", "input": "", "output": output} | _asked(record))
    if isinstance(row, str):
        return row
    question = "\n\n".join(filter(None, (row["instruction"], row["input"])))
    if not question:
        return "empty instruction and input"
    if not earlier:
        return row
    return _row_of_talk((*earlier, ("user", question), ("assistant", row["output"])))


def _asked(record: dict) -> dict:
    """Instruction and input: a question is input, below the passage that it is about, if any."""
    parts = [record[name] for name in CONTEXTS if record.get(name)]
    parts += [record[name] for name in ("question", "input") if record.get(name)]
    wrong = [part for part in parts if not isinstance(part, str)]
    instruction = record.get("instruction", "")
    if record.get("question") and not instruction:
        instruction = TRUTHFULLY
    asked = wrong[0] if wrong else "\n\n".join(part.strip() for part in parts)
    return {"instruction": instruction, "input": asked}


def _row_of_talk(turns: Turns) -> dict | str:
    """A row that ends with the last turn; a str says what is wrong with the turns."""
    turns = tuple((speaker, _plain(text)) for speaker, text in turns)
    turns = tuple(turn for turn in turns if turn != ("system", ""))  # many sets write an empty one
    speakers = [speaker for speaker, _ in turns]
    unknown = [speaker for speaker in speakers if speaker not in SPEAKERS]
    if unknown:
        return f"a turn by {unknown[0]!s:.20}; allowed are {', '.join(SPEAKERS)}"
    for speaker, text in turns:
        reason = problem({f"{speaker} turn": text}, f"{speaker} turn")
        if reason:
            return reason
    talk = speakers[1:] if speakers[:1] == ["system"] else speakers
    if talk != ["user", "assistant"] * (len(talk) // 2) or not talk:
        return "the turns are not user and assistant by turns, with an answer at the end"
    return asked(turns[:-1]) | {"output": turns[-1][1]}


def _plain(content: Any) -> Any:
    """The text of a message, whose content may be a list of parts; anything else as it is."""
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, list) and all(map(_is_text, content)):
        return "\n".join(part["text"] for part in content).strip()
    return content


def _is_text(part: Any) -> bool:
    """Whether a part of a message is text, and not an image or something else."""
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )
