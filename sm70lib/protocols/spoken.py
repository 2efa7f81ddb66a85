"""The part of a reply that counts: no reasoning, no invented next turn, no markdown stars."""

import re

TAGS = r"(?:think|thinking|thought|reasoning|scratchpad|analysis)"
REASONING = re.compile(rf"[<\[]({TAGS})[>\]].*?[<\[]/\1[>\]]", re.IGNORECASE | re.DOTALL)
# A chat template may open the tag in the prompt, so a reply may hold its end only.
CLOSING = re.compile(rf"[<\[]/{TAGS}[>\]]", re.IGNORECASE)
UNCLOSED = re.compile(rf"[<\[]{TAGS}[>\]].*", re.IGNORECASE | re.DOTALL)
# Where a model goes on after its answer, with another question that it invents or the next turn.
NEXT = re.compile(
    r"\n\s*(?:(?:next\s+)?question|q|instruction|input|user|human|assistant)\s*\d*\s*[:.)]"
    r"|\n\s*###(?!#)(?!\s*(?:(?:final|correct|my)\s+)?"
    r"(?:answer|conclusion|explanation|reasoning|analysis|rationale|step|option|summary)\b)"
    r"|<\||</?s>|\[/?INST\]|<(?:start|end)_of_turn>",
    re.IGNORECASE,
)
STARS = re.compile(r"\*\*+|__+|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)|`+")


def spoken(reply: str) -> str:
    """The text of a reply that counts.

    Args:
        reply: what the model wrote.

    Returns:
        The reply up to a question or turn that the model invents, without its reasoning and
        without the marks of bold and code. Of an unclosed `<think>` only what stands before counts;
        of a `</think>` that was never opened, only what stands after.
    """
    text = without_reasoning(reply)
    text = NEXT.split(text.strip())[0]
    text = text.replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"')
    return STARS.sub("", text).strip()


def without_reasoning(reply: str) -> str:
    """The reply without what stands in reasoning tags, whether both tags are there or only one."""
    text = REASONING.sub("\n", reply)
    for closing in list(CLOSING.finditer(text))[-1:]:
        text = text[closing.end() :]
    return UNCLOSED.sub("", text)
