"""The words of texts, normalised, and as numbers found in the bytes of many texts at once.

A look-up in a dictionary for each word was the slowest part of an audit of running text.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

import numpy as np

WORD = re.compile(r"[^\W_]+")
# Scripts that put no space between words: Thai, Lao, Myanmar, Khmer, kana, bopomofo and Han.
ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff\U0001aff0-\U0001b16f"
    "\U00020000-\U0003ffff"
)
SPACELESS = re.compile(f"[{ALONE}]")
# Arabic is written with vowel signs, and with a stretching line, or without.
HARAKAT = re.compile(
    "[\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]"
)
END, UNKNOWN = 0, 1  # numbers of no word: the end of a part, and a word that is not known
SHORT = 8  # words: a shorter text counts as exact only together with its options
BITS = 20  # of a glance, for the number of a word
CHUNK = 2**20  # bytes that are looked at together
# A word's hash is a polynomial of its bytes, modulo 2^64, at this odd number, which has an inverse.
BASE = 0x9E3779B97F4A7C15
SLOT_BITS = 21
IN_WORD = np.array([chr(code).isalnum() or code >= 0x80 for code in range(256)])


Parts = list[str]  # a field: one text, or one for each option


def words(text: str) -> list[str]:
    """The words of a text, normalised: NFKC, case folded, without punctuation and harakat.

    A word is a run of letters, digits and the marks that belong to them. A script without spaces
    (`ALONE`) does not show its words, so each of its characters is one, with its marks.
    """
    if text.isascii():
        return WORD.findall(text.lower())
    plain = unicodedata.normalize("NFKC", text).casefold()
    special, word = _beyond_letters()
    if not special.search(plain):  # most texts that are not ASCII: a dash, a Greek letter
        return WORD.findall(plain)
    return word.findall(HARAKAT.sub("", plain))


def length(text: str) -> int:
    """How many words a reader counts: what stands between white space.

    Of what has characters of a script without spaces, each of its `words` counts.
    """
    runs = text.split()
    if text.isascii():
        return len(runs)
    return sum(len(words(run)) if SPACELESS.search(run) else 1 for run in runs)


@cache
def _beyond_letters() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds characters that `WORD` does not know, and the words of a text that has some.

    A mark behind an ASCII letter or digit ends the word, as in an x with a bar, so that English
    texts keep their words. Marks above U+FFFF are of rare scripts, and would slow the search.
    """
    codes = [code for code in range(0x300, 0x10000) if not 0xFE00 <= code <= 0xFE0F]  # variants
    marks = "".join(chr(code) for code in codes if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    run = rf"[^\W_{ALONE}]"
    joined = rf"{run}+(?:(?<![a-z0-9])[{marks}]+{run}*)*"
    single = rf"(?=[^\W_])[{ALONE}][{marks}]*"
    return re.compile(f"[{ALONE}{marks}\u0640]"), re.compile(f"{joined}|{single}")


class Numbers:
    """The numbers of the words of texts.

    Args:
        known: the words that have numbers of their own, from UNKNOWN + 1 on.
    """

    def __init__(self, known: list[str]):
        _, hashes = _hashed("\n".join(known).encode())
        assert len(np.unique(hashes)) == len(hashes) == len(known), "two words have the same hash"
        order = np.argsort(hashes)
        self.hashes, self.numbers = hashes[order], order + UNKNOWN + 1
        # Most words are found where the first bits of their hash lead, without a search.
        slots = _slot(self.hashes)
        self.slot_hash: np.ndarray = np.zeros(2**SLOT_BITS, np.uint64)
        self.slot_number: np.ndarray = np.full(2**SLOT_BITS, UNKNOWN)
        self.slot_hash[slots], self.slot_number[slots] = self.hashes, self.numbers

    def of(self, parts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of all words, with END behind each part; and how many a part has with it."""
        found: list[np.ndarray] = []
        counts: list[np.ndarray] = []
        for hashes, sizes in hashed(parts):
            numbers: np.ndarray = np.full(len(hashes) + len(sizes), END)
            places = np.arange(len(hashes)) + np.repeat(np.arange(len(sizes)), sizes)
            numbers[places] = self._looked_up(hashes)
            found.append(numbers)
            counts.append(sizes + 1)
        empty: np.ndarray = np.zeros(0, int)
        return np.concatenate([*found, empty]), np.concatenate([*counts, empty])

    def _looked_up(self, hashes: np.ndarray) -> np.ndarray:
        slots = _slot(hashes)
        numbers = self.slot_number[slots]
        others = np.flatnonzero((self.slot_hash[slots] != hashes) & (numbers != UNKNOWN))
        numbers[others] = UNKNOWN
        places = np.searchsorted(self.hashes, hashes[others]).clip(max=len(self.hashes) - 1)
        known = self.hashes[places] == hashes[others]
        numbers[others[known]] = self.numbers[places[known]]
        return numbers


class Texts:
    """Texts of fields as numbers, and what a glance at each shows.

    Attributes:
        ids: the numbers of the words of all texts, END behind each part.
        owner: the text that each belongs to.
        counts: how many words a text has.
        first: the number of its first word, or END.
        last: the number of its last word, or END.
    """

    def __init__(self, texts: list[Parts], numbers: Numbers):
        self.ids, sizes = numbers.of([part for parts in texts for part in parts])
        parts = np.array([len(parts) for parts in texts], int)
        bounds = np.r_[0, np.cumsum(sizes)][np.r_[0, np.cumsum(parts)]]
        starts, ends = bounds[:-1], bounds[1:]
        self.owner: np.ndarray = np.repeat(np.arange(len(texts)), ends - starts)
        self.counts = ends - starts - parts
        self.first = self.ids[starts]
        self.last = np.where(ends - 2 >= starts, self.ids[np.maximum(ends - 2, 0)], END)


def copies(
    seen: Texts,
    texts: list[Parts],
    pairs: list[tuple[int, int]],
    wanted: np.ndarray | None = None,
) -> Iterator[tuple[int, int, Parts]]:
    """What must be equal for an exact copy: a field that is long enough, or question and options.

    A glance at it is cheaper to compare than all its words: their number, the first and the last.

    Args:
        seen: the texts as numbers.
        texts: the texts.
        pairs: places of questions and their options.
        wanted: the glances that are asked for, sorted; None for all.

    Yields:
        A glance, the place of the text (the question for both), and the parts.
    """
    glances = _glance(seen.counts, seen.first, seen.last)
    for place in np.flatnonzero((seen.counts >= SHORT) & _among(glances, wanted)):
        yield int(glances[place]), int(place), texts[place]
    question, options = np.array(pairs, int).reshape(-1, 2).T
    both = _glance(
        seen.counts[question] + seen.counts[options], seen.first[question], seen.last[options]
    )
    whole = (seen.counts[question] > 0) & (seen.counts[options] > 0)
    for pair in np.flatnonzero(whole & _among(both, wanted)):
        yield both[pair], question[pair], texts[question[pair]] + texts[options[pair]]


def _glance(counts: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    return counts << 2 * BITS | first << BITS | last


def _among(glances: np.ndarray, wanted: np.ndarray | None) -> np.ndarray:
    if wanted is None:
        return np.full(len(glances), True)
    places = np.searchsorted(wanted, glances).clip(max=len(wanted) - 1)
    return wanted[places] == glances


def hashed(parts: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The hashes of the words of all parts, and how many words each part has, some at a time."""
    for some in _chunks(parts):
        plain = [_plain(part) for part in some]
        starts, hashes = _hashed(b"\n".join(plain))
        ends = np.cumsum([len(part) + 1 for part in plain])
        yield hashes, np.diff(np.searchsorted(starts, ends), prepend=0)


def _slot(hashes: np.ndarray) -> np.ndarray:
    return hashes >> np.uint64(64 - SLOT_BITS)


def _plain(text: str) -> bytes:
    """A text in which words differ from what stands between them by their bytes alone."""
    if text.isascii():
        return text.lower().encode()
    return " ".join(words(text)).encode()


def _chunks(parts: list[str]) -> Iterator[list[str]]:
    """The parts in lists of about CHUNK characters."""
    some: list[str] = []
    size = 0
    for part in parts:
        some.append(part)
        size += len(part) + 1
        if size > CHUNK:
            yield some
            some, size = [], 0
    if some:
        yield some


def _hashed(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where each word of a text begins, and its hash."""
    codes = np.frombuffer(text, np.uint8)
    inside = IN_WORD[codes]
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    powers = _powers(BASE, len(codes) + 1)
    sums = np.cumsum((codes + np.uint64(1)) * powers[1:])
    sums = np.concatenate([np.zeros(1, np.uint64), sums])
    return starts, (sums[ends] - sums[starts]) * _powers(pow(BASE, -1, 2**64), len(codes) + 1)[
        starts
    ]


_kept: dict[int, np.ndarray] = {}


def _powers(base: int, count: int) -> np.ndarray:
    """The first powers of a number, modulo 2^64; those of one chunk are kept."""
    if base not in _kept or len(_kept[base]) < count:
        powers: np.ndarray = np.full(max(count, 2 * CHUNK), base, np.uint64)
        powers[0] = 1
        powers = np.cumprod(powers)
        if count > 2 * CHUNK:
            return powers
        _kept[base] = powers
    return _kept[base][:count]
