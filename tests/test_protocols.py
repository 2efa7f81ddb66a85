"""Protocols say the words that their authors published, and draw shots as they drew them."""

import random
from dataclasses import replace

import pytest

from sm70lib import protocols
from sm70lib.benchmarks import Item
from sm70lib.params import StudyError

EXAM = Item("m/1", "m/1", "medqa_4", "What now?", "", ("one", "two", "three", "four"), 2)
ABSTRACT = Item("7", "7", "pubmedqa", "Does it?", "We tried.\nIt did.", ("yes", "no", "maybe"), 0, {"test": False})


def test_sm70_2023_asks_for_the_text_of_an_option():
    protocol = protocols.named("sm70-2023")
    assert protocol.prompt(EXAM) == "Question: What now?\n(A) one (B) two (C) three (D) four\nAnswer:"
    assert protocol.answers(EXAM) == [" one", " two", " three", " four"]
    assert protocol.prompt(ABSTRACT) == "Abstract: We tried.\nIt did.\nQuestion: Does it?\nAnswer:"
    assert protocol.keep(ABSTRACT) and not protocol.bos and protocol.max_context == 4096


def test_harness_asks_for_letters_and_keeps_the_official_test():
    protocol = protocols.named("harness")
    assert protocol.prompt(EXAM) == "Question: What now?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
    assert protocol.answers(EXAM) == [" A", " B", " C", " D"]
    assert protocol.answers(ABSTRACT) == [" yes", " no", " maybe"]
    assert not protocol.keep(ABSTRACT) and protocol.keep(EXAM)


def test_shots_are_drawn_as_in_2023():
    """An independent writing of the rule, for a pool of other items and for the test items themselves."""
    items = [Item(str(n), str(n), "medqa_4", f"{n}?", "", ("a", "b"), 0) for n in range(30)]
    pool = [Item(f"p{n}", "", "medqa_4", f"p{n}?", "", ("a", "b"), 0) for n in range(50)]
    checked = 0
    for source in (pool, []):
        drawn = protocols.draw_2023(items, 5, source, seed=42)
        rnd = random.Random()
        rnd.seed(42)
        order = list(range(30))
        rnd.shuffle(order)
        for n in order:
            expected = (rnd.sample(pool, 5) if source else
                        [shot for shot in rnd.sample(items, 6) if shot.id != str(n)][:5])
            assert drawn[str(n)] == expected and str(n) not in [shot.id for shot in drawn[str(n)]]
            checked += 1
    assert checked == 60


def test_shots_are_solved_and_parted_by_a_blank_line():
    text = protocols.named("sm70-2023").prompt(EXAM, [ABSTRACT, EXAM])
    first, second, asked = text.split("\n\n")
    assert first.endswith("Answer: yes") and second.endswith("Answer: three") and asked.endswith("Answer:")


def test_a_digest_changes_with_the_words():
    protocol = protocols.named("sm70-2023")
    other = replace(protocol, layouts={"medqa_4": lambda item: item.question})
    digests = {protocol.digest("medqa_4"), other.digest("medqa_4"), replace(protocol, version=2).digest("medqa_4")}
    assert len(digests) == 3


def test_an_unknown_protocol_is_one_sentence():
    with pytest.raises(StudyError, match="there is no protocol 'sm71'; choose from sm70-2023"):
        protocols.named("sm71")
