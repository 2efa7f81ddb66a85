"""What every step of a study needs, row by row."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sm70lib.evaluation import candidates
from sm70lib.models import accelerators, budget, budget_scoring, shapes
from sm70lib.sources import SOURCES
from sm70lib.study import memory, steps
from sm70lib.study.params import ROOT

PAIR_READ_AGAIN = (
    4 / 3
)  # a pair goes once more through the frozen copy, without gradients: a third of the work
ID_BYTES = 8  # a token of an instruction row is two numbers of four bytes, its id and its label
CHECKPOINTS = 3  # two are kept, and the next is written before the oldest goes


@dataclass(frozen=True)
class Need:
    """What a part of a step needs: GB (10^9 bytes), hours at most; None where that is not known.

    `device_gb` is memory of the GPU, or of the machine where there is none.
    """

    step: str
    part: str
    device_gb: float | None = 0.0
    ram_gb: float | None = None
    disk_gb: float | None = None
    hours: float | None = None
    smaller_gb: float | None = None  # with smaller batches, which change no result
    advice: Callable[[float], str] | None = None  # what to change to fit into so many bytes

    def fits(self, there_gb: float, ram_gb: float = math.inf) -> str:
        """`yes`, `no`, `yes*` (in smaller batches), or nothing where it is not known."""
        if self.device_gb is None:
            return ""
        if (self.ram_gb or 0) > ram_gb:
            return "no"
        if self.device_gb <= there_gb:
            return "yes"
        return "yes*" if self.smaller_gb is not None and self.smaller_gb <= there_gb else "no"


def rows(p, speed: float | None = None) -> list[Need]:
    """One row a step and part of a step; hours at a `speed` of so many tokens a second of a 70B.

    Raises StudyError where `lora_targets` fits no layer.
    """
    base = base_of(p)
    return [
        _base_row(p, base),
        _data(p),
        *_loading(p, base),
        *_training(p, base, speed),
        *_merging(p, base),
        *_scoring(p, base),
        Need("05", "error analysis"),
        Need("06", "tables, figures"),
        _asking(p, base),
    ]


def base_of(p):
    """The base's name, its folder where 00_base has made it, or else its shape."""
    made = steps.outputs() / p.study / "base/model"
    return p.base_model or (str(made) if made.is_dir() else shapes.made_here(p))


def _base_row(p, base) -> Need:
    if not p.base_model:
        return Need("00", "pretraining of the base", None, disk_gb=_loaded_gb(base))
    return Need("00", f"download of {base}", disk_gb=_download(base))


def _download(name: str) -> float:
    """What fetching a model takes: nothing for a folder."""
    return 0.0 if Path(name).is_dir() else _loaded_gb(name)


def _loaded_gb(model) -> float:
    return memory.rounded_up(budget_scoring.loaded(model, None))


def _data(p) -> Need:
    """Files of known size, and twice the Arrow files if all rows are as long as allowed; RAM.

    Of the hub's whole sets alone, as nobody knows what else a folder holds.
    """
    names = [*p.data_sources, *p.dpo_sources]
    counts = [_drawn(p, name) for name in names]
    files = [SOURCES[name].bytes or 0 for name in names]
    part = f"{len(names) + len(p.cpt_sources)} sources, {len(p.eval_benchmarks)} benchmarks"
    if None in counts or p.cpt_sources or p.data_root != "hub":
        return Need("01", part)
    arrow = 2 * ID_BYTES * p.data_max_length * sum(counts)
    measured = json.loads((ROOT / "outputs/reference/benchmarks/data-full.json").read_text())
    ram = min((one["peak_gb"] for one in measured if one["rows"] >= sum(counts)), default=None)
    return Need("01", part, ram_gb=ram, disk_gb=memory.rounded_up(sum(files) + arrow))


def _drawn(p, name: str) -> int | None:
    limit, whole = p.data_caps.get(name, p.data_limit), SOURCES[name].rows
    return whole if limit is None else min(limit, whole or limit)


def _loading(p, base) -> list[Need]:
    how = "NF4" if p.quant_type != "none" else p.quant_compute_dtype
    found = [
        Need(
            "02", f"loading the base in {how}", memory.rounded_up(budget_scoring.load_peak(base, p))
        )
    ]
    return [
        *found,
        Need("02", "the full base, compared", memory.rounded_up(budget_scoring.compared(base))),
    ]


