"""How Medical Meadow words its questions.

Training rows, exams that become rows, and protocols that ask as trained all take the words from
here: a model is asked in the very words of its training.
"""

import ast
import re
from collections.abc import Mapping

TRUTHFULLY = "Answer this question truthfully"
VERDICT = "Answer this question with yes, no or maybe"
IN_BRACKETS = "Please answer with one of the option in the bracket"
BY_LETTER = "Please answer the letter of option truthfully"
STAND_IN = "\ufffd"  # holds the place of a character while the text around it is quoted


def bracketed(question: str, options: Mapping[str, str]) -> str:
    """A question with its options by letter, as rows of Meadow's medqa have it."""
    listed = ", ".join(f"{letter!r}: {_quoted(text)}" for letter, text in options.items())
    return f"Q:{question}? \n{{{listed}}},"


def _quoted(text: str) -> str:
    """A text in quotes as Python writes it, but with every character outside ASCII as it is.

    Python writes a non-breaking space as \\xa0, and the joiners of Persian as \\u200c.
    """
    hidden = [letter for letter in text if letter == STAND_IN or not _shown(letter)]
    plain = "".join(letter if _shown(letter) else STAND_IN for letter in text)
    between = repr(plain).split(STAND_IN)
    return "".join(part + letter for part, letter in zip(between, [*hidden, ""]))


def _shown(letter: str) -> bool:
    """Whether Python writes a character as it is, or by an escape that every reader knows."""
    return letter.isascii() or letter.isprintable()


def lettered(question: str, options: Mapping[str, str]) -> str:
    """A question with its options by letter, as rows of Meadow's mmmlu have it."""
    listed = ";".join(f"{letter}:{text}" for letter, text in options.items())
    return f"Q:{question}? \n{listed}"


def unwrap(input: str) -> tuple[str, dict[str, str]]:
    """Takes Meadow's `Q:<stem>? \\n<options>` apart.

    Returns:
        The stem, and the options by letter. An input in another layout is returned as it is,
        without options.
    """
    match = re.fullmatch(r"Q:(.*?)\? ?\n(A:.*|\{.*\},?)\s*", input, re.S)
    if match is None:
        return input, {}
    stem, options = match.groups()
    if not options.startswith("{"):
        return stem, dict(re.findall(r"([A-J]):(.*?)(?=;[B-J]:|\Z)", options, re.S))
    try:  # medqa has the text of a Python dict there
        choices = ast.literal_eval(options.rstrip(", \n"))
        return stem, {str(key): str(text) for key, text in choices.items()}
    except (ValueError, SyntaxError, AttributeError, RecursionError, MemoryError):
        return input, {}
