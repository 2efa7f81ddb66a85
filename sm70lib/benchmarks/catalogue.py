"""The benchmarks by name, and the files of each.

To add a benchmark, write a file with its reader and its Benchmark, and add one line to
benchmarks.csv.
"""

from dataclasses import replace
from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.own import FORM, own_exam
from sm70lib.parameters import own
from sm70lib.parameters.tables import lines, names
from sm70lib.sources import find
from sm70lib.sources.hub import own_file
from sm70lib.study.catalogues import objects
from sm70lib.study.params import StudyError

TABLE = "benchmarks/benchmarks.csv"
USES = ("test", "dev", "safety", "pairs", "documents", "rubric")


def _benchmarks() -> dict[str, Benchmark]:
    found = objects(TABLE)
    return {line["name"]: _benchmark(found[line["name"]], line) for line in lines(TABLE)}


def _benchmark(defined: Benchmark, line: dict[str, str]) -> Benchmark:
    """The benchmark as its module defines it, with what its line says."""
    place, name = f"{TABLE}, line {line['name']}", line["name"]
    asked_as = line["asked_as"] or name
    if line["use"] not in USES:
        raise StudyError(f"{place}: use is {line['use']!r}; choose from {', '.join(USES)}.")
    if asked_as not in names(TABLE):
        raise StudyError(
            f"{place}: asked_as is {asked_as!r}, which has no line; name one that has."
        )
    return replace(
        defined, asked_as=asked_as, ids=line["ids"], use=line["use"], by_hand=line["by_hand"]
    )


BENCHMARKS = _benchmarks()
# Requests that a model should comply with or refuse
SAFETY = names(TABLE, use="safety")
# All their items have the same options, so the position of one means nothing
SAME_OPTIONS = ("pubmedqa", *SAFETY)
# Pairs of a better and a worse answer
PAIRS = names(TABLE, use="pairs")
# Texts whose loss is measured; they are not answered, so they have no accuracy
DOCUMENTS = names(TABLE, use="documents")
# Conversations whose replies judges read
RUBRICS = names(TABLE, use="rubric")
# Neither has an accuracy
WITHOUT_ACCURACY = (*DOCUMENTS, *RUBRICS)


def about(name: str) -> Benchmark:
    """The benchmark of that name, or the one that a path of the user's own names.

    Raises:
        StudyError: there is no such benchmark.
    """
    if own.is_file(name):
        return own_exam(name)
    if name not in BENCHMARKS:
        raise StudyError(
            f"eval_benchmarks: no benchmark is {name!r}; there are {', '.join(BENCHMARKS)}, or "
            "give the path of a file."
        )
    return BENCHMARKS[name]


def form(name: str) -> str:
    """The benchmark whose prompts are used for this one: a dev set is asked like its test.

    Whatever the catalogue does not have is an exam of the user's own, by its title.
    """
    return BENCHMARKS[name].asked_as if name in BENCHMARKS else FORM


def files(name: str, root: Path, split: str | None = None) -> list[Path]:
    """The files of one split of a benchmark.

    Args:
        name: a key of BENCHMARKS, or the path of a file of the user's own.
        root: the study's data folder.
        split: a split's name; None for the one that is scored.

    Returns:
        Sorted paths, [] if there are none.

    Raises:
        StudyError: there is no such benchmark, or no such file.
    """
    benchmark = about(name)
    if own.is_file(name):
        return [] if split else [own_file(name)]
    for candidate in [split] if split else benchmark.scored:
        patterns = tuple(pattern.format(candidate) for pattern in benchmark.patterns)
        paths = find(root, benchmark.folder, benchmark.hub, patterns)
        if paths:
            return paths
    return []
