"""What every step of a study needs: one row for each part of a step."""

from __future__ import annotations

import json
import math
import re
from functools import partial
from pathlib import Path

from safetensors import SafetensorError

from sm70lib import sources
from sm70lib.evaluation import candidates
from sm70lib.parameters import launchers
from sm70lib.planning.need import Need
from sm70lib.sizes import accelerators, activations, budget, budget_scoring, shapes
from sm70lib.steps import steps, weights
from sm70lib.study import memory
from sm70lib.study.params import ROOT
from sm70lib.study.used import own_models, preference_sources, text_sources, trains_all

ID_BYTES = 8  # a token of an instruction row takes four bytes for its id and four for its label
CHECKPOINTS = 3  # two are kept, and the next is written before the oldest is deleted
MEASURED = ROOT / "outputs/reference/benchmarks/data-full.json"  # RAM that 01 took, by rows


def rows(p, speed: float | None = None) -> list[Need]:
    """What each step of a study needs, one row for each part of a step.

    Args:
        p: the study.
        speed: tokens a second of a 70B on the GPU; without it no hours are given.

    Raises:
        StudyError: `lora_targets` matches no layer.
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
    """The base: its name on the hub, its folder if 00_base has made it, or else its shape."""
    if p.base_model:
        return weights.placed(p.base_model)
    folder = steps.outputs() / p.study / "base/model"
    return str(folder) if folder.is_dir() else shapes.made_here(p)


def _base_row(p, base) -> Need:
    if not p.base_model:
        return Need("00", "pretraining of the base", None, disk_gb=_loaded_gb(base))
    return Need("00", f"download of {base}", disk_gb=_download(base))


def _download(name: str) -> float:
    """Disk space (GB) for a model that is fetched; 0 for one in a folder."""
    return 0.0 if Path(weights.place(name)).is_dir() else _loaded_gb(name)


def _loaded_gb(model) -> float:
    return memory.rounded_up(budget_scoring.loaded(model, None))


def _data(p) -> Need:
    """Disk for files of known size, and for Arrow files whose rows are all of the greatest length.

    The Arrow files count twice. Sizes and RAM are known only for the hub's whole sets, as a folder
    may hold anything.
    """
    texts = text_sources(p)
    names = [*p.data_sources, *preference_sources(p)]
    part = f"{len(names) + len(texts)} sources, {len(p.eval_benchmarks)} benchmarks"
    counts = [_row_count(p, name) for name in names]
    known = [count for count in counts if count is not None]
    if len(known) < len(names) or texts or p.data_root != "hub":
        return Need("01", part)
    row_count = sum(known)
    files = sum(sources.about(name).bytes or 0 for name in names)
    arrow = 2 * ID_BYTES * p.data_max_length * row_count
    return Need(
        "01", part, ram_gb=_data_ram_gb(row_count), disk_gb=memory.rounded_up(files + arrow)
    )


def _row_count(p, name: str) -> int | None:
    """Rows that the study takes of a source, at most; None if that is not known."""
    whole = sources.about(name).rows
    limit = p.data_caps.get(name, p.data_limit)
    if limit is None:
        return whole
    return min(limit, whole or limit)


def _data_ram_gb(row_count: int) -> float | None:
    """The least RAM (GB) that was measured with at least so many rows."""
    measured = json.loads(MEASURED.read_text())
    peaks = [run["peak_gb"] for run in measured if run["rows"] >= row_count]
    return min(peaks, default=None)


def _loading(p, base) -> list[Need]:
    precision = "NF4" if p.quant_type != "none" else p.quant_compute_dtype
    loaded = memory.rounded_up(budget_scoring.load_peak(base, p))
    compared = memory.rounded_up(budget_scoring.compared(base))
    return [
        Need("02", f"loading the base in {precision}", loaded),
        Need("02", "the full base, compared", compared),
    ]


def _training(p, base, speed: float | None) -> list[Need]:
    seeds = len(p.train_seeds)
    suffix = f", {seeds} seeds" if seeds > 1 else ""
    if trains_all(p) and budget.shared_by(p) > 1:
        suffix += f", each of {budget.shared_by(p)} GPUs"
    needs = []
    for number, kind in enumerate(p.train_stages, 1):
        continued = number > 1
        needs.append(
            Need(
                "03",
                f"stage {number} {kind}{suffix}",
                memory.rounded_up(budget.needed(base, p, kind, continued)),
                disk_gb=memory.rounded_up(seeds * _stage_bytes(p, base, kind)),
                hours=None if speed is None else accelerators.hours(base, tokens(p, number), speed),
                advice=partial(budget.advice, base, p, kind=kind, continued=continued),
            )
        )
    return needs


def _stage_bytes(p, base, kind: str) -> int:
    """Bytes that one seed of a stage writes: checkpoints, and what is saved at first step and end.

    Of all weights, those of the first step are deleted again before the first checkpoint.
    """
    if trains_all(p):
        checkpoint = activations.full_width(p) + budget.state_bytes(p, kind)
        whole = shapes.shape(base).weights
        return whole * (CHECKPOINTS * checkpoint + activations.compute_width(p))
    trained = budget.adapter_weights(shapes.shape(base), p)
    width = activations.lora_width(p)
    state = budget.ADAM_BYTES[getattr(p, f"{kind}_optimizer")]
    return trained * (CHECKPOINTS * (width + state) + 2 * width)


def tokens(p, number: int) -> float:
    """Tokens of a stage, from 1, with all seeds for each GPU, as `accelerators.tokens` counts."""
    gpus = launchers.processes(p.train_launcher)
    kind = p.train_stages[number - 1]
    return accelerators.tokens(p, kind, number) * len(p.train_seeds) / gpus


def speed(there: memory.Memory) -> float | None:
    """The published speed of a 70B on this GPU (tokens a second); None if there is none."""
    if not there.gpu:
        return None
    device = re.sub(r"[^a-z0-9]", "", there.where.lower())
    for card in accelerators.cards().itertuples():
        words = re.sub(r"(\d+) GB", r"\1GB", card.gpu).lower().split()
        same = all(word in device for word in words)
        if same and not math.isnan(card.tokens_per_second_70b):
            return card.tokens_per_second_70b
    return None


def _merging(p, base) -> list[Need]:
    """Merging runs on the CPU, and so does the comparison if the merged model exceeds the GPU."""
    if not p.train_merge:
        return []
    merged = budget_scoring.merging(base, p)
    compared = budget_scoring.compared(base, rows=1, tokens=p.data_max_length)
    ram = memory.rounded_up(max(merged, compared))
    return [
        Need("03", f"merging into the {into} base", ram_gb=ram, disk_gb=_loaded_gb(base))
        for into in p.train_merge
    ]


def _scoring(p, base) -> list[Need]:
    return [_scoring_row(p, base, model) for model in expected(p, base)]


def _scoring_row(p, base, model: candidates.Model) -> Need:
    if model.server:
        return Need("04", f"{model.name}, on its server")
    try:
        adapter = _adapter_bytes(p, base, model)
        size = partial(budget_scoring.scoring, model.source, p, model.quantised, adapter)
        whole = memory.rounded_up(size(None))
        smaller = memory.rounded_up(size(1))
        disk = _download(model.source) if model.name in p.eval_models else None
    except (OSError, ValueError, SafetensorError):  # the model cannot be read here yet
        return Need("04", model.name, None)
    return Need("04", model.name, whole, disk_gb=disk, smaller_gb=smaller)


def _adapter_bytes(p, base, model: candidates.Model) -> float:
    """Bytes of a model's adapter in memory: one from elsewhere has a size of its own."""
    if model.adapter is None:
        return 0.0
    if model.name in p.eval_models:
        return budget_scoring.saved_adapter_bytes(model.adapter)
    return budget_scoring.adapter_bytes(base, p)


def expected(p, base) -> list[candidates.Model]:
    """Every model that will be scored once all stages are trained.

    Args:
        p: the study.
        base: the base's name, folder or shape.
    """
    adapter = None if trains_all(p) else Path("adapter")
    trained = (p.quant_type != "none", adapter)
    loaded = {"base": (False, None), "base-nf4": (True, None), "merged": (False, None)}
    models = [
        candidates.Model(name, base, *loaded.get(kind, trained)) for kind, name in own_models(p)
    ]
    models += [candidates.described(name, line) for name, line in p.eval_models.items()]
    return models


def _asking(p, base) -> Need:
    needed = budget_scoring.load_peak(base, p)
    if trains_all(p):
        return Need("07", "base and tuned model, one by one", memory.rounded_up(needed))
    needed += budget_scoring.adapter_bytes(base, p)
    return Need("07", "base with adapter, by hand", memory.rounded_up(needed))
