"""One model answers the runs that it can be asked, on this machine or by its server."""

from __future__ import annotations

import os
from pathlib import Path

from sm70lib.asking.prompts import Prompts
from sm70lib.asking.runs import Run, without_tokenizer
from sm70lib.corpus import chat, templates
from sm70lib.corpus.templates import CHAT, DIGEST, trained_in
from sm70lib.evaluation import predictions
from sm70lib.evaluation.candidates import Model
from sm70lib.evaluation.check_scores import rescore
from sm70lib.evaluation.lines import finished, gather, lines
from sm70lib.evaluation.one_run import evaluate
from sm70lib.models import loading
from sm70lib.models.backend import Backend, Local
from sm70lib.models.proof import PLAIN
from sm70lib.steps.keys import read
from sm70lib.steps.steps import write_json
from sm70lib.study.params import StudyError

OF_THIS_STUDY = (chat.REMEDY, templates.REMEDY)
# What to do about a model of `eval_models` that cannot be asked in the study's template
IN_CHAT = (
    "add chat=yes to its line, which asks it in its own chat template (in Med42's words if it has "
    "none)"
)
OF_OTHERS = (
    f"{IN_CHAT}, or take it out",
    f"set data_template to what it was trained in, or {IN_CHAT}",
)


def askable(which: Model, asked: list[Run]) -> list[Run]:
    """The runs that a model can be asked: all, unless only a server has its tokenizer."""
    if which.source:
        return asked
    return [run for run in asked if run.protocol.reads]


def prompts_of(which: Model, asked: list[Run]) -> dict[Run, Prompts]:
    """The prompts of every run, as this model is asked."""
    tokenizer = which.tokenizer()
    return {run: Prompts(run, tokenizer, which.chat) for run in asked}


def places(which: Model, asked: list[Run], folder: Path) -> dict[Run, Path]:
    """The prediction file of every run under one model."""
    return {run: folder / "predictions" / which.name / f"{run.name}.jsonl" for run in asked}


def is_complete(which: Model, prompts: dict[Run, Prompts], folder: Path) -> bool:
    """Whether all that a model is asked has been answered, and some of it scored again."""
    identity, files = which.identity(), places(which, list(prompts), folder)
    complete = []
    for run in prompts:
        gather(files[run])
        complete.append(finished(files[run], prompts[run], identity))
    return all(complete) and bool(read(predictions.rescored_path(folder, which.name)))


def require_server(which: Model, asked: list[Run], folder: Path) -> None:
    """Checks the server of a model, if it has one and is still needed, and says what it is asked.

    Raises:
        StudyError: the server does not answer or cannot do what it is asked; or no protocol of the
            study can be put to it.
    """
    if which.server is None:
        return
    mine = askable(which, asked)
    apart = sorted({run.protocol.name for run in asked if run not in mine})
    if apart:
        print(
            f"{which.name} is not asked under {', '.join(apart)}: its server has the only "
            "tokenizer, so it is asked under protocols that read written answers"
        )
    if not mine:
        raise without_tokenizer(which.name)
    if is_complete(which, prompts_of(which, mine), folder):
        return
    scored = sorted({run.protocol.name for run in mine if not run.protocol.reads})
    _served(which).require_scores(scored)


def require_templates(which: Model, asked: list[Run], p) -> None:
    """Checks that a model can be asked in the study's template, where a protocol asks in it.

    Args:
        which: the model.
        asked: the runs; no items are looked at.
        p: the study's parameters.

    Raises:
        StudyError: it has no chat template to ask in, or was trained in another template.
    """
    own = which.name not in p.eval_models
    try:
        for run in asked:
            template_of(which, run, OF_THIS_STUDY if own else OF_OTHERS)
    except StudyError as error:
        if own:
            raise
        raise StudyError(f"eval_models: {which.name}: {error}") from None


def template_of(
    which: Model, run: Run, remedies: tuple[str, str] = OF_THIS_STUDY
) -> dict[str, str]:
    """The templates that the `.meta.json` names: asked in, and trained in.

    Args:
        which: the model.
        run: the run.
        remedies: what to do without a chat template, and about an adapter of another template.

    Returns:
        `asked_in`, and for an adapter `trained_in`; nothing, if the protocol uses no template.

    Raises:
        StudyError: the adapter was trained in another template than the study's is now.
    """
    if not run.protocol.in_template:
        return {}
    if which.chat:
        return {"asked_in": "its chat template"}
    asked = {"asked_in": run.template}
    words = which.chat_template(remedies[0]) if run.template == CHAT else None
    place = which.adapter or Path(which.source)
    if which.adapter is None and not (place / DIGEST).is_file():
        return asked
    trained = trained_in(place, run.template, words, remedies[1])
    return asked | {"trained_in": trained or "not known, its folder has no template.json"}


def score_here(
    which: Model,
    p,
    prompts: dict[Run, Prompts],
    folder: Path,
    tokens: int,
    identity: str,
    place: tuple[int, int] = (0, 0),
) -> None:
    """Scores what is left of every run in this process.

    One of several processes scores only its share. Then a few items are scored again.

    Args:
        which: the model.
        p: the study's parameters.
        prompts: the runs with their prompts.
        folder: the study's outputs.
        tokens: tokens that a batch may have.
        identity: what identifies the model (`Model.identity`).
        place: how many runs other models have before, and how many runs there are; for the line of
            progress.
    """
    asked = list(prompts)
    before, total = place
    files = places(which, asked, folder)
    backend = backend_of(which, p, asked)
    for number, run in enumerate(asked, before + 1):
        gather(files[run])
        if finished(files[run], prompts[run], identity):
            continue
        evaluate(
            backend,
            run,
            files[run],
            model_digest=identity,
            batch_tokens=tokens,
            chat=which.chat,
            notes=template_of(which, run) | which.configured(),
            prompts=prompts[run],
            place=f"(run {number} of {total or len(asked)})",
        )
    if os.environ.get("RANK", "0") == "0":
        scored = [run for run in asked if not run.protocol.reads]
        written = [(prompts[run], lines(files[run])) for run in scored]
        rescored = rescore(backend, written, which.name)
        write_json(predictions.rescored_path(folder, which.name), rescored)


def backend_of(which: Model, p, asked: list[Run]) -> Backend:
    """Loads a model, or connects to its server."""
    if which.server:
        return _served(which)
    loaded = loading.load(which.source, p if which.quantised else None, which.adapter)
    longest = max(run.protocol.max_context for run in asked)
    backend = Local(loaded, which.tokenizer(), longest)
    _say_if_plain(which.name, backend, asked)
    return backend


def _served(which: Model):
    """The connection to a model's server. Its client takes a second to import, which few need."""
    from sm70lib.serving.served import Served

    assert which.server is not None
    return Served(which.name, which.server, which.tokenizer())


def _say_if_plain(name: str, backend: Local, asked: list[Run]) -> None:
    """Prints why a model is scored plainly, which takes several times as long."""
    if not all(run.protocol.reads for run in asked) and backend.way == PLAIN:
        print(f"{name} is scored plainly, one option a pass: {backend.proof.reason}")
