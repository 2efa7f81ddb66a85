"""Words as numbers are those that a dictionary of the words gives."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sm70lib.corpus import words
from sm70lib.corpus.words import END, UNKNOWN, Numbers

KNOWN = ["fever", "of", "unknown", "origin", "été", "ﬁ".replace("ﬁ", "fi"), "x2", "ω", "a"]
NUMBERS = Numbers(KNOWN)
TABLE = {word: number for number, word in enumerate(KNOWN, UNKNOWN + 1)}
PIECES = [*KNOWN, "Fever", "ﬁ", "feverof", "_", "-", "\u00a0", "\x00", "\udc80", "É", "", "z" * 90]
PIECES += ["发热fever", "बुखार", "حُمَّى", "ไข้", "x\u0304"]
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


@pytest.mark.parametrize(
    "text, expected",
    [
        ("45岁男性，服用MRI后。", "45 岁 男 性 服 用 mri 后"),
        ("カーﾃﾞ 々", "カ ー デ 々"),  # half-width kana
        ("人\U00020000\U000e0100口", "人 \U00020000 口"),  # a rare character and a variant's mark
        ("ป่วย", "ป่ ว ย"),
        ("မြန်", "မြ န်"),
        ("ជំងឺ", "ជំ ងឺ"),
        ("ຢາ", "ຢ າ"),
        ("रोगी को बुखार है।", "रोगी को बुखार है"),
        ("مُحَمَّدٌ محمـد ﷴ", "محمد محمد محمد"),  # voweled, stretched, and one character
        ("환자는 열이", "환자는 열이"),
        ("ẹ̀kọ́", "ẹ̀kọ́"),
        ("naïve β-blocker, 37 ºC, H₂O, Crohn\u00b4s", "naïve β blocker 37 oc h2o crohn s"),
        ("x\u0304 = 1\ufe0f\u20e3", "x 1"),  # as in English statistics and in lists
    ],
)
def test_words_of_many_scripts(text, expected):
    found = words.words(text)
    assert found == expected.split()
    assert words.words(" ".join(found)) == found


@settings(max_examples=300, deadline=None)
@given(texts)
def test_words_do_not_change_when_they_are_read_again(text):
    found = words.words(text)
    assert words.words(" ".join(found)) == found


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_words_of_texts_in_latin_letters_are_runs_between_punctuation(text):
    if not set(text) & set("İŉǰ"):  # whose small form has a mark of its own
        plain = unicodedata.normalize("NFKC", text).casefold()
        assert words.words(text) == re.findall(r"[^\W_]+", plain)


@pytest.mark.parametrize(
    "text, count",
    [
        ("Which is true, e.g. 1.5 mg - or two?", 9),
        ("β-blocker", 1),
        ("患者，发热", 4),
        ("CT 检查。", 3),
    ],
)
def test_length_counts_as_a_reader_does(text, count):
    assert words.length(text) == count
