"""The part of a reply that counts: no reasoning, no invented next turn, no markdown stars."""

import re
import unicodedata

# Full-width, bold and joined forms of letters and marks, as East Asian keyboards and models write.
FORMS = re.compile("[\u3000\ufb00-\ufdff\ufe70-\uffef\U0001d400-\U0001d7ff]+")
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
        without the marks of bold and code, with its letters as `plain` has them. Of an unclosed
        `<think>` only what stands before counts; of a `</think>` that was never opened, only what
        stands after.
    """
    text = without_reasoning(plain(reply))
    text = NEXT.split(text.strip())[0]
    text = text.replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"')
    return STARS.sub("", text).strip()


def plain(text: str) -> str:
    """The text with letters and marks in their usual form, such as "(B)" in the width of ASCII.

    It is composed (NFC), and FORMS are replaced by what NFKC has for them. NFKC of everything else
    would make 102 of ten squared.
    """
    text = unicodedata.normalize("NFC", text).replace("\u3002", ".")
    return FORMS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)


def without_reasoning(reply: str) -> str:
    """The reply without what stands in reasoning tags, whether both tags are there or only one."""
    text = REASONING.sub("\n", reply)
    for closing in list(CLOSING.finditer(text))[-1:]:
        text = text[closing.end() :]
    return UNCLOSED.sub("", text)
