"""How Meditron's raw models were asked (arXiv 2311.16079, section 5; github:epfLLM/meditron).

Its evaluation/inference.py: 3 shots for 7B, 5 for 70B, the same for all items, three seeds;
TruthfulQA with one shot for 7B and none for 70B (table 13). The text goes to vLLM's `generate`,
which puts the tokenizer's BOS in front.

What cannot be repeated:

- The originals generated the letter with a frequency penalty of 1.0 and could not parse "maybe";
  here the likeliest letter counts. vLLM left a prompt over the model's length unanswered; here it
  is cut on the left.
- TruthfulQA's wrong options were drawn, and all four shuffled, without a seed: here by one.
- From where TruthfulQA's one shot came: the paper does not say it, and the released code, which
  knows no train split of TruthfulQA, stops with an error. Here it comes from the questions outside
  the four categories that are scored.
- MMLU's shots: its pool is the dev rows of eleven subjects, two of chemistry among them, where
  ours are those of the subjects that are scored. So its seeds do not give its shots there.
- PubMedQA's shots, unless its file has the order of the authors' own: from that `folds` cuts the
  pool of 450; from all 500 that are not the test, the same seeds would show others.
"""

import random
from dataclasses import replace

import numpy as np

from sm70lib.benchmarks import Item, folds
from sm70lib.protocols.layouts import MMLU, dotted, letters, official, option_texts
from sm70lib.protocols.protocol import Parts, Protocol


def draw_meditron(
    items: list[Item], count: int, pool: list[Item], seed: int
) -> dict[str, list[Item]]:
    """The same `count` examples for all items: the first of the shuffled pool (`add_few_shot`)."""
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
MEDICAL = ("Health", "Nutrition", "Psychology", "Science")  # its 99 questions of TruthfulQA


def _instruction(item: Item) -> str:
    return f"{INSTRUCTIONS[item.benchmark]}\n"


def _question(item: Item) -> str:
    if item.benchmark == "pubmedqa":
        return f"{item.context}\n{item.question}\nThe answer is:"
    mark = "" if item.question.endswith(("?", ".")) else "?"
    return f"Question: {item.question}{mark}\n\nOptions:\n{dotted(item)}\nThe answer is:"


def _letters_or_verdicts(item: Item) -> list[str]:
    """Letters, for TruthfulQA too; PubMedQA's words."""
    return option_texts(item) if item.benchmark == "pubmedqa" else letters(item)


def four_options(item: Item, seed: int) -> Item:
    """TruthfulQA's right answer and three wrong ones, shuffled; other benchmarks as they are.

    The wrong ones are drawn with replacement, so that one may stand there two or three times, as
    in the release code. Draw and order depend on `seed` and item.
    """
    if item.benchmark != "truthfulqa":
        return item
    draw, right = random.Random(f"{seed} {item.id}"), item.options[item.answer]
    wrong = [option for place, option in enumerate(item.options) if place != item.answer]
    options = [right, *draw.choices(wrong, k=3)]
    draw.shuffle(options)
    return replace(item, options=tuple(options), answer=options.index(right))


def _keeps(item: Item) -> bool:
    """The official test; of TruthfulQA the 99, of nine MMLU subjects the 1,862 left of 1,871."""
    if item.benchmark == "truthfulqa":
        return item.meta.get("category") in MEDICAL
    lost = item.benchmark == "mmlu_medical_9" and item.meta["swallowed"]
    return official(item) and not lost


def _medical_and_others(items: list[Item]) -> Parts:
    return [item for item in items if _keeps(item)], [item for item in items if not _keeps(item)]


MEDITRON = (
    Protocol(
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
    ),
)
