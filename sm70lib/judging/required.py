"""What of a study's judges can be known before a model writes a reply, and before it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sm70lib.asking.runs import Run, planned
from sm70lib.asking.servers import are_asked
from sm70lib.benchmarks import RUBRICS, form
from sm70lib.judging import readings
from sm70lib.judging.judgements import place
from sm70lib.judging.panel import family_of, panels
from sm70lib.serving import keys
from sm70lib.steps.keys import outputs
from sm70lib.study import judges
from sm70lib.study.judges import Judge
from sm70lib.study.params import StudyError, rehearsal
from sm70lib.study.used import own_models

Panel = dict[str, list[Judge]]  # the judges of every model, by its name


def before(p, running: Sequence[str]) -> list[str]:
    """Checks the judges of a study of which nothing has to be there yet.

    Args:
        p: the study's parameters.
        running: the steps that will run, in order, 04 among them.

    Returns:
        A sentence on each person whose readings are not there yet.

    Raises:
        StudyError: as `require`; a line is not understood, of whatever use it is; or it names a
            variable for a key that is not set.
    """
    found = judges.all_of(p)
    asked = of_rubrics(planned(p))
    if not asked:
        return []
    panel, _ = require(p, asked, [*(name for _, name in own_models(p)), *p.eval_models])
    for judge in found:
        files = judgements(judge, panel, asked, outputs() / p.study)
        if judge.server and are_asked(running, files):
            keys.require(judge.server, f"eval_judges: {judge.name}")
    people = [judge for judge in found if judge.server is None]
    return list(filter(None, map(readings.absent, people)))


def require(p, asked: Sequence[Run], models: Sequence[str]) -> tuple[Panel, list[str]]:
    """Checks the judges of the models that are to reply, and what people have read of them.

    Args:
        p: the study's parameters.
        asked: the runs whose replies judges read; without items, these are not looked at.
        models: the names of the models.

    Returns:
        The judges of every model, and what a reader of the scores has to know about them.

    Raises:
        StudyError: there is no judge, a line is not understood, a model has no judge of another
            family, or a row of a person's file says nothing of use.
    """
    found = judges.all_of(p)
    if not found:
        raise StudyError(
            "eval_protocols has rubric, whose replies judges read, and eval_judges names none; "
            "add a judge, such as qwen: served=http://localhost:8000/v1 model=Qwen/Qwen3-32B"
        )
    panel, said = panels(found, {model: family_of(model, p) for model in models})
    # Stand-ins for conversations have other ids than those that people read.
    items = {run.benchmark: [] if rehearsal(p.study) else run.items for run in asked}
    for judge in found:
        if judge.server is None:
            readings.require(judge, models, items)
    return panel, said


def of_rubrics(asked: Sequence[Run]) -> list[Run]:
    """The runs whose replies judges read."""
    return [run for run in asked if form(run.benchmark) in RUBRICS]


def judgements(judge: Judge, panel: Panel, mine: Sequence[Run], folder: Path) -> list[Path]:
    """The files of all that a judge reads, whether they are there or not."""
    return [
        place(predictions(folder, model, run), judge.name)
        for model, fit in panel.items()
        for run in mine
        if judge in fit
    ]


def predictions(folder: Path, model: str, run: Run) -> Path:
    """The file of a model's replies."""
    return folder / "predictions" / model / f"{run.name}.jsonl"
