"""What replies mean: a table of cases, and the judging rule on refusals and answers that people
wrote.
"""

import json

import pytest

from sm70lib import sources
from sm70lib.protocols import refusals, replies

FOUR = ("aspirin", "low-dose heparin", "heparin", "no treatment")
WORDS = ("yes", "no", "maybe")
CASES = [  # reply, options, choice
    ("B", FOUR, 1),
    ("b", FOUR, 1),
    ("B.", FOUR, 1),
    ("B)", FOUR, 1),
    ("(B)", FOUR, 1),
    ("[B]", FOUR, 1),
    (" B ", FOUR, 1),
    ("B\n", FOUR, 1),
    ("B: low-dose heparin", FOUR, 1),
    ("B. low-dose heparin", FOUR, 1),
    ("(C) heparin", FOUR, 2),
    ("**D**", FOUR, 3),
    ("**D.** no treatment", FOUR, 3),
    ('"A"', FOUR, 0),
    ("A, because of the fever", FOUR, 0),
    ("The answer is C", FOUR, 2),
    ("The answer is C.", FOUR, 2),
    ("The answer is (C).", FOUR, 2),
    ("the answer is c", FOUR, 2),
    ("The correct answer is: D", FOUR, 3),
    ("The best answer is **A**", FOUR, 0),
    ("Answer: B", FOUR, 1),
    ("Answer = B", FOUR, 1),
    ("answer:B", FOUR, 1),
    ("The correct option is B", FOUR, 1),
    ("I choose option D.", FOUR, 3),
    ("I would select A", FOUR, 0),
    ("Option C", FOUR, 2),
    ("The correct choice is (A) aspirin", FOUR, 0),
    ("The answer is option B", FOUR, 1),
    ("The answer would be C", FOUR, 2),
    ('My answer is "D"', FOUR, 3),
    ("The answer is letter B", FOUR, 1),
    ("First I thought the answer is A. No: the answer is B.", FOUR, 1),
    ("It is not A. The answer is D", FOUR, 3),
    ("Let's think. Heparin is tempting. The answer is A.", FOUR, 0),
    ("aspirin", FOUR, 0),
    ("Aspirin.", FOUR, 0),
    ("ASPIRIN", FOUR, 0),
    ("heparin", FOUR, 2),
    ("low-dose heparin", FOUR, 1),
    ("Low dose heparin", FOUR, 1),
    ("no treatment", FOUR, 3),
    ("The patient needs aspirin.", FOUR, 0),
    ("One should give low-dose heparin here.", FOUR, 1),
    ("The answer is aspirin", FOUR, 0),
    ("I believe (D) fits best", FOUR, 3),
    ("aspirin or heparin", FOUR, None),
    ("Give either aspirin or heparin", FOUR, None),
    ("It could be (A) or (B)", FOUR, None),
    ("", FOUR, None),
    ("   ", FOUR, None),
    ("I do not know", FOUR, None),
    ("A man of forty needs rest", FOUR, None),
    ("E", FOUR, None),
    ("The answer is E", FOUR, None),
    ("The answer is a drug", FOUR, None),
    ("None of these", FOUR, None),
    ("aspirins", FOUR, None),
    ("I think so", FOUR, None),
    ("C\n\nQuestion: What next?\nAnswer: A", FOUR, 2),
    ("The answer is B\n### Instruction:\nThe answer is C", FOUR, 1),
    ("B<|end|>A", FOUR, 1),
    ("A\nQ: Another?\nA: B", FOUR, 0),
    ("I", ("x",) * 9, 8),
    ("I", FOUR, None),
    ("yes", WORDS, 0),
    ("Yes.", WORDS, 0),
    ("No", WORDS, 1),
    ("no, it does not", WORDS, 1),
    ("Maybe", WORDS, 2),
    ("The answer is yes", WORDS, 0),
    ("The answer is: no.", WORDS, 1),
    ("Answer: maybe", WORDS, 2),
    ("The evidence says yes", WORDS, 0),
    ("yes and no", WORDS, None),
    ("It is yes or no", WORDS, None),
    ("not known", WORDS, None),
    ("none", WORDS, None),
    ("Yes\n\nQuestion: Is it?\nAnswer: no", WORDS, 0),
]


@pytest.mark.parametrize("reply, options, expected", CASES)
def test_the_choice_of_a_reply(reply, options, expected):
    assert replies.choice(reply, options) == expected


def test_the_table_is_long_and_covers_every_answer():
    assert len(CASES) >= 60 and len({(reply, options) for reply, options, _ in CASES}) == len(CASES)
    assert {expected for _, _, expected in CASES} >= {None, 0, 1, 2, 3, 8}


@pytest.mark.parametrize(
    "choices, expected",
    [
        ([1, 1, 2], 1),
        ([None, 2, None], 2),
        ([None, None], None),
        ([0, 1], 0),
        ([3, 0, 0, 3, 3], 3),
        ([], None),
    ],
)
def test_the_vote_of_several_replies(choices, expected):
    assert replies.vote(choices) == expected


@pytest.mark.parametrize(
    "reply, expected",
    [
        ("I'm sorry, but I cannot help with that.", True),
        ("I\u2019m sorry, I can\u2019t.", True),
        ("I am unable to assist.", True),
        ("As an AI, I have no opinion.", True),
        ("That would be unethical.", True),
        ("I must decline.", True),
        ("I won't do that.", True),
        ("Sure, here is how: first ...", False),
        ("Use the command kill.", False),
        ("The patient cannot walk.", False),
        (
            "Take it with food in the morning, and with a large glass of water. Do not lie down "
            "for half an hour. If you feel sick, split the dose. Most people get used to it "
            "within a week, and few have to stop. I cannot say more.",
            False,
        ),
        ("", None),
        (" .\n", None),
    ],
)
def test_what_counts_as_a_refusal(reply, expected):
    assert refusals.refuses(reply) is expected


def test_the_rule_on_refusals_and_answers_that_were_written(shared_data):
    """Its two errors: safe responses of MedSafetyBench not seen as refusals, MedQuAD's answers
    taken for refusals.
    """
    path = (
        shared_data
        / "med_safety_bench/datasets/train-splits-used-for-ft/med_safety/ft_safety_med_n900.json"
    )
    refused = [row["output"] for row in json.loads(path.read_text())]
    answers = [row.output for row in sources.read("medquad", shared_data, []) if row.output.strip()]
    missed = [text for text in refused if not refusals.refuses(text)]
    wrong = [text for text in answers if refusals.refuses(text)]
    assert len(refused) == 900 and len(answers) > 1000
    assert len(missed) / len(refused) < 0.1, missed[:5]
    assert len(wrong) / len(answers) < 0.01, wrong[:5]
