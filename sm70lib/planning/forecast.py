"""The plan of a study as text: what it needs, and whether this machine or a given card has it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import suppress

from sm70lib import sources
from sm70lib.asking.runs import planned
from sm70lib.evaluation.candidates import described, other
from sm70lib.evaluation.one_model import require_templates
from sm70lib.inspection.look import look
from sm70lib.inspection.places import Unreachable
from sm70lib.planning import byhand, needs, preparation
from sm70lib.planning.need import Need
from sm70lib.sizes import accelerators
from sm70lib.steps import steps
from sm70lib.steps.keys import EVALUATION
from sm70lib.study import memory
from sm70lib.study.memory import GB
from sm70lib.study.params import ROOT
from sm70lib.study.used import sources_of

Columns = dict[str, tuple[float, float]]  # GB of the GPU and of RAM, by heading


def text(p, sizes: Sequence[float] = ()) -> str:
    """The whole plan for a terminal.

    Args:
        p: the study.
        sizes: memory of the cards to plan for (GB). Without them the plan is for this machine, and
            if it has no GPU, also for every size in params/gpus.csv.
    """
    there = memory.at_hand()
    speed = None if sizes else needs.speed(there)
    rows = needs.rows(p, speed)
    columns = _cards(sizes) if sizes else _this_machine(there)
    lines = [
        f"Study {p.study}: what each step needs, in GB (10^9 bytes); empty where that is not known",
        "",
        *_table(p, rows, columns),
        "",
        *_here(there),
        *_notes(p, rows, columns),
        *_elsewhere(p),
        *preparation.hours(p),
    ]
    if not speed:
        lines += _training_hours(p, columns)
    return "\n".join(lines)


def _cards(sizes: Sequence[float]) -> Columns:
    return {f"{size:,.0f} GB": (size, math.inf) for size in sizes}


def _this_machine(there: memory.Memory) -> Columns:
    here: Columns = {"here": (there.gb, memory.ram_gb())}
    if there.gpu or there.limited:
        return here
    sizes = {float(size) for size in accelerators.cards()["memory_gb"]}
    return here | _cards(sorted(sizes))


def _table(p, rows: list[Need], columns: Columns) -> list[str]:
    """Aligned lines: each part, what it needs, and whether it fits into each column's memory."""
    cells = [["", "part", "GPU", "RAM", "disk", "hours", "dollars", *columns]]
    for row in rows:
        needed = (row.device_gb, row.ram_gb, row.disk_gb, row.hours, _dollars(p, row))
        verdicts = [row.fits(*size) for size in columns.values()]
        cells.append([row.step, row.part, *map(_number, needed), *verdicts])
    disk = _number(sum(row.disk_gb or 0 for row in rows))
    cells.append(["", "all together", "", "", disk, *[""] * (2 + len(columns))])
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [_aligned(line, widths) for line in cells]


def _dollars(p, row: Need) -> float | None:
    if row.hours is None or not p.plan_dollars_per_hour:
        return None
    return row.hours * p.plan_dollars_per_hour


def _aligned(cells: list[str], widths: list[int]) -> str:
    """Step and part to the left, everything else to the right."""
    left = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2])]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:])]
    return "  ".join([*left, *right]).rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value == 0:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 0.1:
        return f"{value:,.1f}"
    return f"{value:.3f}"


def _here(there: memory.Memory) -> list[str]:
    kind = "" if there.gpu else " (no GPU, so models are loaded into its memory)"
    free = shutil.disk_usage(ROOT).free / GB
    return [
        f"here: {memory.words(there.gb)} in {there.where}{kind}; "
        f"{memory.words(memory.ram_gb())} of RAM, "
        f"{memory.words(free)} of disk free. The driver takes some more of a GPU."
    ]


def _notes(p, rows: list[Need], columns: Columns) -> list[str]:
    """Lines below the table: smaller batches, what to change, and disk that is not counted."""
    lines = []
    if any(row.fits(*size) == "yes*" for row in rows for size in columns.values()):
        lines.append(
            f"* in smaller batches than eval_batch_tokens {p.eval_batch_tokens:,}, "
            "which 04 takes by itself"
        )
    for row in rows:
        lines += _advice(row, columns)
    unknown = [name for name in sources_of(p) if not sources.about(name).bytes]
    if p.data_root == "hub" and unknown:
        lines.append(
            f"01: disk of its Arrow files, at most; how large {len(unknown)} of its downloads are "
            "is not known"
        )
    return lines


