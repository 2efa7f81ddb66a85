"""The patient of a question, as far as its stem tells: a band of age, and the sex.

Slices by these are exploratory. They are read by rules from the sentence that introduces the
patient, and say nothing about a question that introduces none.
"""

from __future__ import annotations

import re
from functools import cache

CHILD, ADULT, OLD = "under 18 years", "18 to 64 years", "65 years and over"
BOUNDS = (18, 65)
YEARS = re.compile(r"\b(\d{1,3})[- ]?(?:years?[- ]old|y[/.]?o\b)", re.IGNORECASE)
IN_WORDS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
YOUNG = re.compile(
    rf"\b(?:(?:\d{{1,2}}|{IN_WORDS})[- ](?:month|week|day|hour)s?[- ]old|(?:{IN_WORDS})[- ]years?"
    r"[- ]old|newborn|neonate|infant|toddler)\b",
    re.IGNORECASE,
)
SEXES = {
    "female": ("woman", "female", "girl", "lady", "women"),
    "male": ("man", "male", "boy", "gentleman", "men"),
}
SEX = re.compile(rf"\b({'|'.join(word for words in SEXES.values() for word in words)})\b", re.I)
INTRODUCED = re.compile(r"^(?:an?|the) (?:[\w-]+ ){0,3}?(?=(?:woman|man|girl|boy|lady)\b)", re.I)
REACH = 60  # characters after the age in which the sex is named


def age(stem: str) -> str | None:
    """The band of the patient's age; None if the stem names none."""
    years, young = YEARS.search(stem), YOUNG.search(stem)
    if young and (years is None or young.start() < years.start()):
        return CHILD
    if years is None or int(years[1]) > 120:
        return None
    return (CHILD, ADULT, OLD)[sum(int(years[1]) >= bound for bound in BOUNDS)]


def sex(stem: str) -> str | None:
    """The patient's sex; None if it is not named where the patient is introduced."""
    found = [rule.search(stem) for rule in (YEARS, YOUNG, INTRODUCED)]
    places = [match for match in found if match]
    if not places:
        return None
    introduced = min(places, key=lambda match: match.start())
    named = SEX.search(stem[introduced.end() : introduced.end() + REACH])
    if named is None:
        return None
    return next(name for name, words in SEXES.items() if named[1].lower() in words)


@cache  # every model answers the same questions
def patient(stem: str) -> dict[str, str | None]:
    """Age and sex of the patient, by the names of slices."""
    return {"patient_age": age(stem), "patient_sex": sex(stem)}
