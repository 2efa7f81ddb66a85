"""How Meditron's raw models were asked (arXiv 2311.16079, section 5; github:epfLLM/meditron).

Its evaluation/inference.py shows 3 shots to the 7B model and 5 to the 70B model, the same for all
items, with three seeds. TruthfulQA is asked with one shot for 7B and none for 70B (table 13). The
text goes to vLLM's `generate`, which puts the tokenizer's BOS in front.

What cannot be repeated:

- Reading: the authors generated the letter with a frequency penalty of 1.0 and could not parse
  "maybe"; here the likeliest letter counts. vLLM did not answer a prompt longer than the model's
  context; here it is cut on the left.
- TruthfulQA's options: the authors drew the wrong ones, and shuffled all four, without a seed. Here
  there is a seed.
- TruthfulQA's one shot: the paper does not say where it came from, and the released code, which
  has no train split of TruthfulQA, stops with an error. Here it comes from the questions outside
  the four categories that are scored.
- MMLU's shots: the authors' pool is the dev rows of eleven subjects, two of them in chemistry. Our
  pool is the dev rows of the subjects that are scored, so the same seeds give other shots.
- PubMedQA's shots: they are the authors' only if the PubMedQA file has the order of the authors'
  file. From that order `folds` cuts the pool of 450. Drawn from all 500 items outside the test,
  the same seeds would give other shots.
"""

import random
from dataclasses import replace

import numpy as np

from sm70lib.benchmarks import Item, folds
from sm70lib.parameters.aggregates import MEDICAL
from sm70lib.protocols import replies
from sm70lib.protocols.layouts import MMLU, dotted, letters, official, option_texts
from sm70lib.protocols.protocol import Parts, Protocol


def draw_meditron(
    items: list[Item], count: int, pool: list[Item], seed: int
) -> dict[str, list[Item]]:
    """Draws the same `count` few-shot examples for all items, as Meditron's `add_few_shot` does.

    Returns:
        The first `count` items of the shuffled pool, by the id of every item.
    """
    order = np.random.default_rng(seed).permutation(len(pool))
    shots = [pool[place] for place in order[:count]]
    return {item.id: shots for item in items}


# Its system prompts (evaluation/instructions.json; arXiv 2311.16079, table 2).
SCIENCE = (
    "understanding of basic and clinical science, medical knowledge, and mechanisms underlying "
    "health, disease, "
)
MODES = "patient care, and modes of therapy"
GUIDELINES = (
    "Base your answer on the current and standard practices referenced in medical guidelines."
)
DOCTOR = (
    "You are a medical doctor answering realworld medical entrance exam questions. Based on your "
    f"{SCIENCE}{MODES}, answer the following multiple-choice question. Select one correct answer "
    f"from A to D. {GUIDELINES}"
)
EXAMINEE = (
    "You are a medical doctor taking the US Medical Licensing Examination. You need to demonstrate "
    f"your {SCIENCE}{MODES}. Show your ability to apply the knowledge essential for medical "
    "practice. For the following multiple-choice question, select one correct answer from A to E. "
    f"{GUIDELINES}"
)
INSTRUCTIONS = {
    **dict.fromkeys(("medqa_4", "medqa_5"), EXAMINEE),
    **dict.fromkeys(("medmcqa", *MMLU), DOCTOR),
    "pubmedqa": (
        "As an expert doctor in clinical science and medical knowledge, can you tell me if the "
        "following statement is correct? Answer yes, no, or maybe."
    ),
    "truthfulqa": (
        "Please truthfully answer the following multiple-choice question. Please ensure that your "
        "choice is socially unbiased and positive. If you don't know the answer to a question, "
        "please don't share false information."
    ),
}


def _instruction(item: Item) -> str:
    return f"{INSTRUCTIONS[item.benchmark]}\n"


def _question(item: Item) -> str:
    if item.benchmark == "pubmedqa":
        return f"{item.context}\n{item.question}\nThe answer is:"
    mark = "" if item.question.endswith(("?", ".")) else "?"
    return f"Question: {item.question}{mark}\n\nOptions:\n{dotted(item)}\nThe answer is:"


def _step_by_step(item: Item) -> tuple[str, str]:
    """The system prompt and the question, with the words that ask for a chain of thought."""
    asked = _question(item).removesuffix("The answer is:")
    return INSTRUCTIONS[item.benchmark], f"{asked}Let's think step by step."


def _letters_or_verdicts(item: Item) -> list[str]:
    """PubMedQA's words, and letters for all others, TruthfulQA included."""
    if item.benchmark == "pubmedqa":
        return option_texts(item)
    return letters(item)


def four_options(item: Item, seed: int) -> Item:
    """Gives a TruthfulQA item its right answer and three wrong ones, shuffled.

    Items of other benchmarks stay as they are. The wrong answers are drawn with replacement, as in
    the released code, so one of them may appear two or three times. Draw and order depend on
    `seed` and item.
    """
    if item.benchmark != "truthfulqa":
        return item
    draw = random.Random(f"{seed} {item.id}")
    right = item.options[item.answer]
    wrong = [option for place, option in enumerate(item.options) if place != item.answer]
    options = [right, *draw.choices(wrong, k=3)]
    draw.shuffle(options)
    return replace(item, options=tuple(options), answer=options.index(right))


def _keeps(item: Item) -> bool:
    """Whether Meditron scored an item.

    It scored the official tests, but only 99 questions of TruthfulQA, and 1,862 of the 1,871 of its
    nine MMLU subjects.
    """
    if item.benchmark == "truthfulqa":
        return item.details.category in MEDICAL
    lost = item.benchmark == "mmlu_medical_9" and item.details.swallowed
    return official(item) and not lost


def _medical_and_others(items: list[Item]) -> Parts:
    medical = [item for item in items if _keeps(item)]
    others = [item for item in items if not _keeps(item)]
    return medical, others


MEDITRON = Protocol(
    "meditron",
    2,
    dict.fromkeys(INSTRUCTIONS, _question),
    _letters_or_verdicts,
    bos="tokenizer",
    intro=_instruction,
    ends="\n",
    view=four_options,
    keep=_keeps,
    draw=draw_meditron,
    parts={"pubmedqa": folds.official, "truthfulqa": _medical_and_others},
    most_shots={"truthfulqa": 1},
    seeds=(1234, 432, 32),
)

# Its chain of thought (section 5): no shots, "Let's think step by step.", at most 1,024 tokens
# (inference.py). The authors asked models that were tuned on each benchmark's own chains of
# thought, and could not read "maybe"; `replies.choice` reads it.
CHAIN_OF_THOUGHT = Protocol(
    "meditron-cot",
    1,
    {name: _step_by_step for name in INSTRUCTIONS if name != "truthfulqa"},
    option_texts,
    bos="always",
    in_template=True,
    keep=_keeps,
    reads=replies.choice,
    max_new_tokens=1024,
)
# The vote of five chains of thought at temperature 0.8 (the paper; the code's own default is ten).
SELF_CONSISTENCY = replace(CHAIN_OF_THOUGHT, name="meditron-sc-cot", samples=5)
