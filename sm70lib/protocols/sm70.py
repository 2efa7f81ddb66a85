"""How the SM70 authors asked in September and October 2023, and two probes of our own.

They used a fork of lm-evaluation-harness (github:SpassMed/lm-evaluation-harness, branches usmle and
usmle_vast). It scores option texts and all 1,000 items of PubMedQA. It asks causal models without a
BOS, and cuts longer prompts on the left to 4,096 tokens. Its tasks have no train split for USMLE
and PubMedQA, so their shots came from the test itself.

Its prompts are not repeated byte for byte. The USMLE text that it read joins words at the ends of
lines, and cuts an option short in six items. Of the 203 items of steps 1 and 2 in its dumps, 169
are equal up to blanks and hyphens. The shots and their order are equal in all 203.
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
    """Draws `count` few-shot examples for every item, as the 2023 harness did.

    One generator shuffles the items, then draws item by item in that order. It draws from `pool`.
    Where that is empty, it draws from the items themselves and leaves out the item that is asked.
    Researchers of this project checked this against the per-item dumps of the SM70 authors'
    evaluation fork (seed 42).

    Returns:
        The examples by the item's id.
    """
    generator = random.Random(seed)
    order = list(items)
    generator.shuffle(order)
    drawn = {}
    for item in order:
        if pool:
            candidates = generator.sample(pool, count)
        else:
            candidates = generator.sample(items, count + 1)
        others = [shot for shot in candidates if shot.id != item.id]
        drawn[item.id] = others[:count]
    return drawn


def _asked(item: Item) -> str:
    return f"{item.question}\n{bracketed(item)}"


def _question(item: Item) -> str:
    return f"Question: {_asked(item)}\nAnswer:"


def _options_only(item: Item) -> str:
    return f"{bracketed(item)}\nAnswer:"


def _inst(item: Item) -> str:
    """The fork's text, cut into context and question at the last full stop.

    The cut looks at question *and options*: if an option holds a full stop, the context reaches
    into the options. A Llama tokenizer reads the marks <s> and </s> as its BOS and EOS.
    """
    context, _, question = _asked(item).rpartition(".")
    return f"<s> [INST] Context: {context}.\nQuestion: {question}\n[/INST]</s>Answer:"


def _vast(item: Item) -> str:
    options = "A. yes\nB. no\nC. maybe."
    return f"Context: {item.context}\nQuestion: {item.question}\n{options}\nAnswer:"


FROM_TEST = dict.fromkeys(("pubmedqa", *USMLE), "")
BRACKETED = dict.fromkeys(EXAMS, _question) | {"pubmedqa": abstract}

AUTHORS = Protocol(
    "sm70-2023",
    2,
    BRACKETED,
    option_texts,
    draw=draw_2023,
    pools=FROM_TEST,
    shots_from_test=True,
)

# The same questions with clean shots: USMLE's come from MedQA, and PubMedQA's come from the 500
# items outside the official test. Only the official test is scored.
CLEAN_SHOTS = Protocol(
    "sm70-2023-clean",
    2,
    BRACKETED,
    option_texts,
    keep=official,
    draw=draw_2023,
    pools=dict.fromkeys(USMLE, "medqa_4"),
)

# The fork's USMLE prompt from 27 September to 5 October 2023 (commits 7343322e to 0e8be38a),
# with the stray "</s>" before "Answer:".
INST = Protocol(
    "sm70-2023-inst",
    1,
    dict.fromkeys(USMLE, _inst),
    option_texts,
    draw=draw_2023,
    pools=FROM_TEST,
    shots_from_test=True,
)

# The fork's task `pubmedqa_vast` (commit ac8d4c5f): the prompt lists the verdicts as lettered
# options, but the words are scored.
VAST = Protocol(
    "sm70-2023-vast",
    1,
    {"pubmedqa": _vast},
    option_texts,
    draw=draw_2023,
    pools=FROM_TEST,
    shots_from_test=True,
)

# Our probe of the reading: the same prompt, read by the answer's letter instead of its text.
LETTERS = Protocol(
    "sm70-2023-letters",
    2,
    dict.fromkeys(EXAMS, _question),
    option_letters,
    draw=draw_2023,
    pools=dict.fromkeys(USMLE, ""),
    shots_from_test=True,
)

# Our probe for cues in the options: the same prompt without its question. A model should not
# score above the best constant guesser here (arXiv 2406.02394 saw 64 % on a fictional organ).
OPTIONS_ONLY = Protocol("options-only", 2, dict.fromkeys(EXAMS, _options_only), option_texts)
