"""The catalogue of claims (claims.yml), and whose claims a study is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sm70lib.parameters.rules import REHEARSAL
from sm70lib.study.params import StudyError, value_of

OWN = "own"  # claims that every study makes of itself
FIRST = "sm70"  # the paper that a study is compared with if its name contains no paper
SMALL = "small"  # the study of that name, which has claims of its own, and its variants small-...
# The longer name first, as it contains the shorter
PAPERS = {
    FIRST: "SM70",
    "meditron-fo": "Fully Open Meditron",
    "meditron": "Meditron",
    "med42": "Med42",
}
STUDIES = PAPERS | {SMALL: SMALL, OWN: ""}


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yml.

    Attributes:
        id: its name.
        study: whose claim it is, one of STUDIES.
        claim: its wording; its judge fills in the words in braces.
        source: where the claim is made.
        judge: a name in `judges.JUDGES`.
        arguments: what that judge needs.
        bases: the claim is about bases whose `short` name begins with one of these; empty: any.
        only: the one study that the claim is made of, with its variants; "" for any of the paper.
    """

    id: str
    study: str
    claim: str
    source: str
    judge: str
    arguments: dict[str, Any] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    only: str = ""

    def made_of(self, study: str) -> bool:
        """Whether the claim is made of a study: any, or the one in `only` and its variants."""
        name = study.removeprefix(REHEARSAL)
        return not self.only or name == self.only or name.startswith(f"{self.only}-")

    def about(self, base: str) -> bool:
        """Whether the claim is about a model with this base (hub name or folder)."""
        return not self.bases or any(short(base).startswith(name) for name in self.bases)


def short(name: str) -> str:
    """A model's hub name or folder as the catalogue writes it.

    That is in lower case, without owner or path, with - for _, and without a leading "Meta-".
    """
    last = name.rstrip("/").rpartition("/")[2].lower().replace("_", "-")
    return last.removeprefix("meta-")


def catalogue(path: Path = Path(__file__).with_name("claims.yml")) -> list[Claim]:
    """All claims, in the order of the file.

    Raises:
        StudyError: an entry lacks a key, has an unknown one, repeats an id, or names an unknown
            study.
    """
    return list(_claims(path.read_bytes(), path.name))


@cache  # it is asked for a dozen times a report
def _claims(content: bytes, name: str) -> tuple[Claim, ...]:
    claims: list[Claim] = []
    for entry in value_of(content, name):
        given = {"arguments" if key == "with" else key: value for key, value in entry.items()}
        given["bases"] = tuple(given.get("bases", ()))
        try:
            claim = Claim(**given)
        except TypeError as error:
            lines = "id, study, claim, source, judge; and, where needed, with, bases and only"
            raise StudyError(
                f"{name}: entry {entry.get('id')!r} does not fit ({error}); it has {lines}"
            ) from None
        if claim.study not in STUDIES or claim.id in [other.id for other in claims]:
            raise StudyError(
                f"{name}: entry {claim.id!r} of study {claim.study!r}: each id stands once, "
                f"and study is one of {', '.join(STUDIES)}"
            )
        claims.append(claim)
    return tuple(claims)


def held_against(study: str) -> str:
    """Whose claims a study is compared with: the paper in its name, or else SM70; or `small`'s."""
    name = study.removeprefix(REHEARSAL)
    named = [paper for paper in PAPERS if paper in name]
    if named:
        return named[0]
    return SMALL if name == SMALL or name.startswith(f"{SMALL}-") else FIRST


def systems(study: str) -> list[str]:
    """The systems that the paper of a study compares itself with, as quoted.csv names them."""
    family = held_against(study)
    own = [claim for claim in catalogue() if claim.study == family]
    named = [claim.arguments["system"] for claim in own if claim.arguments.get("system")]
    return list(dict.fromkeys(named))
