"""Options that a text mentions anywhere, without those that it rejects."""

import re
from collections.abc import Iterator

from sm70lib.protocols.naming import pattern

BY_LETTER = re.compile(
    r"[(\[]([A-J])[)\]]|\b(?:option|choice|answer)\s+[(\[]?([A-J])(?![\w'])", re.IGNORECASE
)
REJECTED_BEFORE = re.compile(
    r"(?:\b(?:not|cannot|never|rather than|instead of|other than|rul(?:e|es|ed|ing) out|exclud\w+"
    r"|eliminat\w+|unlike|against|avoid\w*|neither|nor|than|without|except|reject\w*|discard\w*)"
    r"|n't)\s+(?:[\w-]+\s+){0,2}[\"'(\[]*$",
    re.IGNORECASE,
)
REJECTED_AFTER = re.compile(
    r"[\"')\]]*\s*(?:\([^)]*\)\s*)?(?:[:-]\s*)?(?:(?:(?:is|are|was|would be|can be|should be|seems)"
    r"(?:n't|(?:\s+\w+ly)?\s+(?:not|wrong|incorrect|unlikely|excluded|ruled out|contraindicated"
    r"|inappropriate|unsafe|ineffective|less|false|avoided|too|weak)))|(?:wrong|incorrect|no)\b"
    r"|cannot|can't|(?:does|do|did|would|will|should|could)(?:n't| not)|won't"
    r"|[\"')\]]*\s*\?)",
    re.IGNORECASE,
)
OR = re.compile(r"[\s\"')]*\b(?:or|nor|and)\b[\s\"'(]*", re.IGNORECASE)
BEFORE_A_NOUN = re.compile(
    r"\b(?:had|has|have|was|were|are|there is|there's|with|of|found|showed|shows|for|by|in)\s+$",
    re.IGNORECASE,
)


def mentioned(text: str, options: tuple[str, ...], start: int = 0) -> frozenset[int]:
    """The options that stand in the text, by their words or by letter, and are not rejected.

    Args:
        text: the text, as `spoken` gives it.
        options: the texts of the options.
        start: where to begin; what stands in front may reject an option still.
    """
    kept, last, was_rejected = set(), start, False
    for place, begins, ends in sorted(_spans(text, options, start), key=lambda span: span[1]):
        goes_on = was_rejected and OR.fullmatch(text, last, begins)  # "not with yes or no"
        was_rejected = bool(goes_on) or rejected(text, begins, ends)
        last = ends
        if not was_rejected:
            kept.add(place)
    return frozenset(kept)


def rejected(text: str, begins: int, ends: int) -> bool:
    """Whether the text rejects what stands there: "not B", "rather than B", "B is wrong", "B?"."""
    before = text[max(0, begins - 60) : begins]
    return bool(REJECTED_BEFORE.search(before) or REJECTED_AFTER.match(text, ends))


def _spans(text: str, options: tuple[str, ...], start: int) -> Iterator[tuple[int, int, int]]:
    """Places of options with where they begin and end; longer options first, none within them."""
    taken: list[tuple[int, int]] = []
    for place in sorted(range(len(options)), key=lambda place: -len(options[place])):
        words = pattern(options[place])
        # "no" in "no difference" is no answer; neither is the 5 of "5 days".
        short = len(re.findall(r"[^\W\d_]", options[place])) < 3
        ending = r"(?=\s*(?:$|[\n.,;:!)\"']))" if short else ""
        found = re.compile(words + ending, re.IGNORECASE).finditer(text, start) if words else ()
        for match in found:
            within = any(begin < match.end() and match.start() < end for begin, end in taken)
            if not within and not (short and _cut_off(text, match)):
                taken.append(match.span())
                yield place, *match.span()
    for match in BY_LETTER.finditer(text, start):
        place = ord((match[1] or match[2]).upper()) - ord("A")
        if place < len(options):
            yield place, *match.span()


def _cut_off(text: str, match: re.Match[str]) -> bool:
    """Whether the text breaks off after a short word, as in "This had no"."""
    at_end = not text[match.end() :].strip()
    return at_end and bool(BEFORE_A_NOUN.search(text[: match.start()]))
