"""How Medical Meadow words its questions.

Training rows, exams that become rows, and protocols that ask as trained all take the words from
here: a model is asked in the very words of its training.
"""

from collections.abc import Mapping

TRUTHFULLY = "Answer this question truthfully"
VERDICT = "Answer this question with yes, no or maybe"
IN_BRACKETS = "Please answer with one of the option in the bracket"
BY_LETTER = "Please answer the letter of option truthfully"


def bracketed(question: str, options: Mapping[str, str]) -> str:
    """A question with its options by letter, as rows of Meadow's medqa have it."""
    return f"Q:{question}? \n{dict(options)},"


def lettered(question: str, options: Mapping[str, str]) -> str:
    """A question with its options by letter, as rows of Meadow's mmmlu have it."""
    listed = ";".join(f"{letter}:{text}" for letter, text in options.items())
    return f"Q:{question}? \n{listed}"
