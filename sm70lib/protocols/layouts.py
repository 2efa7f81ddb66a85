"""Wording that several families of protocols share: questions and options as text."""

from sm70lib.benchmarks import Item
from sm70lib.benchmarks.fields import LETTERS
from sm70lib.benchmarks.own import FORM as OWN

USMLE = ("usmle_step1", "usmle_step2", "usmle_step3")
EXAMS = ("medqa_4", "medqa_5", *USMLE, OWN)  # among them any exam of the user's own
MMLU = ("mmlu_medical", "mmlu_medical_9")  # six subjects, and Meditron's nine
MMLU_PRO = "mmlu_pro"
MEDXPERTQA = "medxpertqa"
TOXIGEN = "toxigen"
QUESTIONS = (*EXAMS, "pubmedqa", "medmcqa", *MMLU)


def option_texts(item: Item) -> list[str]:
    """The text of every option, with a blank in front."""
    return [f" {option}" for option in item.options]


def bare_texts(item: Item) -> list[str]:
    """The text of every option as it is."""
    return list(item.options)


def letters(item: Item) -> list[str]:
    """The letter of every option, with a blank in front."""
    return [f" {LETTERS[number]}" for number in range(len(item.options))]


def option_letters(item: Item) -> list[str]:
    """The letters, or the texts where options have none (PubMedQA, ToxiGen and TruthfulQA)."""
    if item.benchmark in ("pubmedqa", TOXIGEN, "truthfulqa"):
        return option_texts(item)
    return letters(item)


def lettered(item: Item) -> list[str]:
    """Letter and text of every option: `A. text`."""
    return [f"{LETTERS[number]}. {option}" for number, option in enumerate(item.options)]


def dotted(item: Item) -> str:
    """The lettered options, one per line."""
    return "\n".join(lettered(item))


def bracketed(item: Item) -> str:
    """The options in one line: `(A) text (B) text`."""
    return " ".join(f"({LETTERS[number]}) {option}" for number, option in enumerate(item.options))


def abstract(item: Item) -> str:
    """PubMedQA's abstract and question, as lm-evaluation-harness asks them, then and now."""
    return f"Abstract: {item.context}\nQuestion: {item.question}\nAnswer:"


def official(item: Item) -> bool:
    """Whether an item belongs to the official test; True where a benchmark has none."""
    return item.details.test is not False
