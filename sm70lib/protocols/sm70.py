"""How the SM70 authors asked in September and October 2023, and two probes of ours beside it.

Their fork of lm-evaluation-harness (github:SpassMed/lm-evaluation-harness, branches usmle and
usmle_vast): option texts, PubMedQA all 1,000, causal models without BOS, over-long prompts cut on
the left at 4,096. USMLE and PubMedQA have no train split in its tasks, so that their shots came
from the test itself.

Its prompts are not repeated byte for byte. The USMLE text that it read glues words at the ends of
lines, and six items have an option cut short in it: of the 203 items of steps 1 and 2 in its dumps,
169 are equal up to blanks and hyphens. Which shots were shown, and in what order, is equal in all
203.
"""

import random

from sm70lib.benchmarks import Item
from sm70lib.protocols.layouts import (
    EXAMS,
    USMLE,
    abstract,
    bracketed,
    official,
    option_letters,
    option_texts,
)
from sm70lib.protocols.protocol import Protocol


def draw_2023(items: list[Item], count: int, pool: list[Item], seed: int) -> dict[str, list[Item]]:
    """`count` few-shot examples for every item (by id), drawn as the 2023 harness did.

    One generator shuffles the items, then draws item by item in that order: from `pool`, or, where
    that is empty, from the items themselves, leaving out the one that is asked. Checked by the
    researchers of this project against the per-item dumps of the SM70 authors' evaluation fork
    (seed 42).
    """
    generator, order = random.Random(seed), list(items)
    generator.shuffle(order)
    drawn = {}
    for item in order:
        candidates = generator.sample(pool, count) if pool else generator.sample(items, count + 1)
        drawn[item.id] = [shot for shot in candidates if shot.id != item.id][:count]
    return drawn


def _asked(item: Item) -> str:
    return f"{item.question}\n{bracketed(item)}"


def _question(item: Item) -> str:
    return f"Question: {_asked(item)}\nAnswer:"


def _options_only(item: Item) -> str:
    return f"{bracketed(item)}\nAnswer:"


def _inst(item: Item) -> str:
    """Cut at the last full stop of question *and options*, as the fork did it.

    Where an option holds a full stop, the context reaches into the options. A Llama tokenizer
    reads the marks as its BOS and EOS.
    """
    context, _, question = _asked(item).rpartition(".")
    return f"<s> [INST] Context: {context}.\nQuestion: {question}\n[/INST]</s>Answer:"


def _vast(item: Item) -> str:
    options = "A. yes\nB. no\nC. maybe."
    return f"Context: {item.context}\nQuestion: {item.question}\n{options}\nAnswer:"


FROM_TEST = dict.fromkeys(("pubmedqa", *USMLE), "")
BRACKETED = dict.fromkeys(EXAMS, _question) | {"pubmedqa": abstract}

SM70 = (
    Protocol(
        "sm70-2023",
        2,
        BRACKETED,
        option_texts,
        draw=draw_2023,
        pools=FROM_TEST,
        shots_from_test=True,
    ),
    # The same questions with clean shots: USMLE's from MedQA, PubMedQA's from the 500 items outside
    # the official test, which alone is scored.
    Protocol(
        "sm70-2023-clean",
        2,
        BRACKETED,
        option_texts,
        keep=official,
        draw=draw_2023,
        pools=dict.fromkeys(USMLE, "medqa_4"),
    ),
    # The fork's USMLE prompt from 27 September to 5 October 2023 (its commits 7343322e to 0e8be38a),
    # with the stray "</s>" before "Answer:".
    Protocol(
        "sm70-2023-inst",
        1,
        dict.fromkeys(USMLE, _inst),
        option_texts,
        draw=draw_2023,
        pools=FROM_TEST,
        shots_from_test=True,
    ),
    # Its task `pubmedqa_vast` (commit ac8d4c5f): the verdicts stand as options, the words are read.
    Protocol(
        "sm70-2023-vast",
        1,
        {"pubmedqa": _vast},
        option_texts,
        draw=draw_2023,
        pools=FROM_TEST,
        shots_from_test=True,
    ),
    # Ours, a probe beside it: the same prompt, read by the letter of the answer, not by its text.
    Protocol(
        "sm70-2023-letters",
        2,
        dict.fromkeys(EXAMS, _question),
        option_letters,
        draw=draw_2023,
        pools=dict.fromkeys(USMLE, ""),
        shots_from_test=True,
    ),
    # Ours, a probe for cues in the options: the same prompt without its question. A model has no
    # business to score above the best constant guesser here (arXiv 2406.02394 saw 64 % on a
    # fictional organ).
    Protocol("options-only", 2, dict.fromkeys(EXAMS, _options_only), option_texts),
)
