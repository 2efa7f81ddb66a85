"""What a finished study left behind, as the report reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from sm70lib.analysis.frames import trained_here
from sm70lib.claims import entries
from sm70lib.claims.entries import Claim
from sm70lib.presentation import names
from sm70lib.steps.keys import read

NUMBERS = ("reference", "ours", "low", "high", "n", "shots")


@dataclass(frozen=True)
class Made:
    """A study's folder.

    Attributes:
        folder: outputs/<study>.
    """

    folder: Path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.name

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Its manifest; empty if there is none."""
        path = self.folder / "manifest.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that it was made with; empty without a manifest."""
        return self.manifest.get("parameters", {})

    @cached_property
    def base(self) -> dict[str, Any]:
        """What its base.json says."""
        return read(self.folder / "base/base.json")

    @property
    def invented(self) -> bool:
        """Whether its questions are about the generated medicine."""
        return self.parameters.get("data_root") == "world"

    def base_in_words(self) -> str:
        """Its base model: its public name, or what was trained here."""
        if "weights" in self.base:
            weights = f"{self.base['weights'] / 1e6:.1f} million weights"
            return f"a Llama of {weights}, trained here from scratch,"
        return self.base.get("model", "the base").rstrip("/").rpartition("/")[2]

    @property
    def small(self) -> str:
        """What to call a base that was trained here; "" for other bases."""
        return trained_here(self.base.get("weights"))

    def table(self, name: str) -> pd.DataFrame:
        """One of its tables; empty if it has none of that name."""
        path = self.folder / "tables" / f"{name}.csv"
        return pd.read_csv(path) if path.exists() else pd.DataFrame()

    @cached_property
    def card(self) -> list[dict[str, Any]]:
        """The rows of its scorecard, each with its entry in claims.yml as `entry`, if it has one.

        Texts are "" where there are none, and numbers are None.
        """
        card = self.table("scorecard")
        rows = []
        for row in card.astype(object).where(card.notna(), None).to_dict("records"):
            texts = {name: row[name] or "" for name in row if name not in NUMBERS}
            rows.append(row | texts | {"entry": entry(row["claim"] or "")})
        return rows


def entry(wording: str) -> Claim | None:
    """The entry of claims.yml that a row of the scorecard belongs to; None for a summary."""
    for claim in entries.catalogue():
        parts = claim.arguments.get("parts", ())
        whats = [part["what"] for part in parts if "what" in part]
        if names.fits(claim.claim, wording) or wording.startswith(tuple(whats)):
            return claim
    return None