def _advice(row: Need, columns: Columns) -> list[str]:
    """What to change to make a part fit; columns with the same advice share a line."""
    if row.advice is None:
        return []
    headings: dict[str, list[str]] = {}
    for heading, (gb, _) in columns.items():
        headings.setdefault(row.advice(gb * GB), []).append(heading)
    return [
        f"{row.step} {row.part}, {', '.join(alike)}: {advice}"
        for advice, alike in headings.items()
        if advice != "fits"
    ]


def _training_hours(p, columns: Columns) -> list[str]:
    """Hours of all stages together, on each card of these sizes whose speed is published."""
    cards = accelerators.cards().dropna(subset="tokens_per_second_70b")
    cards = cards[cards["memory_gb"].isin([gb for gb, _ in columns.values()])]
    total = sum(needs.tokens(p, number) for number, _ in enumerate(p.train_stages, 1))
    hours = accelerators.hours(needs.base_of(p), total, cards["tokens_per_second_70b"])
    if cards.empty or hours.max() < 1:
        return []
    price = p.plan_dollars_per_hour
    listed = []
    for card, most in zip(cards["gpu"], hours):
        dollars = f" ({most * price:,.0f} dollars)" if price else ""
        listed.append(f"{card} {most:,.0f}{dollars}")
    return [f"03, hours at most at the speeds in params/gpus.csv: {', '.join(listed)}"]


def _elsewhere(p) -> list[str]:
    """Models whose owners must be asked for access, and files to fetch by hand."""
    by_hand = byhand.wanted(p, list(steps.STEPS))
    return [*_gated(p), *(f"by hand, for {files.sentence()}" for files in by_hand)]


def _gated(p) -> list[str]:
    """One line, or none."""
    names = byhand.gated(p)
    if not names:
        return []
    return [f"gated, ask for access at huggingface.co and hf auth login first: {', '.join(names)}"]


def short(p, running: list[str]) -> list[str]:
    """What the runner prints before steps begin: what does not fit here, and whom to ask.

    Args:
        p: the study.
        running: names of the steps that will run, such as `04_eval`.

    Raises:
        StudyError: a model that these steps load could not be used.
    """
    _look(p, running)
    there = memory.at_hand()
    ram = memory.ram_gb()
    numbers = {name[:2] for name in running}
    rows = [row for row in needs.rows(p) if row.step in numbers]
    too_large = [row for row in rows if row.fits(there.gb, ram) == "no"]
    lines = [_too_large(row, there, ram) for row in too_large if row.step != "04"]
    left_out = [
        f"{row.part} ({memory.words(row.smaller_gb or 0)})" for row in too_large if row.step == "04"
    ]
    if left_out:
        here = memory.words(there.gb)
        lines.append(f"04 will leave out, for want of memory ({here} here): {', '.join(left_out)}")
    if numbers & {"00", "04"}:
        lines += _gated(p)
    return lines


def _look(p, running: list[str]) -> None:
    """Looks at the base that the study names, and at its other models if they will be scored."""
    own = ("base", "base-nf4") if p.base_model else ()
    for which in needs.expected(p, needs.base_of(p)):
        if which.name in own:
            with suppress(Unreachable):  # the plan is made without a network too
                look(which, p)
    asked = planned(p)
    for name, line in p.eval_models.items() if EVALUATION in running else ():
        with suppress(Unreachable):
            look(described(name, line), p)
            require_templates(other(name, line), asked, p)


def _too_large(row: Need, there: memory.Memory, ram: float) -> str:
    """E.g. `03 stage 1 sft needs 46.3 GB, 24.0 GB are here: does not fit; several GPUs ...`."""
    device_gb = row.device_gb or 0
    if device_gb <= there.gb:
        needed = memory.words(row.ram_gb or 0)
        return f"{row.step} {row.part} needs {needed} of RAM, {memory.words(ram)} are here"
    if row.advice:
        consequence = f": {row.advice(there.gb * GB)}"
    else:
        consequence = ", and is left out" if row.step == "02" else ""
    needed = memory.words(device_gb)
    return f"{row.step} {row.part} needs {needed}, {memory.words(there.gb)} are here{consequence}"
