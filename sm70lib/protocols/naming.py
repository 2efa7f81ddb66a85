"""Where a text names options: by letter ("B", "(b)", "option B") or by an option's own words."""

import re
from typing import NamedTuple

JUNK = re.compile(r"(?:[\s:=(\[{\"'$>]|[-\u2013\u2014]\s|\\\w+\{)*")
FILLER = re.compile(
    r"(?:the|most|likely|probably|clearly|definitely|certainly|therefore|thus|indeed|then|simply"
    r"|still|actually|both|either|all|option|choice|letter|answer|of|to|give|giving|start|starting"
    r"|use|using|prescribe|administer|that|it|is|an?(?=\s+\w))\b,?(?=\W)",
    re.IGNORECASE,
)
# What may follow a letter that is an answer: a mark, or a word that goes on about it.
CLOSED = re.compile(
    r"\s*(?:$|[\n)\]}\"':;,!?/&<$+=\\]|\.(?!\w)|\u2026|[-\u2013\u2014](?!\w))|\s+[(\[]"
)
GOES_ON = re.compile(
    r"\s+(?:because|since|as|due|given|and|or|but|which|based|for|with|according|rather|instead"
    r"|is|are|not|would|if|so|by|over)\b"
)
CAPITAL = re.compile(r"\s+[A-Z]\w")
LISTED = re.compile(r"\s*(?:$|[\n)\],;!/&\"']|\.(?:\s*$|\s+[A-Z\n(]))|\s+(?:and|or|are)\b|\s*\.$")
JOINS = re.compile(r"[)\]\"']*\s*(?:,\s*(?:and/or|and|or)?|and/or|[/&;+]|and|or|as well as)\s*")
MARK = re.compile(r"[)\].:,\"'\s-]*")
ENDED = re.compile(r"[)\]\"']*\s*(?:$|\n|\.)")
NEGATED = re.compile(r"[\s:]*(?:not|never|neither)\b", re.IGNORECASE)
LETTER = re.compile(r"[A-Ja-j](?!\w|['-]\w)")


class Named(NamedTuple):
    """Options that stand at one place of a text, and where it goes on after them.

    A letter that no option has counts as a place after the last one.
    """

    places: frozenset[int]
    end: int


def named(text: str, start: int, options: tuple[str, ...], strict: bool = False) -> Named | None:
    """The option or the list of options that a text names at a position.

    Args:
        text: the text, as `spoken` gives it.
        start: where the name should begin; marks and words such as "the option" may come first.
        options: the texts of the options.
        strict: the name must end its clause, as "B." and "B, because" do and "B cells" does not.

    Returns:
        What is named there; None for nothing, or for "not B" without "but C".
    """
    negated = NEGATED.match(text, start)
    if negated:
        return _after_but(text, negated.end(), options, strict)
    one = _one(text, start, options, strict)
    if not one:
        return None
    places, end = set(one.places), one.end
    while joined := JOINS.match(text, end):
        other = _one(text, joined.end(), options, False)
        if not other or not LISTED.match(text, other.end):
            break
        places |= other.places
        end = other.end
    return Named(frozenset(places), end)


def _after_but(text: str, start: int, options: tuple[str, ...], strict: bool) -> Named | None:
    """Reads "not B but C", of which the text up to "not" has been read."""
    denied = _one(text, start, options, False)
    but = denied and re.compile(r"[)\s,]*but(?: rather)?\b").match(text, denied.end)
    return _one(text, but.end(), options, strict) if but else None


def _one(text: str, start: int, options: tuple[str, ...], strict: bool) -> Named | None:
    """One option, after marks and filling words."""
    at = JUNK.match(text, start).end()  # type: ignore[union-attr]
    while True:
        found = _by_words(text, at, options, strict) or _by_letter(text, at, options)
        if found:
            return found
        filler = FILLER.match(text, at)
        if not filler:
            return None
        at = JUNK.match(text, filler.end()).end()  # type: ignore[union-attr]


def _by_letter(text: str, at: int, options: tuple[str, ...]) -> Named | None:
    """The option whose letter stands there, and that whose words follow as all there is."""
    letter = LETTER.match(text, at)
    if not letter:
        return None
    end, capital = letter.end(), letter[0].isupper()
    goes_on = GOES_ON.match(text, end) and (
        capital or re.match(r"\s+(?:because|since)", text[end:])
    )
    bare_capital = capital and letter[0] not in "AI" and CAPITAL.match(text, end)
    if not (CLOSED.match(text, end) or goes_on or bare_capital):
        return None
    place = ord(letter[0].upper()) - ord("A")
    after = MARK.match(text, end).end()  # type: ignore[union-attr]
    follows = _by_words(text, after, options, False)
    if follows and place in follows.places:
        return Named(frozenset({place}), follows.end)
    if follows and ENDED.match(text, follows.end):  # "B. heparin" of which heparin is option C
        return Named(follows.places | {place}, follows.end)
    return Named(frozenset({place}), end)


def _by_words(text: str, at: int, options: tuple[str, ...], strict: bool) -> Named | None:
    """The option whose words stand there: the longest, if there are several."""
    found = []
    for place, option in enumerate(options):
        words = pattern(option)
        match = re.compile(words, re.IGNORECASE).match(text, at) if words else None
        if match and _stands_alone(text, match.end(), option, strict):
            found.append((match.end(), place))
    if not found:
        return None
    end = max(found)[0]
    return Named(frozenset(place for stop, place in found if stop == end), end)


def _stands_alone(text: str, end: int, option: str, strict: bool) -> bool:
    """Whether words are an option, and no part of a sentence, as "no" is in "no difference"."""
    short = len(re.findall(r"[^\W\d_]", option)) < 3
    if not (strict or short):
        return True
    answers = re.compile(r"\s+(?:it|they|there|this|because|since|as|the|but|and|or)\b")
    return bool(CLOSED.match(text, end) or answers.match(text, end))


def pattern(option: str) -> str:
    """A pattern for the option's words in their order; "" for an option without words."""
    words = r"\W+".join(map(re.escape, re.findall(r"\w+", option)))
    return rf"(?<!\w)(?<!\d[.,]){words}(?!\w)(?![.,]\d)" if words else ""
