"""Words as numbers are those that a dictionary of the words gives."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sm70lib.corpus import words
from sm70lib.corpus.words import END, UNKNOWN, Numbers

KNOWN = ["fever", "of", "unknown", "origin", "été", "ﬁ".replace("ﬁ", "fi"), "x2", "ω", "a"]
NUMBERS = Numbers(KNOWN)
TABLE = {word: number for number, word in enumerate(KNOWN, UNKNOWN + 1)}
PIECES = [*KNOWN, "Fever", "ﬁ", "feverof", "_", "-", "\u00a0", "\x00", "\udc80", "É", "", "z" * 90]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=6), st.sampled_from([1, 7, 2**22]))
def test_numbers_are_those_of_the_words(parts, chunk):
    before, words.CHUNK = words.CHUNK, chunk
    try:
        numbers, counts = NUMBERS.of(parts)
    finally:
        words.CHUNK = before
    expected = [[TABLE.get(word, UNKNOWN) for word in words.words(part)] + [END] for part in parts]
    assert numbers.tolist() == [number for part in expected for number in part]
    assert counts.tolist() == [len(part) for part in expected]


def test_words_that_share_a_slot_are_told_apart(monkeypatch):
    monkeypatch.setattr(words, "SLOT_BITS", 1)
    many = [f"word{number}" for number in range(500)]
    numbers, _ = Numbers(many).of([" ".join(many), "word500"])
    assert numbers.tolist() == [*range(UNKNOWN + 1, 502), END, UNKNOWN, END]
