"""Statements of a choice in a reply: "the answer is B", "I choose C", "D is correct"."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from sm70lib.protocols.mentions import mentioned
from sm70lib.protocols.naming import JUNK, Named, named

BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)")
TAGGED = re.compile(
    r"<(?:final_?)?(?:answer|choice|option)>(.*?)(?:</|$)", re.IGNORECASE | re.DOTALL
)
IS = r"(?:is|would be|should be|must be|has to be|will be|seems to be|appears to be|was)\b"
# "the answer to this question is", "Answer:", "answer" as a heading. What follows is the option.
ANSWER = re.compile(
    r"\b(?:answer|ans|option|choice|response|solution|pick|diagnosis)\b[\"')]*"
    r"(?:\s+(?:choice|option|letter|here|(?:to|for|of|in|among)\b[^.:;\n?]{1,80}?))?"
    rf"(?:,?\s*(?:therefore|then|thus),?)?\s*(?:[:=\u2192]|->|{IS}|\n|$)",
    re.IGNORECASE,
)
OTHER = re.compile(
    r"\b(?:incorrect|wrong|another|other|worst|initial|previous|alternative|first|second|no)\s+$",
    re.IGNORECASE,
)
CHOOSE = re.compile(
    r"(?:\b(?:I|we)(?:'d|'ll|'m| am| would| will| must| should| can| have to)?"
    r"(?:\s+(?:therefore|then|thus|now|\w+ly))*\s+|(?:^|[.\n,]\s*)(?:so\s+|please\s+)?)"
    r"(?:choose|chose|select|selected|pick|picked|go(?:ing)? with|opt for|vote for|answer with"
    r"|answer|say|settle on|choosing)\b",
    re.IGNORECASE,
)
CORRECTED = re.compile(
    r"\b(?:wait|actually|correction|scratch that|I mean|make (?:it|that)|sorry|change [\w ]+ to)"
    r"\b[,:;.!\s\u2026-]*(?:(?:no|actually|I mean|make (?:it|that))\b[,.\s]*)*",
    re.IGNORECASE,
)
IT_IS = re.compile(r"\b(?:it|this|that)(?:'s| is| must be| should be)\b", re.IGNORECASE)
# "B is correct": the option stands in front.
CORRECT = re.compile(
    r"[\s,)\"']*\b(?:(?:is|are|would be|should be|must be|seems(?: to be)?|appears to be)\s+"
    r"(?:(?:clearly|thus|therefore|also|both|all|probably|likely|definitely|indeed|the|my|a|single"
    r"|only|one|most)\s+)*(?:correct|answers?|true|best(?! avoided)"
    r"|right(?=\s+(?:answer|choice|option|one)|\W*$|\W*[.,:!\n])"
    r"|(?<=most )(?:likely|appropriate|accurate|suitable|probable|consistent))\b"
    r"|\bas (?:the|my) (?:\w+ )?(?:answer|choice)\b|\b(?:fits|matches) best\b)",
    re.IGNORECASE,
)
LEADS_TO = re.compile(r"\b(?:is|so|therefore|thus|hence|leaves|leaving)\b[,:]?", re.IGNORECASE)
SENTENCE = re.compile(r"(?<!\b[A-J])[.!?]\s+|\n|;\s")
NEGATIVE = re.compile(r"\b(?:not|never|cannot|neither|nor|none|doubt|unlikely)\b|n't\b", re.I)
CONDITION = re.compile(r"\b(?:if|unless|whether|had|were)\b", re.IGNORECASE)


class Statement(NamedTuple):
    """What a reply says of the answer, where it says it, and whether only under a condition."""

    at: int
    places: frozenset[int]
    conditional: bool


def marked(text: str) -> list[str]:
    """What stands in LaTeX boxes and in answer tags, in their order."""
    found = [match for form in (BOXED, TAGGED) for match in form.finditer(text)]
    return [match[1] for match in sorted(found, key=lambda match: match.start())]


def stated(text: str, options: tuple[str, ...]) -> list[Statement]:
    """All statements of a choice, in their order; none that are negated or asked.

    Args:
        text: the text, as `spoken` gives it.
        options: the texts of the options.
    """
    found = [*_forward(text, options), *_backward(text, options)]
    return sorted(found, key=lambda statement: statement.at)


def leads(text: str, options: tuple[str, ...]) -> list[Statement]:
    """Ends of sentences that lead to a capital letter: "the best next step is (C).", "so C"."""
    found = []
    for cue in LEADS_TO.finditer(text):
        name = re.compile(r"[\s(\[\"']*(?:option\s+)?[(]?[A-J](?![\w'])").match(text, cue.end())
        read = name and named(text, cue.end(), options)
        closed = read and re.compile(
            r"[)\]\"']*(?:\.(?=\s*$|\s+[A-Z(])|,|\s*\n|\s*$|[)\]:;])"
        ).match(text, read.end)
        if read and closed and not _asked(text, read.end):
            found.append(Statement(cue.start(), read.places, False))
    return found


def _forward(text: str, options: tuple[str, ...]) -> Iterator[Statement]:
    """Statements whose option follows: "the answer is B", "wait, C", "it is D"."""
    for form in (ANSWER, CHOOSE, CORRECTED, IT_IS):
        for cue in form.finditer(text):
            if form is ANSWER and OTHER.search(text, 0, cue.start()):
                continue
            read = named(text, cue.end(), options, strict=form in (CORRECTED, IT_IS))
            if not read and form is ANSWER:
                read = _in_sentence(text, cue.end(), options)
            if not read or _asked(text, read.end):
                continue
            if form is IT_IS and not _letter_at(text, cue.end()):
                continue
            yield _statement(text, cue.start(), read)


def _backward(text: str, options: tuple[str, ...]) -> Iterator[Statement]:
    """Statements whose option stands in front: "B is correct", "which leaves C as the answer"."""
    for cue in CORRECT.finditer(text):
        start = _sentence_start(text, cue.start())
        before = text[start : cue.start()]
        read = _at_end(before, options)
        if read and not NEGATIVE.search(before.rpartition(",")[2]) and not _asked(text, cue.end()):
            yield _statement(text, cue.start(), read)


def _at_end(before: str, options: tuple[str, ...]) -> Named | None:
    """What the text in front of "is correct" names: at its end, or as "Option C (a drug)"."""
    for word in re.finditer(r"(?<!\w)\w", before):
        read = named(before, word.start(), options)
        if read and not before[read.end :].strip(" )].,:\"'"):
            return read
    opening = re.match(r"\W*(?:option|choice|answer)?\s*\(?[A-J](?:[).:]|\s+\()", before, re.I)
    return named(before, 0, options) if opening else None


def _in_sentence(text: str, start: int, options: tuple[str, ...]) -> Named | None:
    """The one option that the rest of a sentence mentions, as in "the answer is giving heparin"."""
    ends = SENTENCE.search(text, start)
    end = ends.start() if ends else len(text)
    places = mentioned(text[:end], options, start)
    return Named(places, end) if len(places) == 1 else None


def _statement(text: str, at: int, read: Named) -> Statement:
    start = _sentence_start(text, at)
    return Statement(at, read.places, bool(CONDITION.search(text, start, at)))


def _sentence_start(text: str, at: int) -> int:
    ends = [match.end() for match in SENTENCE.finditer(text, 0, at)]
    return ends[-1] if ends else 0


def _asked(text: str, end: int) -> bool:
    """Whether a question mark ends the sentence there: "Is the answer B?"."""
    return bool(re.compile(r"[)\]\"'\s]*\?").match(text, end))


def _letter_at(text: str, start: int) -> bool:
    at = JUNK.match(text, start).end()  # type: ignore[union-attr]
    return bool(re.compile(r"(?:not\s|(?:option|choice|letter)\s+)?\(?[A-J](?!\w)").match(text, at))
