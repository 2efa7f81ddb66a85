"""Words that protocols of several families share: questions and options as text."""

from sm70lib.benchmarks import Item
from sm70lib.protocols.replies import LETTERS

USMLE = ("usmle_step1", "usmle_step2", "usmle_step3")
EXAMS = ("medqa_4", "medqa_5", *USMLE)
MMLU = ("mmlu_medical", "mmlu_medical_9")  # six subjects, and Meditron's nine
QUESTIONS = (*EXAMS, "pubmedqa", "medmcqa", *MMLU)


def option_texts(item: Item) -> list[str]:
    """Every option's own text, with a blank in front."""
    return [f" {option}" for option in item.options]


def letters(item: Item) -> list[str]:
    """The letters of the options, with a blank in front."""
    return [f" {LETTERS[number]}" for number in range(len(item.options))]


def option_letters(item: Item) -> list[str]:
    """The letters; the words themselves where there are none (yes, no, maybe; TruthfulQA)."""
    return option_texts(item) if item.benchmark in ("pubmedqa", "truthfulqa") else letters(item)


def lettered(item: Item) -> list[str]:
    """Letter and text of every option: `A. text`."""
    return [f"{LETTERS[number]}. {option}" for number, option in enumerate(item.options)]


def dotted(item: Item) -> str:
    """The lettered options, one a line."""
    return "\n".join(lettered(item))


def bracketed(item: Item) -> str:
    """The options in one line: `(A) text (B) text`."""
    return " ".join(f"({LETTERS[number]}) {option}" for number, option in enumerate(item.options))


def abstract(item: Item) -> str:
    """PubMedQA's question behind its abstract, as lm-evaluation-harness asks it, then and now."""
    return f"Abstract: {item.context}\nQuestion: {item.question}\nAnswer:"


def official(item: Item) -> bool:
    """Whether an item belongs to the official test, where a benchmark has one."""
    return item.meta.get("test", True)
