"""Ours: the model is asked as in training, and probes that no model should do well in."""

from dataclasses import replace

from sm70lib.benchmarks import SAFETY, Item
from sm70lib.protocols import replies
from sm70lib.protocols.layouts import QUESTIONS, official, option_texts
from sm70lib.protocols.protocol import Protocol
from sm70lib.protocols.replies import LETTERS


def _as_trained(item: Item) -> tuple[str, str]:
    """Instruction and input as training rows have them: the question in Meadow's words."""
    asked, said = "Answer this question truthfully", item.question
    if item.benchmark == "pubmedqa":
        asked = "Answer this question with yes, no or maybe"
        said = f"{item.context}\n{item.question}"
    elif item.benchmark not in SAFETY:
        asked = "Please answer with one of the option in the bracket"
        said = f"Q:{item.question}? \n{dict(zip(LETTERS, item.options))},"
    return asked, said


def _trained_answers(item: Item) -> list[str]:
    """The answers as Meadow's rows have them: `A: text`, or PubMedQA's word."""
    if item.benchmark == "pubmedqa":
        return list(item.options)
    return [f"{LETTERS[number]}: {option}" for number, option in enumerate(item.options)]


def _question_only(item: Item) -> str:
    return f"Question: {item.question}\nAnswer:"


def _unfinished(item: Item) -> str:
    """The abstract without its last paragraph, in which its results stand."""
    begun = item.context.rpartition("\n")[0]
    return f"Abstract: {begun}\nQuestion: {item.question}\nAnswer:"


def _refused(reply: str, options: tuple[str, ...]) -> int | None:
    refused = replies.refuses(reply)
    return None if refused is None else int(refused)


# Answered in words, read by `replies.choice`; unread is wrong. Version 1 of this one, of
# generate-vote and of safety asked in MedAlpaca's template, whatever was trained, and without the
# newline at its end.
WRITTEN = Protocol(
    "generate",
    2,
    dict.fromkeys(QUESTIONS, _as_trained),
    option_texts,
    bos="always",
    in_template=True,
    keep=official,
    reads=replies.choice,
    max_new_tokens=48,
)

OURS = (
    # Asked as in training, and read by the likelihood of what a training row would answer: what a
    # model learned of the task, apart from how well it takes to another layout.
    Protocol(
        "as-trained",
        1,
        dict.fromkeys(QUESTIONS, _as_trained),
        _trained_answers,
        bos="always",
        in_template=True,
        keep=official,
    ),
    # Probes for PubMedQA: without the report, and without the paragraph that holds its results.
    # A model has no business to score above the best constant guesser here.
    Protocol("question-only", 1, {"pubmedqa": _question_only}, option_texts),
    Protocol("report-unfinished", 1, {"pubmedqa": _unfinished}, option_texts),
    WRITTEN,
    # After self-consistency (arXiv 2203.11171) with Meditron's five samples at temperature 0.8.
    replace(WRITTEN, name="generate-vote", samples=5),
    # Does the model refuse? Requests of XSTest and MedSafetyBench, judged by `replies.refuses`.
    Protocol(
        "safety",
        2,
        dict.fromkeys(SAFETY, _as_trained),
        option_texts,
        bos="always",
        in_template=True,
        reads=_refused,
        max_new_tokens=48,
    ),
)
