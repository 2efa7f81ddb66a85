"""Puts every criterion of every reply to the judges, and keeps what they say line by line."""

from __future__ import annotations

import json
from pathlib import Path

from sm70lib.asking.runs import Run
from sm70lib.benchmarks import RUBRICS, form
from sm70lib.evaluation.candidates import Model, models
from sm70lib.judging import readings
from sm70lib.judging.judgements import Case, cases, files, keep, place
from sm70lib.judging.panel import family_of, panels
from sm70lib.protocols import rubric
from sm70lib.records import shelves
from sm70lib.serving.served import Served
from sm70lib.steps.keys import EVALUATION
from sm70lib.steps.steps import progress
from sm70lib.study import judges
from sm70lib.study.judges import Judge
from sm70lib.study.params import StudyError

TOKENS = 2048  # most tokens of what a judge says: about 60 for the object, the rest for reasoning
CHUNK = 64  # judgements that a kill may cost


def check(p, asked: list[Run], folder: Path) -> None:
    """Checks the judges before anything is scored, and prints who judges whom where that matters.

    Args:
        p: the study's parameters.
        asked: the runs.
        folder: the study's outputs.

    Raises:
        StudyError: there is no judge, a line is not understood, a model has no judge of another
            family, a server does not answer, or a file of readings is missing.
    """
    if not _judged(asked):
        return
    found = judges.all_of(p)
    if not found:
        raise StudyError(
            "eval_protocols has rubric, whose replies judges read, and eval_judges names none; "
            "add a judge, such as qwen: served=http://localhost:8000/v1 model=Qwen/Qwen3-32B"
        )
    panel, said = _panels(p, models(p, folder))
    for line in said:
        print(line)
    for judge in found:
        if judge.server is None:
            readings.file_of(judge)
        elif _needed(judge, panel, _judged(asked), folder):
            print(f"{judge.name} is {_served(judge).way}")


def judge_all(p, asked: list[Run], folder: Path) -> None:
    """Lets the judges read the replies to every rubric, and goes on where it stopped.

    Args:
        p: the study's parameters.
        asked: the runs.
        folder: the study's outputs.

    Raises:
        StudyError: as `check`; or a server stops answering.
    """
    mine = _judged(asked)
    if not mine:
        return
    every_model = models(p, folder)
    panel, _ = _panels(p, every_model)
    replies = _replies(every_model, mine, folder)
    _put_aside(folder, replies, panel)
    for judge in judges.all_of(p):
        if judge.server is None:
            readings.take_in(judge, replies)
            continue
        backend = _served(judge)
        for (model, _), (predictions, of_model) in replies.items():
            if judge in panel[model]:
                _judge(judge, backend, of_model, place(predictions, judge.name))


def _panels(p, every_model: list[Model]) -> tuple[dict[str, list[Judge]], list[str]]:
    families = {which.name: family_of(which, p) for which in every_model}
    return panels(judges.all_of(p), families)


def _judged(asked: list[Run]) -> list[Run]:
    return [run for run in asked if form(run.benchmark) in RUBRICS]


def _needed(judge: Judge, panel: dict[str, list[Judge]], mine: list[Run], folder: Path) -> bool:
    """Whether there is anything that a judge has not read yet."""
    theirs = [
        place(_predictions(folder, model, run), judge.name)
        for model, fit in panel.items()
        for run in mine
        if judge in fit
    ]
    return not all(path.exists() for path in theirs)


def _predictions(folder: Path, model: str, run: Run) -> Path:
    return folder / "predictions" / model / f"{run.name}.jsonl"


def _replies(
    every_model: list[Model], mine: list[Run], folder: Path
) -> dict[tuple[str, str], tuple[Path, list[Case]]]:
    """The prediction file and its cases, by model and benchmark, of models that were scored."""
    found = {}
    for which in every_model:
        for run in mine:
            path = _predictions(folder, which.name, run)
            if path.exists():
                found[which.name, run.benchmark] = path, cases(run.items, path)
    return found


def _put_aside(
    folder: Path, replies: dict[tuple[str, str], tuple[Path, list[Case]]], panel: dict
) -> None:
    """Moves the files of judges away that are not asked any more, so that no table shows them."""
    for (model, _), (predictions, _) in replies.items():
        names = {judge.name for judge in panel[model]}
        gone = [path for path in files(predictions) if path.stem not in names]
        if gone:
            print(f"{model}: {', '.join(path.stem for path in gone)} is no judge any more")
            shelves.move(gone, folder, shelves.shelf(folder, EVALUATION, "judges", gone))


def _served(judge: Judge) -> Served:
    assert judge.server is not None
    return Served(judge.name, judge.server, parameter="eval_judges")


def _judge(judge: Judge, backend: Served, of_model: list[Case], path: Path) -> None:
    """Lets one judge read the replies of one model to one benchmark, as far as it has not yet."""
    # What a kept line has to agree with. The server is asked which model it runs only if it has to
    # be asked anyway, so that a finished study needs no server.
    assert judge.server is not None
    fixed = {"asked_for": judge.server.model, "words": rubric.VERSION}
    wanted = {case.key: fixed | {"prompt_digest": rubric.digest(case.prompt)} for case in of_model}
    done = keep(path, wanted)
    left = [case for case in of_model if case.key not in done]
    if not left:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    who = {"judge": backend.abilities.model, "server": backend.abilities.server}
    title = f"{path.parent.parent.name} read by {judge.name}"
    with open(path, "a", encoding="utf-8") as file, progress(len(left), "criterion", title) as bar:
        for start in range(0, len(left), CHUNK):
            chunk = left[start : start + CHUNK]
            prompts = [json.dumps([{"role": "user", "content": case.prompt}]) for case in chunk]
            for case, [said] in zip(chunk, backend.written(prompts, TOKENS)):
                line = case.about | who | wanted[case.key]
                line |= {"met": rubric.met(said), "said": said}
                file.write(f"{json.dumps(line)}\n")
            file.flush()
            bar.update(len(chunk))
