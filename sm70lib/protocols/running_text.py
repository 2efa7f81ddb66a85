"""Protocols that put nothing around a text: statements to be completed, and whole documents."""

from sm70lib.benchmarks import DOCUMENTS, Item
from sm70lib.protocols.layouts import bare_texts, option_texts
from sm70lib.protocols.protocol import Protocol


def _opening(item: Item) -> str:
    return item.question


def _nothing(item: Item) -> str:
    return ""


# A model that was only pretrained continues a statement; it was never taught to answer a question.
COMPLETION = Protocol("completion", 1, {"new_facts": _opening}, option_texts, bos="always")
# The log-likelihood of a text from its first token on, after BOS (or EOS if the tokenizer has no
# BOS), as lm-evaluation-harness measures it (`loglikelihood_rolling`).
LOSS = Protocol(
    "loss", 1, dict.fromkeys(DOCUMENTS, _nothing), bare_texts, bos="always", counts_tokens=True
)
