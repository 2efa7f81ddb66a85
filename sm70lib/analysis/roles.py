"""The models that every study has: their names, and how each is drawn and compared."""

from __future__ import annotations

from typing import NamedTuple


class Role(NamedTuple):
    """One of the study's own models.

    Attributes:
        name: its folder in predictions/, and its label in tables and figures.
        colour: its colour in figures, in matplotlib's notation.
        marker: its marker in figures.
        arm: its name in the evidence (`make evidence`); "" where the evidence has none.
    """

    name: str
    colour: str
    marker: str
    arm: str = ""


BASE, BASE_NF4, TUNED = "base", "base-nf4", "tuned"

# Colour never carries a difference alone. "C0" ... are the palette's colours.
ROLES = (
    Role(BASE, "0.45", "o"),
    Role(BASE_NF4, "C0", "s", arm="base"),
    Role(TUNED, "C2", "D", arm="tuned"),
)
