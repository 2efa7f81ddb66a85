"""The catalogue of claims (claims.yml): what is held against whose numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sm70lib.study.params import StudyError, value_of

OWN, FIRST = "own", "sm70"  # every study's claims of itself; whose claims count where no name says
STUDIES = {FIRST: "SM70", "meditron": "Meditron", "med42": "Med42", OWN: ""}


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yml.

    Attributes:
        id: its name.
        study: whose claim it is, one of STUDIES.
        claim: its wording; words in braces are filled in by its judge.
        source: where it stands.
        judge: the name of a function of `judges`.
        arguments: what that judge needs.
        bases: how the bases that the claim is about are named (`short`, begins with); empty: any.
    """

    id: str
    study: str
    claim: str
    source: str
    judge: str
    arguments: dict[str, Any] = field(default_factory=dict)
    bases: tuple[str, ...] = ()

    def about(self, base: str) -> bool:
        """Whether the claim is about a model with this base (hub name or folder)."""
        return not self.bases or any(short(base).startswith(name) for name in self.bases)


def short(name: str) -> str:
    """A model's hub name or folder as the catalogue writes it.

    In lower case, without owner or path, with - for _; and Llama 3 without "Meta-".
    """
    last = name.rstrip("/").rpartition("/")[2].lower().replace("_", "-")
    return last.removeprefix("meta-")


def catalogue(path: Path = Path(__file__).with_name("claims.yml")) -> list[Claim]:
    """All claims, in the order of the file.

    Raises:
        StudyError: an entry lacks a line, has an unknown one, or its id or study is wrong.
    """
    found: list[Claim] = []
    for entry in value_of(path.read_bytes(), path.name):
        given = {"arguments" if name == "with" else name: value for name, value in entry.items()}
        given["bases"] = tuple(given.get("bases", ()))
        try:
            claim = Claim(**given)
        except TypeError as error:
            lines = "id, study, claim, source, judge; and, where needed, with and bases"
            raise StudyError(
                f"{path.name}: entry {entry.get('id')!r} does not fit ({error}); it has {lines}"
            ) from None
        if claim.study not in STUDIES or claim.id in [other.id for other in found]:
            raise StudyError(
                f"{path.name}: entry {claim.id!r} of study {claim.study!r}: each id stands once, "
                f"and study is one of {', '.join(STUDIES)}"
            )
        found.append(claim)
    return found


def held_against(study: str) -> str:
    """Whose claims a study is held against: the paper that its name has in it, or SM70."""
    return next((key for key in STUDIES if key != OWN and key in study), FIRST)


def systems(study: str) -> list[str]:
    """The systems that the paper of a study compares itself with, as quoted.csv names them."""
    family = held_against(study)
    named = [c.arguments.get("system") for c in catalogue() if c.study == family and c.arguments]
    return list(dict.fromkeys(filter(None, named)))
