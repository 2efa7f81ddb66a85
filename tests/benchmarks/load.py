"""A million prediction lines through what 05 and 06 compute: seconds and memory of each.

Not part of `make test`, which runs a small slice of it (test_load.py). Run it with
`python -m tests.benchmarks.load`, or with fewer lines: `--lines 100000`. It exits with 1 beyond
4 GB or two minutes (of processor time, so that a busy machine counts no more).

With `--whole` it goes the way from a finished evaluation to the report: 05 and 06 as notebooks, and
the report with its pages of items, for three models and eight benchmarks of 10,000 items each. It
exits with 1 beyond a minute of two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from sm70lib.study.params import ROOT
from tests import synthetic

LINES, GB, SECONDS = 1_000_000, 4.0, 120.0
MODELS, PROTOCOLS = 25, len(synthetic.PROTOCOLS)
PARTS = ("05", "06")
ITEMS, CORE_SECONDS = 10_000, 120.0  # of each benchmark; a minute of two cores
EIGHT = ("medqa_4", "pubmedqa", "usmle_step1", "usmle_step2", "usmle_step3", "medmcqa")
EIGHT += ("mmlu_medical", "truthfulqa")
PAPERMILL = "-m papermill notebooks/{name}.ipynb {folder}/{name}.ipynb -f params/tiny.yml -p study"


def study(outputs: Path, lines: int) -> Path:
    """Writes an invented study with so many prediction lines (about), of 25 models."""
    each = max(30, lines // (MODELS * PROTOCOLS))
    skill = synthetic.SKILL | {f"other-{number}": 0.5 for number in range(MODELS - 3)}
    sizes = {"medqa_4": each * 2 // 3, "pubmedqa": each - each * 2 // 3}
    return synthetic.study(outputs, world=False, skill=skill, sizes=sizes)


def compute(part: str, outputs: Path) -> dict:
    """Computes the tables of one notebook, in this process; returns what they cost."""
    from sm70lib.analysis import accuracies, comparisons, frames, slices
    from sm70lib.statistics import stats

    how = stats.How(resamples=2000)
    answers = frames.load(outputs, ["made"])
    lines, read = len(answers), _seconds()
    if part == "05":
        slices.by_slice(answers, how)
        both = frames.paired(answers, frames.before(answers), "tuned")
        slices.flips(both, how)
        slices.habits(answers)
        slices.calibration(answers)
        slices.reliability(answers)
        slices.listing(both)
    else:
        accuracies.results(answers, how)
        comparisons.comparisons(answers, synthetic.PARAMS, how)
        comparisons.contamination_effect(answers, how)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"lines": lines, "read": read, "seconds": _seconds(), "gb": round(peak, 2)}


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round(used.ru_utime + used.ru_stime, 1)


def measure(lines: int) -> dict[str, dict]:
    """What each part costs, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        study(Path(folder), lines)
        found = {}
        for part in PARTS:
            command = [sys.executable, "-m", "tests.benchmarks.load", "--part", part, folder]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            found[part] = json.loads(done.stdout)
            print(part, found[part], flush=True)
    return found


def whole(items: int) -> dict[str, float]:
    """Processor seconds from a finished evaluation to its report, by what they went to.

    Args:
        items: of each of EIGHT benchmarks, which three models were asked once.
    """
    with tempfile.TemporaryDirectory() as folder:
        sizes = dict.fromkeys(EIGHT, items)
        made = synthetic.study(
            Path(folder), world=False, sizes=sizes, protocols=synthetic.PROTOCOLS[:1]
        )
        synthetic.mark_finished(made)
        ways = {
            name: f"{PAPERMILL.format(name=name, folder=folder)} made --no-progress-bar".split()
            for name in ("05_error_analysis", "06_figures")
        }
        ways["report"] = ["-m", "sm70lib", "report", "made"]
        return {name: _ran(words, folder) for name, words in ways.items()}


def _ran(words: list[str], outputs: str) -> float:
    """The processor seconds that a command takes, with those of the kernel that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"SM70_OUTPUTS": outputs, "MPLBACKEND": "agg"}
    said = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, **said)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)


def main() -> int:
    """Measures, or computes one part for `measure`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--part", nargs=2, metavar=("PART", "OUTPUTS"))
    parser.add_argument("--whole", nargs="?", type=int, const=ITEMS, metavar="ITEMS")
    given = parser.parse_args()
    if given.whole:
        seconds = whole(given.whole)
        total = sum(seconds.values())
        print(f"{seconds}: {total:.0f} s of processor time (goal {CORE_SECONDS:.0f})")
        return int(total > CORE_SECONDS)
    if given.part:
        print(json.dumps(compute(given.part[0], Path(given.part[1]))))
        return 0
    found = measure(given.lines)
    most = max(cost["gb"] for cost in found.values())
    used = sum(cost["seconds"] for cost in found.values())
    print(
        f"{given.lines:,} lines: at most {most} GB (goal {GB}), {used:.0f} s (goal {SECONDS:.0f})"
    )
    return int(most > GB or used > SECONDS)


if __name__ == "__main__":
    sys.exit(main())
