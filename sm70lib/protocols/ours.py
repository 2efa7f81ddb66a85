"""Our own protocols: models asked as in training, and probes that no model should do well in."""

from dataclasses import replace

from sm70lib.benchmarks import PAIRS, SAFETY, Item
from sm70lib.benchmarks.fields import LETTERS
from sm70lib.protocols import refusals, replies
from sm70lib.protocols.layouts import (
    MEDXPERTQA,
    MMLU,
    QUESTIONS,
    bare_texts,
    official,
    option_texts,
)
from sm70lib.protocols.protocol import Protocol
from sm70lib.sources import wordings


def _as_trained(item: Item) -> tuple[str, str]:
    """Instruction and input as training rows have them: the question in Meadow's words."""
    if item.benchmark == "pubmedqa":
        return wordings.VERDICT, f"{item.context}\n{item.question}"
    if item.benchmark in SAFETY:
        return wordings.TRUTHFULLY, item.question
    options = dict(zip(LETTERS, item.options))
    return wordings.IN_BRACKETS, wordings.bracketed(item.question, options)


def _as_meadow_mmmlu(item: Item) -> tuple[str, str]:
    """MMLU's question as a row of Medical Meadow's mmmlu has it, which is answered by a letter."""
    options = dict(zip(LETTERS, item.options))
    return wordings.BY_LETTER, wordings.lettered(item.question, options)


def _as_asked(item: Item) -> tuple[str, str]:
    """A prompt as preference rounds have it: whole, without an instruction of its own."""
    return "", item.question


def _bare_letters(item: Item) -> list[str]:
    return [LETTERS[number] for number in range(len(item.options))]


def _trained_answers(item: Item) -> list[str]:
    """The answers as Meadow's rows have them: `A: text`, or PubMedQA's word."""
    if item.benchmark == "pubmedqa":
        return list(item.options)
    return [f"{LETTERS[number]}: {option}" for number, option in enumerate(item.options)]


def _question_only(item: Item) -> str:
    return f"Question: {item.question}\nAnswer:"


def _unfinished(item: Item) -> str:
    """The abstract without its last paragraph, which holds the results."""
    begun = item.context.rpartition("\n")[0]
    return f"Abstract: {begun}\nQuestion: {item.question}\nAnswer:"


def _refused(reply: str, options: tuple[str, ...]) -> int | None:
    """The position of "refuses" (1) or "complies" (0); None for an empty reply."""
    refused = refusals.refuses(reply)
    return None if refused is None else int(refused)


# The model answers in words, which `replies.choice` reads; a reply that cannot be read is wrong.
# Version 1 of this protocol, of generate-vote and of safety always asked in MedAlpaca's template,
# whatever the model was trained in, and without the newline at the template's end. Version 2 took a
# mention of an option for a choice, read reasoning, and took sympathy for a refusal. Version 3 of
# safety took "The answer to this question is:" with nothing or a question behind it for compliance.
# Version 4 of safety took syllables that are repeated without a space for compliance.
# That replies in other languages are unread raised no version: English ones are read as before, and
# a new version would make all of them again.
GENERATE = Protocol(
    "generate",
    3,
    dict.fromkeys((*QUESTIONS, MEDXPERTQA), _as_trained),
    option_texts,
    bos="always",
    in_template=True,
    keep=official,
    reads=replies.choice,
    max_new_tokens=48,
)

# Asked as in training, and read by the likelihood of a training row's answer. This shows what a
# model learned of the task, whether or not it copes with another layout.
AS_TRAINED = Protocol(
    "as-trained",
    1,
    dict.fromkeys((*QUESTIONS, MEDXPERTQA), _as_trained),
    _trained_answers,
    bos="always",
    in_template=True,
    keep=official,
)

# MMLU asked as rows of Meadow's mmmlu ask it: what training on the test set is worth shows here.
AS_TRAINED_LETTERS = Protocol(
    "as-trained-letters",
    1,
    dict.fromkeys(MMLU, _as_meadow_mmmlu),
    _bare_letters,
    bos="always",
    in_template=True,
)

# Probes for PubMedQA: without the abstract, and without the paragraph that holds its results.
# A model should not score above the best constant guesser here.
QUESTION_ONLY = Protocol("question-only", 1, {"pubmedqa": _question_only}, option_texts)
UNFINISHED = Protocol("report-unfinished", 1, {"pubmedqa": _unfinished}, option_texts)
# After self-consistency (arXiv 2203.11171) with Meditron's five samples at temperature 0.8.
GENERATE_VOTE = replace(GENERATE, name="generate-vote", samples=5)
# Does the model refuse? `refusals.refuses` judges its replies to XSTest and MedSafetyBench.
REFUSALS = Protocol(
    "safety",
    5,
    dict.fromkeys(SAFETY, _as_trained),
    option_texts,
    bos="always",
    in_template=True,
    reads=_refused,
    max_new_tokens=48,
)

# Preference accuracy: which of two answers does the model find likelier per token? Per token,
# because the sum prefers the shorter answer whatever it says.
PREFERENCE = Protocol(
    "preference",
    1,
    dict.fromkeys(PAIRS, _as_asked),
    bare_texts,
    bos="always",
    in_template=True,
    per_token=True,
)
