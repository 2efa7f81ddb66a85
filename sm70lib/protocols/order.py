"""The order probe: the same questions with their options in other orders.

How far does the order alone move a model? Medmarks (arXiv 2605.01417) finds a preference for places
in the list, worst in small models. Each question is asked in the order of its file and in three
orders that a seed draws; `measures/orders.py` counts how often the chosen text changes.

Left out are questions of which an option speaks of others by their place or letter ("all of the
above", "A and C"): in another order they would ask something else.
"""

import random
import re
from dataclasses import replace

from sm70lib.benchmarks import Item
from sm70lib.protocols.harness import HARNESS, MED42
from sm70lib.protocols.layouts import EXAMS, MEDXPERTQA, MMLU, MMLU_PRO
from sm70lib.protocols.ours import GENERATE
from sm70lib.protocols.protocol import Protocol

AS_IT_IS = 0  # the seed that leaves the options in the order of the file
SEEDS = (AS_IT_IS, 1, 2, 3)
# The benchmarks that show their options in the prompt; the others have no order to change.
LISTED = (*EXAMS, "medmcqa", *MMLU, MMLU_PRO, MEDXPERTQA)
BY_PLACE = re.compile(
    r"\b(?:all|none|both|any|neither|either|two|three) (?:of )?(?:the )?"
    r"(?:above|below|preceding|following|these|options|choices|answers)\b"
    r"|^\W*(?:both |options? )?\(?[A-J]\)?(?:\s*(?:,|and|&|or|\+)\s*\(?[A-J]\)?)+\W*$",
    re.IGNORECASE,
)


def reordered(item: Item, seed: int) -> Item:
    """The item with its options in an order that seed and item decide; never the file's.

    Args:
        item: an item with at least two options.
        seed: AS_IT_IS leaves the order as it is.
    """
    if seed == AS_IT_IS:
        return item
    draw = random.Random(f"{seed} {item.id}")
    places = list(range(len(item.options)))
    while places == sorted(places):
        draw.shuffle(places)
    options = tuple(item.options[place] for place in places)
    return replace(item, options=options, answer=places.index(item.answer))


def may_be_reordered(item: Item) -> bool:
    """Whether no option speaks of others by their place or letter."""
    return not any(BY_PLACE.search(option) for option in item.options)


def _probe(asked_as: Protocol, name: str, words: Protocol) -> Protocol:
    """A protocol that asks as another one does, without shots, in every order.

    Args:
        asked_as: how it asks and reads.
        name: of the probe.
        words: whose words it takes for the questions, where it has some; else MedQA's.
    """
    layouts = {form: words.layouts.get(form, words.layouts["medqa_4"]) for form in LISTED}
    return replace(
        asked_as,
        name=name,
        version=1,
        layouts=layouts,
        view=reordered,
        seeds=SEEDS,
        varies=True,
        keep=may_be_reordered,
        draw=None,
        parts={},
    )


# Letters by their likelihood, as the harness asks. Med42's words are the harness's; it has more.
ORDER = _probe(HARNESS, "order", MED42)
# Answers in writing, which a model can give that only a server has.
ORDER_WRITTEN = _probe(GENERATE, "order-generate", GENERATE)
