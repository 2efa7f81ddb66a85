"""Puts every criterion of every reply to the judges, and keeps what they say line by line."""

from __future__ import annotations

import json
from pathlib import Path

from sm70lib.asking.runs import Run
from sm70lib.evaluation.candidates import Model, models
from sm70lib.judging import readings
from sm70lib.judging.judgements import Case, cases, files, keep, place
from sm70lib.judging.required import judgements, of_rubrics, predictions, require
from sm70lib.protocols import rubric
from sm70lib.records import shelves
from sm70lib.serving.served import Served
from sm70lib.steps.keys import EVALUATION
from sm70lib.steps.steps import progress
from sm70lib.study import judges
from sm70lib.study.judges import Judge
from sm70lib.study.params import rehearsal

TOKENS = 2048  # most tokens of what a judge says: about 60 for the object, the rest for reasoning
CHUNK = 64  # judgements that a kill may cost


def check(p, asked: list[Run], folder: Path) -> None:
    """Checks the judges before anything is scored, and prints who judges whom where that matters.

    Args:
        p: the study's parameters.
        asked: the runs.
        folder: the study's outputs.

    Raises:
        StudyError: as `required.require`; or a server does not answer.
    """
    mine = of_rubrics(asked)
    if not mine:
        return
    panel, said = require(p, mine, [which.name for which in models(p, folder)])
    for line in said:
        print(line)
    for judge in judges.all_of(p):
        theirs = judgements(judge, panel, mine, folder)
        if judge.server and not all(path.exists() for path in theirs):
            print(f"{judge.name} is {_served(judge).way}")


def judge_all(p, asked: list[Run], folder: Path) -> None:
    """Lets the judges read the replies to every rubric, and goes on where it stopped.

    Args:
        p: the study's parameters.
        asked: the runs.
        folder: the study's outputs.

    Raises:
        StudyError: as `check`; a reply is not the one that a person has read; or a server stops
            answering.
    """
    mine = of_rubrics(asked)
    if not mine:
        readings.remember(folder, {})
        return
    every_model = models(p, folder)
    panel, _ = require(p, mine, [which.name for which in every_model])
    replies = _replies(every_model, mine, folder)
    _put_aside(folder, replies, panel)
    _take_in(p, replies, folder)
    for judge in judges.all_of(p):
        if judge.server is None:
            continue
        backend = _served(judge)
        for (model, _), (path, of_model) in replies.items():
            if judge in panel[model]:
                _judge(judge, backend, of_model, place(path, judge.name))


def _take_in(p, replies: dict[tuple[str, str], tuple[Path, list[Case]]], folder: Path) -> None:
    """Takes in what people have read; nobody has read the replies of a rehearsal's stand-ins."""
    people = [judge for judge in judges.all_of(p) if judge.server is None]
    if people and rehearsal(p.study):
        print(f"{', '.join(judge.name for judge in people)}: a rehearsal takes in no readings")
        people = []
    digests = readings.digests(people)
    for judge in people:
        readings.take_in(judge, replies)
    readings.remember(folder, digests)


def _replies(
    every_model: list[Model], mine: list[Run], folder: Path
) -> dict[tuple[str, str], tuple[Path, list[Case]]]:
    """The prediction file and its cases, by model and benchmark, of models that were scored."""
    found = {}
    for which in every_model:
        for run in mine:
            path = predictions(folder, which.name, run)
            if path.exists():
                found[which.name, run.benchmark] = path, cases(run.items, path)
    return found


def _put_aside(
    folder: Path, replies: dict[tuple[str, str], tuple[Path, list[Case]]], panel: dict
) -> None:
    """Moves the files of judges away that are not asked any more, so that no table shows them."""
    for (model, _), (replied, _) in replies.items():
        names = {judge.name for judge in panel[model]}
        gone = [path for path in files(replied) if path.stem not in names]
        if gone:
            print(f"{model}: {', '.join(path.stem for path in gone)} is no longer a judge")
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
