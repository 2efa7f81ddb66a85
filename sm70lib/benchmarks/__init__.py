"""Questions with known answers, as items, from files and the hub."""

from sm70lib.benchmarks.catalogue import (
    BENCHMARKS,
    DOCUMENTS,
    PAIRS,
    RUBRICS,
    SAFETY,
    SAME_OPTIONS,
    WITHOUT_ACCURACY,
    about,
    files,
    form,
)
from sm70lib.benchmarks.guessers import best_constant_accuracy, constant_guess
from sm70lib.benchmarks.item import Item, items_digest, load, save
from sm70lib.benchmarks.reading import pool, read

__all__ = [
    "BENCHMARKS",
    "DOCUMENTS",
    "PAIRS",
    "RUBRICS",
    "SAFETY",
    "SAME_OPTIONS",
    "WITHOUT_ACCURACY",
    "Item",
    "about",
    "best_constant_accuracy",
    "constant_guess",
    "files",
    "form",
    "items_digest",
    "load",
    "pool",
    "read",
    "save",
]
