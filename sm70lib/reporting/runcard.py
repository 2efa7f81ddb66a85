"""The run card: when, how long, memory, energy, and what differs from the study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sm70lib.parameters.rules import REHEARSAL
from sm70lib.reporting.made import Made
from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError


def runcard(made: Made) -> list[tuple[str, str]]:
    """What a run took, line by line; empty without a manifest.

    Args:
        made: the study.

    Returns:
        Pairs of what and how much.
    """
    manifest = made.manifest
    if not manifest:
        return []
    steps = manifest["steps"].values()
    peak = max(manifest["steps"], key=lambda name: manifest["steps"][name]["peak_memory_gb"] or 0)
    return [
        ("Finished", manifest["finished"].replace("T", ", ")[:17] + " UTC"),
        (
            "Took",
            f"{duration(sum(step['seconds'] or 0 for step in steps))} in all; {_longest(made)}",
        ),
        ("Peak memory", f"{manifest['steps'][peak]['peak_memory_gb']:.2g} GB, in {peak}"),
        ("Energy", energy(made)),
        ("Machine", _machine(manifest["hardware"])),
        ("Commit", _commit(manifest)),
        ("Seeds", ", ".join(f"{name} {value}" for name, value in manifest["seeds"].items())),
        ("Differs from the study file", _differing(made)),
    ]


def duration(seconds: float) -> str:
    """Seconds in words that suit their size: "8 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _longest(made: Made) -> str:
    """The steps that took the most time."""
    seconds = {name: step["seconds"] or 0 for name, step in made.manifest["steps"].items()}
    longest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:3]
    return ", ".join(f"{name} {duration(seconds[name])}" for name in longest)


def energy(made: Made) -> str:
    """What a run used, by the GPUs' meter, or else by the stated power; and the CO2 of that.

    CO2 is named only where `plan_grams_per_kwh` says what a kWh stands for.
    """
    steps = made.manifest["steps"].values()
    metered = [step["energy_kwh"] for step in steps if step.get("energy_kwh") is not None]
    watts = made.parameters.get("plan_watts", 0)
    hours = sum(step["seconds"] or 0 for step in steps) / 3600
    if metered:
        kwh, words = sum(metered), "by the GPUs"
    elif watts:
        kwh, words = hours * watts / 1000, f"(an estimate: {hours:.2g} h at {watts:g} W)"
    else:
        return "not measured: no meter, and plan_watts states no power"
    grams = made.parameters.get("plan_grams_per_kwh", 0)
    said = f"{kwh:.3g} kWh {words}"
    if not grams:
        return f"{said}; CO2 not estimated: plan_grams_per_kwh is 0"
    return f"{said}, {kwh * grams / 1000:.3g} kg of CO2 at {grams:g} g/kWh"


def _machine(hardware: dict[str, Any]) -> str:
    parts = [hardware.get("cpu"), f"{hardware.get('cores')} cores", *hardware.get("gpus", ())]
    return ", ".join(str(part) for part in parts if part)


def _commit(manifest: dict[str, Any]) -> str:
    """The commits of the steps, each with its steps where they differ."""
    made: dict[str, list[str]] = {}
    for name, step in manifest["steps"].items():
        made.setdefault(step["commit"] or "unknown", []).append(name[:2])
    if len(made) == 1:
        return next(iter(made))
    return "; ".join(f"{commit} ({', '.join(names)})" for commit, names in made.items())


def _differing(made: Made) -> str:
    """Parameters whose values are not those of params/<study>.yml; or why that is not known."""
    path = study_file(made.name)
    if path is None:
        return f"there is no params/{made.name}.yml to compare with"
    try:
        declared = params.load(path).model_dump()
    except StudyError as error:
        return f"{path.name} cannot be read: {error}"
    found = [
        f"{name} {declared[name]} → {value}"
        for name, value in made.parameters.items()
        if name in declared and declared[name] != value and params.affects(name) != "nothing"
    ]
    return "; ".join(found) or f"nothing: as params/{path.relative_to(ROOT / 'params')} says"


def study_file(study: str) -> Path | None:
    """The file of a study, or of the study that a rehearsal rehearses; None if there is none."""
    path = ROOT / "params" / f"{study.removeprefix(REHEARSAL)}.yml"
    return path if path.is_file() else None
