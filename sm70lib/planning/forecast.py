"""The plan of a study as text: what it needs, and whether this machine, or which card, has it."""

from __future__ import annotations

import math
import shutil

from sm70lib.models import accelerators
from sm70lib.planning import byhand, needs
from sm70lib.sources import SOURCES
from sm70lib.study import memory, steps
from sm70lib.study.memory import GB
from sm70lib.study.params import ROOT


def text(p, sizes: list[float] = ()) -> str:
    """The whole plan for a terminal: for this machine, or for cards of `sizes` GB.

    Where this machine has no GPU, every size of params/gpus.csv stands beside it.
    """
    there = memory.at_hand()
    known = None if sizes else needs.speed(there)
    found, columns = needs.rows(p, known), {f"{size:,.0f} GB": (size, math.inf) for size in sizes}
    if not sizes:
        cards = (
            {}
            if there.gpu or there.limited
            else sorted(set(map(float, accelerators.cards()["memory_gb"])))
        )
        columns = {"here": (there.gb, memory.ram_gb())} | {
            f"{size:,.0f} GB": (size, math.inf) for size in cards
        }
    lines = [
        f"Study {p.study}: what each step needs, in GB (10^9 bytes); empty where that is not known",
        "",
    ]
    lines += [*_table(p, found, columns), ""]
    lines += [*_here(there), *_notes(p, found, columns), *_elsewhere(p)]
    lines += [] if known else _training_hours(p, columns)
    return "\n".join(lines)


def _table(p, found: list[needs.Need], columns: dict[str, tuple[float, float]]) -> list[str]:
    """Aligned lines: parts, what they need, whether they fit for each memory (GPU, RAM; GB)."""
    money, cells = (
        p.plan_dollars_per_hour,
        [["", "part", "GPU", "RAM", "disk", "hours", "dollars", *columns]],
    )
    for row in found:
        dollars = row.hours * money if money and row.hours is not None else None
        cells.append(
            [
                row.step,
                row.part,
                _number(row.device_gb),
                _number(row.ram_gb),
                _number(row.disk_gb),
                _number(row.hours),
                _number(dollars),
                *(row.fits(*size) for size in columns.values()),
            ]
        )
    disk = _number(sum(row.disk_gb or 0 for row in found))
    cells.append(["", "all together", "", "", disk, *[""] * (2 + len(columns))])
    wide = [max(map(len, column)) for column in zip(*cells)]
    return [
        "  ".join(
            cell.ljust(wide[n]) if n < 2 else cell.rjust(wide[n]) for n, cell in enumerate(line)
        ).rstrip()
        for line in cells
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return (
        "-"
        if value == 0
        else f"{value:,.0f}"
        if value >= 100
        else f"{value:,.1f}"
        if value >= 0.1
        else f"{value:.3f}"
    )


def _here(there: memory.Memory) -> list[str]:
    kind = "" if there.gpu else " (no GPU, so models are loaded into its memory)"
    free = shutil.disk_usage(ROOT).free / GB
    return [
        f"here: {memory.words(there.gb)} in {there.where}{kind}; "
        f"{memory.words(memory.ram_gb())} of RAM, "
        f"{memory.words(free)} of disk free. The driver takes some more of a GPU."
    ]


def _notes(p, found: list[needs.Need], columns: dict[str, tuple[float, float]]) -> list[str]:
    """What the cells mean further: smaller batches, what to change, disk that is not counted."""
    lines = []
    if any(row.fits(*size) == "yes*" for row in found for size in columns.values()):
        lines.append(
            f"* in smaller batches than eval_batch_tokens {p.eval_batch_tokens:,}, "
            "which 04 takes by itself"
        )
    for row in found:
        said: dict[str, list[str]] = {}
        for name, (gb, _) in columns.items() if row.advice else ():
            said.setdefault(row.advice(gb * GB), []).append(name)
        lines += [
            f"{row.step} {row.part}, {', '.join(some)}: {words}"
            for words, some in said.items()
            if words != "fits"
        ]
    unknown = [
        name
        for name in (*p.data_sources, *p.cpt_sources, *p.dpo_sources)
        if not SOURCES[name].bytes
    ]
    if p.data_root == "hub" and unknown:
        lines.append(
            f"01: disk of its Arrow files, at most; how large {len(unknown)} of its downloads are "
            "is not known"
        )
    return lines


def _training_hours(p, columns: dict[str, tuple[float, float]]) -> list[str]:
    """Hours of all stages on the cards of these sizes."""
    base, known = needs.base_of(p), accelerators.cards().dropna(subset="tokens_per_second_70b")
    total = sum(needs.tokens(p, kind) for kind in p.train_stages)
    known = known[known["memory_gb"].isin([gb for gb, _ in columns.values()])]
    hours = dict(zip(known["gpu"], accelerators.hours(base, total, known["tokens_per_second_70b"])))
    price = p.plan_dollars_per_hour
    cards = [
        f"{card} {most:,.0f}" + (f" ({most * price:,.0f} dollars)" if price else "")
        for card, most in hours.items()
    ]
    if not cards or max(hours.values()) < 1:
        return []
    return [f"03, hours at most at published speeds (params/gpus.csv): {', '.join(cards)}"]


def _elsewhere(p) -> list[str]:
    """Models whose owners have to be asked, and files to be fetched by hand."""
    names, lines = byhand.gated(p), []
    if names:
        lines.append(
            f"gated, ask for access at huggingface.co and hf auth login first: {', '.join(names)}"
        )
    return lines + [f"by hand, for {one.sentence()}" for one in byhand.wanted(p, list(steps.STEPS))]


def short(p, running: list[str]) -> list[str]:
    """What the runner says before steps begin: what does not fit here, and whom to ask."""
    there, ram, numbers = memory.at_hand(), memory.ram_gb(), [name[:2] for name in running]
    lacking = [
        row for row in needs.rows(p) if row.step in numbers and row.fits(there.gb, ram) == "no"
    ]
    lines = [_lack(row, there, ram) for row in lacking if row.step != "04"]
    if left := [
        f"{row.part} ({memory.words(row.smaller_gb)})" for row in lacking if row.step == "04"
    ]:
        lines.append(
            f"04 will leave out, for want of memory ({memory.words(there.gb)} here): "
            + ", ".join(left)
        )
    if {"00", "04"} & {*numbers} and (names := byhand.gated(p)):
        lines.append(
            f"gated, ask for access at huggingface.co and hf auth login first: {', '.join(names)}"
        )
    return lines


def _lack(row: needs.Need, there: memory.Memory, ram: float) -> str:
    """E.g. `03 stage 1 sft needs 46.3 GB, 24.0 GB are here: does not fit; several GPUs ...`."""
    if row.device_gb <= there.gb:
        needed = memory.words(row.ram_gb)
        return f"{row.step} {row.part} needs {needed} of RAM, {memory.words(ram)} are here"
    advice = (
        f": {row.advice(there.gb * GB)}"
        if row.advice
        else ", and is left out"
        if row.step == "02"
        else ""
    )
    needed = memory.words(row.device_gb)
    return f"{row.step} {row.part} needs {needed}, {memory.words(there.gb)} are here{advice}"