def _training(p, base, speed: float | None) -> list[Need]:
    found = []
    for number, kind in enumerate(p.train_stages, 1):
        seeds, continued = len(p.train_seeds), number > 1
        width = 4 if p.lora_dtype == "fp32" else 2
        lora = budget.adapter_weights(budget.shape(base), p)
        state = budget.ADAM_BYTES[getattr(p, f"{kind}_optimizer")]
        disk = (
            seeds * lora * (CHECKPOINTS * (width + state) + 2 * width)
        )  # and the adapter, also after the first step
        found.append(
            Need(
                "03",
                f"stage {number} {kind}" + (f", {seeds} seeds" if seeds > 1 else ""),
                memory.rounded_up(budget.needed(base, p, kind, continued)),
                disk_gb=memory.rounded_up(disk),
                hours=None if speed is None else accelerators.hours(base, tokens(p, kind), speed),
                advice=partial(budget.advice, base, p, kind=kind, continued=continued),
            )
        )
    return found


def tokens(p, kind: str) -> float:
    """Tokens of a stage if every sequence is full, of all seeds; of dpo as much as they cost."""
    one = (
        getattr(p, f"{kind}_steps")
        * getattr(p, f"{kind}_batch_size")
        * p.data_max_length
        * len(p.train_seeds)
    )
    return one * 2 * PAIR_READ_AGAIN if kind == "dpo" else one


def speed(there: memory.Memory) -> float | None:
    """Tokens a second that are published for a 70B on this GPU."""
    device = re.sub(r"[^a-z0-9]", "", there.where.lower())
    for card in accelerators.cards().itertuples() if there.gpu else ():
        words = re.sub(r"(\d+) GB", r"\1GB", card.gpu).lower().split()
        if all(word in device for word in words) and not math.isnan(card.tokens_per_second_70b):
            return card.tokens_per_second_70b
    return None


def _merging(p, base) -> list[Need]:
    """Merged on the CPU, and compared there too where the GPU is too small for the merged model."""
    ram = memory.rounded_up(
        max(
            budget_scoring.merging(base, p),
            budget_scoring.compared(base, rows=1, tokens=p.data_max_length),
        )
    )
    return [
        Need("03", f"merging into the {into} base", ram_gb=ram, disk_gb=_loaded_gb(base))
        for into in p.train_merge
    ]


def _scoring(p, base) -> list[Need]:
    found = []
    for one in expected(p, base):
        try:
            adapter = budget_scoring.adapter_bytes(base, p) if one.adapter else 0
            sizes = [
                memory.rounded_up(
                    budget_scoring.scoring(one.source, p, one.quantised, adapter, tokens)
                )
                for tokens in (None, 1)
            ]
            disk = _download(one.source) if one.name in p.eval_models else None
        except (OSError, ValueError):  # a name that cannot be read here yet
            sizes, disk = [None, None], None
        found.append(Need("04", one.name, sizes[0], disk_gb=disk, smaller_gb=sizes[1]))
    return found


def expected(p, base) -> list[candidates.Model]:
    """Every model that will be scored once all stages are trained; `base` is a name or a shape."""
    four, adapter = p.quant_type != "none", Path("adapter")
    stages = [f"{number}-{kind}" for number, kind in enumerate(p.train_stages, 1)]
    earlier = [
        *stages[:-1],
        *(f"{stage}-seed{seed}" for seed in p.train_seeds[1:] for stage in stages),
    ]
    return [
        candidates.Model("base", base),
        *([candidates.Model("base-nf4", base, True)] if four else []),
        *(candidates.Model(f"tuned-{name}", base, four, adapter) for name in earlier),
        *(candidates.Model(f"merged-{into}", base) for into in p.train_merge),
        candidates.Model("tuned", base, four, adapter),
        *(candidates.described(*pair) for pair in p.eval_models.items()),
    ]


def _asking(p, base) -> Need:
    needed = budget_scoring.load_peak(base, p) + budget_scoring.adapter_bytes(base, p)
    return Need("07", "base with adapter, by hand", memory.rounded_up(needed))
