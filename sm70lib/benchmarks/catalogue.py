"""The benchmarks by name, and the files of each.

To add a benchmark, write a file with its reader and its Benchmark, and add one line to BENCHMARKS.
"""

from pathlib import Path

from sm70lib.benchmarks import medmcqa, medqa, mmlu, pubmedqa, safety, truthfulqa, usmle
from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.sources import find
from sm70lib.study.params import StudyError

BENCHMARKS: dict[str, Benchmark] = {
    "medqa_4": medqa.FOUR,
    "medqa_4_dev": medqa.FOUR_DEV,
    "medqa_5": medqa.FIVE,
    "pubmedqa": pubmedqa.ALL,
    "pubmedqa_dev": pubmedqa.DEV,
    "usmle_step1": usmle.STEP_1,
    "usmle_step2": usmle.STEP_2,
    "usmle_step3": usmle.STEP_3,
    "medmcqa": medmcqa.DEV,
    "mmlu_medical": mmlu.SIX_SUBJECTS,
    "mmlu_medical_9": mmlu.NINE_SUBJECTS,
    "truthfulqa": truthfulqa.MULTIPLE_CHOICE,
    "xstest_safe": safety.XSTEST_SAFE,
    "xstest_unsafe": safety.XSTEST_UNSAFE,
    "medsafety": safety.MEDSAFETY,
}
SAFETY = ("xstest_safe", "xstest_unsafe", "medsafety")


def form(name: str) -> str:
    """The benchmark whose prompts are used for this one: a dev set is asked like its test."""
    return name.removesuffix("_dev")


def files(name: str, root: Path, split: str | None = None) -> list[Path]:
    """The files of one split of a benchmark.

    Args:
        name: a key of BENCHMARKS.
        root: the study's data folder.
        split: a split's name; None for the one that is scored.

    Returns:
        Sorted paths, [] if there are none.

    Raises:
        StudyError: there is no such benchmark.
    """
    if name not in BENCHMARKS:
        raise StudyError(
            f"eval_benchmarks: no benchmark is {name!r}; there are {', '.join(BENCHMARKS)}."
        )
    benchmark = BENCHMARKS[name]
    for candidate in [split] if split else benchmark.scored:
        patterns = tuple(pattern.format(candidate) for pattern in benchmark.patterns)
        paths = find(root, benchmark.folder, benchmark.hub, patterns)
        if paths:
            return paths
    return []
