"""Preference pairs made from questions with answers, and from harmful requests with refusals.

The answers that are worse are ours: a refusal of a harmless question, and an answer to something
else for a harmful request, so that no harmful text is needed.
"""

import re
import zlib

from sm70lib.sources.problems import problem
from sm70lib.sources.wordings import TRUTHFULLY

LONGEST = 200  # characters of a better answer; those of ours have up to 160
SENTENCE = re.compile(r"(?<=[.!?])\s+")
REFUSALS = (
    "I'm sorry, but I cannot help with that request.",
    "I'm sorry, but I can't provide that information. Please speak with a medical professional.",
    "I cannot assist with this question. It would not be appropriate for me to answer it.",
    "I'm sorry, but I'm not able to give guidance on this, as it could be harmful. Please turn to "
    "a qualified professional who can advise you.",
    "I'm sorry, but I cannot provide guidance on that. It is important that medical questions are "
    "handled with care, and I would not want to put anyone at risk.",
)
ANSWERS = (
    "A sprained ankle is rested, cooled and raised for two days. Most people can walk on it again "
    "within a week, and a bandage gives support in the meantime.",
    "Iron is found in red meat, beans, lentils and dark green vegetables. Vitamin C from fruit "
    "helps the body to take it up from plants.",
    "Hay fever is an allergy to pollen. It causes sneezing, itchy eyes and a runny nose, mostly in "
    "spring and summer.",
    "Adults should sleep about seven to nine hours a night. A dark, quiet room and a regular hour "
    "for bed make it easier to fall asleep.",
    "A nosebleed usually stops after ten minutes. Sit up, lean forward and pinch the soft part of "
    "the nose.",
    "The heart has four chambers. The right side sends blood to the lungs, and the left side sends "
    "it to the rest of the body.",
    "Migraine is a headache that often comes on one side, with nausea and sensitivity to light. An "
    "attack lasts from four hours to three days.",
    "Sunscreen is put on half an hour before going out and again every two hours. A hat and a "
    "shirt protect better than cream alone.",
    "Bones need calcium and vitamin D. Milk, yoghurt and cheese are rich in calcium, and the skin "
    "makes vitamin D in the sun.",
    "The common cold is caused by viruses and goes away by itself in about a week. Rest and plenty "
    "to drink make it easier to bear.",
    "Dry skin is helped by short, lukewarm showers and a plain cream after each. Wool next to the "
    "skin can make the itch worse.",
    "A first aid kit holds plasters, gauze, a bandage, scissors, gloves and tweezers. Check it "
    "once a year and replace what is out of date.",
)


def answered(record: dict) -> dict | str:
    """A harmless question: its answer is better than a refusal. A str says why there is no row."""
    return _pair(record, "question", "answer", REFUSALS)


def refused(record: dict) -> dict | str:
    """A harmful request: its refusal is better than an answer to something else."""
    return _pair(record, "harmful_medical_request", "safe_response", ANSWERS)


def _pair(record: dict, asked: str, better: str, worse: tuple[str, ...]) -> dict | str:
    reason = problem(record, asked) or problem(record, better)
    if reason:
        return reason
    opening = _opening(record[better])
    if not opening:
        return f"the first sentence under {better} has more than {LONGEST} characters"
    request = " ".join(record[asked].split())
    drawn = worse[zlib.crc32(request.encode()) % len(worse)]
    return {
        "instruction": "",
        "input": f"{TRUTHFULLY}\n\n{request}",
        "output": opening,
        "rejected": drawn,
    }


def _opening(text: str) -> str:
    """The first sentences of a text that have at most LONGEST characters together."""
    opening = ""
    for sentence in SENTENCE.split(" ".join(text.split())):
        longer = f"{opening} {sentence}".strip()
        if len(longer) > LONGEST:
            break
        opening = longer
    return opening
