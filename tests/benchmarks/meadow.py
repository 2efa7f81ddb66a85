"""Invented text with Medical Meadow's numbers: its nine sets, their rows and their lengths, for
measuring.

Rows and mean lengths as published (Data Provenance Collection and MedAlpaca, arXiv 2304.08247; all
nine sum to 898,199). Lengths are log-normal around those means, cut at the longest that was seen;
words follow Zipf's law.
"""

import json
from pathlib import Path

import numpy as np

LONGEST = 122_438  # characters; CORD-19's longest abstract
# Rows, mean characters of input and output; None where no mean was published: as flashcards
SETS = {
    "medical_flashcards": (33_955, 123.4, 349.1),
    "wikidoc": (10_000, 95.8, 912.8),
    "wikidoc_patient_information": (5_942, 80.7, 456.1),
    "medqa": (10_178, 960.3, 30.3),
    "mmmlu": (3_787, None, None),
    "pubmed_causal": (2_446, 294.4, 39.7),
    "health_advice": (8_676, 222.4, 18.2),
    "mediqa": (2_208, 6510, 581),
    "cord19": (821_007, 1507.6, 104.0),
}  # last, as it is nine tenths of it all
NAMES = [f"medical_meadow_{name}" for name in SETS]
INSTRUCTION = "Answer this question truthfully"


def lexicon(rng: np.random.Generator, size: int = 60_000) -> np.ndarray:
    """Invented words of one to five syllables, the frequent ones short."""
    syllables = np.array(
        [a + b for a in "bcdfghlmnprstvz" for b in ("a", "e", "i", "o", "u", "en", "or", "is")]
    )
    count = np.minimum(1 + np.log10(np.arange(1, size + 1)).astype(int), 5)
    return np.array(["".join(rng.choice(syllables, n)) for n in count], dtype=object)


class Text:
    """Draws texts of about the wanted lengths (characters)."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.words = lexicon(np.random.default_rng(0))
        weight = 1 / np.arange(1, len(self.words) + 1)
        self.below = np.cumsum(weight / weight.sum())
        self.mean = np.dot(
            weight / weight.sum(), [len(word) + 1 for word in self.words]
        )  # characters of a word

    def lengths(self, rows: int, mean: float, spread: float = 0.6) -> np.ndarray:
        """Log-normal lengths with this mean, at least 8 characters."""
        drawn = self.rng.lognormal(np.log(mean) - spread**2 / 2, spread, rows)
        return np.clip(drawn, 8, LONGEST).astype(int)

    def draw(self, lengths: np.ndarray) -> list[str]:
        """One text for each length."""
        counts = np.maximum((lengths / self.mean).astype(int), 1)
        picked = self.words[np.searchsorted(self.below, self.rng.random(counts.sum()))]
        return [
            " ".join(part).capitalize() + "." for part in np.split(picked, np.cumsum(counts)[:-1])
        ]


def write(root: Path, rows: int, seed: int = 0) -> int:
    """Writes the nine sets below `root` in Meadow's own layout, about `rows` rows in Meadow's
    shares; returns how many.
    """
    text, whole, written = Text(seed), sum(count for count, _, _ in SETS.values()), 0
    for name, (count, given, asked) in SETS.items():
        count = count if rows >= whole else max(1, round(count * rows / whole))
        folder = root / f"medical_meadow_{name}"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{folder.name}.json", "w") as file:
            for first in range(0, count, 2000):
                some = min(2000, count - first)
                inputs = text.draw(text.lengths(some, given or SETS["medical_flashcards"][1]))
                outputs = text.draw(text.lengths(some, asked or SETS["medical_flashcards"][2]))
                lines = [
                    json.dumps({"instruction": INSTRUCTION, "input": one, "output": other})
                    for one, other in zip(inputs, outputs)
                ]
                file.write(("[" if first == 0 else ",\n") + ",\n".join(lines))
            file.write("]")
        written += count
    return written
