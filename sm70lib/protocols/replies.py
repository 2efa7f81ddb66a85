"""What a written reply says: which option it chooses.

The functions here read text only; they need no model.
"""

import re
from collections import Counter

from sm70lib.protocols.english import english
from sm70lib.protocols.mentions import mentioned, rejected
from sm70lib.protocols.naming import ENDED, named
from sm70lib.protocols.spoken import plain, spoken
from sm70lib.protocols.statements import leads, marked, stated

# "A. text" on the first line and "B. text" on the next, or A, B and C on one line: all options.
LISTING = re.compile(
    r"\W*(?:option\s+|choice\s+)?A[).:](?:[^\n]*\n\W*(?:option\s+|choice\s+)?B[).:]"
    r"|[^\n]*?\bB[).:][^\n]*?\bC[).:])",
    re.IGNORECASE,
)
# "Answer: B", "The correct answer is B", behind no word that may turn it round ("wrong answer: B").
SAID = re.compile(
    r"(?<![^\W\d_])(?<![^\W\d_]\s)(?:(?:so|thus|therefore|hence),?\s+)?(?:(?:the|my)\s+)?"
    r"(?:(?:correct|right|best|final)\s+)*answer(?:\s+(?:option|choice))?\s*(?:is\b|[:=\n])",
    re.IGNORECASE,
)
WHOLE_LINE = re.compile(r"[)\]\"'.]*\s*(?:$|\n)")
LINES = re.compile(r"^[^\w\n]*([A-J])(?!\w)", re.MULTILINE)  # that begin with a letter


def choice(reply: str, options: tuple[str, ...]) -> int | None:
    """Finds the option that a reply chooses.

    First the reply is cut. Reasoning in `<think>` tags is dropped, also where a tag is missing: of
    an unclosed one only what stands before counts. So is everything from a question or turn on that
    the model invents.

    Then these rules are tried in order, and the first one that finds something decides:

    1. The last LaTeX box or answer tag: `\\boxed{B}`, `<answer>B</answer>`.
    2. The last statement: "the answer is b", "Answer: aspirin", "I choose option B", "B is
       correct", "wait, it is B". A statement that is negated, asked or made under a condition ("if
       she were pregnant, ...") is none, nor is one about another, wrong or first answer.
    3. What the text opens with: a letter or an option's words, where the clause ends after them. A
       list of the options is no choice.
    4. The last conclusion: "the best next step is (C).", "so C"; also a statement under a
       condition.
    5. The one option that the text mentions, by its words, as "(B)" or as "option B". Rejected
       ones do not count: "not B", "rather than B", "rule out B", "B is wrong".

    Where the deciding place names several options ("A, C and D"), the reply chooses none. A letter
    that no option has is no answer. A letter with the words of another option ("B. heparin") names
    two options.

    These rules are for English. Of a reply in another language (see `english`) only three things
    are read: a box or tag, "Answer: B" or "The answer is B" in English, and a letter or an option's
    words that are its whole first line. Anything else would be guessed: "Option A ist falsch".

    Limits: a lone option that the text rejects in other words is taken for the choice. So is the
    last statement, even if the text takes it back without another one.

    Args:
        reply: what the model wrote.
        options: the texts of the options.

    Returns:
        The position of the option, or None if the reply chooses none or more than one.
    """
    text = spoken(reply)
    options = tuple(plain(option) for option in options)
    decided = _decided if english(text, options) else _beyond_doubt
    for content in reversed(marked(text)):
        inside = named(content, 0, options)
        places = inside.places if inside else decided(content, options)
        if places:
            return _only(places, options)
    return _only(decided(text, options), options)


def _decided(text: str, options: tuple[str, ...]) -> frozenset[int]:
    """What the first rule from statements on that finds something says."""
    statements = stated(text, options)
    firm = [statement for statement in statements if not statement.conditional]
    if firm:
        return firm[-1].places
    opening = _opening(text, options)
    if len(opening) == 1:
        return opening
    conclusions = leads(text, options) or statements
    if conclusions:
        return conclusions[-1].places
    return opening or mentioned(text, options)


def _beyond_doubt(text: str, options: tuple[str, ...]) -> frozenset[int]:
    """What a reply in another language chooses: an answer in English, or its first line alone."""
    for cue in reversed(list(SAID.finditer(text))):
        read = named(text, cue.end(), options)
        if read and ENDED.match(text, read.end):
            return read.places
    read = named(text, 0, options, strict=True)
    alone = read and WHOLE_LINE.match(text, read.end) and len(set(LINES.findall(text))) <= 1
    return read.places if read and alone else frozenset()


def _opening(text: str, options: tuple[str, ...]) -> frozenset[int]:
    """The options that the text opens with, if it does not list all of them or rejects them."""
    read = named(text, 0, options, strict=True)
    if not read or LISTING.match(text) or rejected(text, 0, read.end):
        return frozenset()
    return read.places


def _only(places: frozenset[int], options: tuple[str, ...]) -> int | None:
    """The one place, if there is one and an option has it."""
    known = [place for place in places if place < len(options)]
    return known[0] if len(places) == len(known) == 1 else None


# A reply that cannot be read counts as wrong. If most cannot be read, the prompt, the end token or
# the reader makes the number, not what the model knows: 120 empty replies of a tuned model once
# passed for a score of 0 %, with a verdict.
MOSTLY = 0.5
NO_SCORE = "no score"


def unscored(unread: int, n: int) -> str:
    """Why `n` replies give no score ("no score: 9 of 9 replies unread"); "" if they give one."""
    return f"{NO_SCORE}: {unread} of {n} replies unread" if unread > MOSTLY * n else ""


def vote(choices: list[int | None]) -> int | None:
    """The option that most replies choose.

    Returns:
        Its position; in a tie, the one that was chosen first; None if no reply chooses any.
    """
    votes = Counter(place for place in choices if place is not None)
    return votes.most_common(1)[0][0] if votes else None
