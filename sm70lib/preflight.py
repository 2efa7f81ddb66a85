"""Before the runner starts a study's notebooks: what would happen, checks and settings."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from sm70lib import live
from sm70lib.parameters import own
from sm70lib.parameters.fields import Study
from sm70lib.steps import replaced, steps, weights
from sm70lib.steps.keys import EVALUATION, mark
from sm70lib.study import variants
from sm70lib.study.others import downloads
from sm70lib.study.params import ROOT, StudyError
from sm70lib.study.provenance import declared
from sm70lib.study.used import own_files, preference_sources, text_sources

LOADING = ("02_load_4bit", "03_qlora_finetune", "04_eval")  # steps that load models


def outlook(
    study: Study, names: list[str], again: set[str], command: str
) -> list[tuple[str, str, str]]:
    """Says what would happen to each step, in order.

    Returns:
        For each step its name, its state and the reason. The state is `finished`, `runs`, `returns`
        (an earlier result with this key comes back), `refuses` or `depends` (on an earlier step
        that runs or returns).
    """
    rows = []
    changing: list[str] = []
    for name in names:
        makers = [steps.maker(path) for path in steps.STEPS[name]]
        before = [maker for maker in makers if maker in changing]
        state, why = _outlook_of(study, name, before, name in again, command)
        rows.append((name, state, why))
        if state not in ("finished", "depends"):
            changing.append(name)
    return rows


def _outlook_of(
    study: Study, name: str, before: list[str], again: bool, command: str
) -> tuple[str, str]:
    """The state of a step, and the reason; `before` are steps whose new results it would read."""
    finished, why = steps.status(name, study)
    verdict = replaced.judge(name, study, set(before), command)
    if again:
        return "runs", "--fresh"
    if verdict.what == "refuses":
        return "refuses", verdict.why
    if verdict.what == "comes back" and verdict.place:
        place = verdict.place.relative_to(steps.outputs() / study.study)
        return "returns", f"from {place}"
    if not finished:
        return "runs", why
    if before:
        return "depends", f"runs if {before[0]} changes what it reads"
    return "finished", why.removeprefix("finished")


def to_run_first(study: Study) -> list[tuple[Path, ...]]:
    """The files of each study in `figures_studies` that has no predictions yet.

    A study that no file or overlay in params/ declares has to be run by the user.
    """
    missing = [
        name for name in study.figures_studies if not mark(steps.outputs() / name, EVALUATION)
    ]
    return [files for files in map(variants.files_of, missing) if files]


def finished_others(study: Study) -> list[str]:
    """The studies in `figures_studies` that have predictions: what they made may be taken over."""
    return [name for name in study.figures_studies if mark(steps.outputs() / name, EVALUATION)]


def require(study: Study, running: list[str]) -> None:
    """Raises StudyError if one of the steps is known to fail, however long it would take."""
    require_data(study, running)
    require_own(study, running)
    require_scoring(study, running)
    require_others(study, running)
    require_chat_template(study)
    require_by_hand(study, running)


def require_data(study: Study, running: list[str]) -> None:
    """Raises StudyError if a step needs a data folder that does not exist.

    Without this check the run would fail only after an hour of pretraining.
    """
    if study.data_root in ("world", "hub") or (ROOT / study.data_root).is_dir():
        return
    reading = [name for name in running if "data_root" in declared(steps.notebook(name))]
    if reading:
        raise StudyError(
            f"data_root {study.data_root} is not a folder, and {reading[0]} reads from it: give "
            "the folder of sources and benchmarks (make reproduce DATA=... or -p data_root ...)"
        )


def require_own(study: Study, running: list[str]) -> None:
    """Reads the user's own exams, and each own file of rows up to the first that can be used.

    Raises:
        StudyError: a file is missing, no row of it is of use where it is named, or the answers of
            an exam can be read in several ways.
    """
    if not {"00_base", "01_data"} & set(running) or not own_files(study):
        return
    from sm70lib import benchmarks, sources
    from sm70lib.asking import runs
    from sm70lib.corpus.templates import unfit

    kinds = {
        "train": study.data_sources,
        "text": text_sources(study),
        "preferences": preference_sources(study),
    }
    for name in own_files(study):
        sources.own_file(name)
    for kind, names in kinds.items():
        for name in filter(own.is_file, names):
            next(sources.read(name, ROOT, [], unfit=partial(unfit, kind, study.data_template)))
    for name in filter(own.is_file, study.eval_benchmarks):
        items = benchmarks.read(name, ROOT, defects=[])
        runs.require_shots(study, own.title(name), len(items))


def require_scoring(study: Study, running: list[str]) -> None:
    """Raises StudyError if 04 could not ask or read everything; says which judges are to come."""
    if EVALUATION not in running:
        return
    from sm70lib.asking import runs, servers
    from sm70lib.judging import required

    runs.require_asked(study)
    servers.require_keys(study, running)
    for said in required.before(study, running):
        print(said, flush=True)


def require_others(study: Study, running: list[str]) -> None:
    """Raises StudyError if a study of `figures_studies` has no predictions and cannot be run."""
    coming = [files[-1].stem for files in to_run_first(study)]
    lacking = set(study.figures_studies).difference(finished_others(study), coming)
    if lacking and "06_figures" in running:
        raise StudyError(
            f"figures_studies: no file in params/ declares {', '.join(sorted(lacking))}, and there "
            f"are no predictions of it in {steps.outputs()}; run it first, or take it out"
        )


def require_chat_template(study: Study) -> None:
    """Raises StudyError if the base is known to lack the chat template that the study asks for.

    Whether the template can be trained in is found out by 00_base, which has the tokenizer.
    """
    if study.data_template != "chat" or not study.base_model:
        return
    from sm70lib.sizes import known

    folder = ROOT / study.base_model
    if folder.is_dir():
        config = folder / "tokenizer_config.json"
        written = config.read_text(encoding="utf-8") if config.is_file() else ""
        lacks = not any(folder.glob("chat_template*")) and '"chat_template"' not in written
    else:
        about = known.MODELS.get(study.base_model)
        lacks = about is not None and about.chat_template is None
    if lacks:
        raise StudyError(
            f"data_template is chat, but base_model {study.base_model} has no chat template; "
            "choose a base that was tuned to chat, or the template medalpaca or sm70"
        )


def require_by_hand(study: Study, running: list[str]) -> None:
    """Raises StudyError if the user has to download files that the hub does not have."""
    if study.data_root != "hub":
        return
    if "00_base" in running or "01_data" in running:
        from sm70lib.planning import byhand

        byhand.require(study, running)


def forewarn(study: Study, running: list[str], files: list[str], overrides: dict[str, str]) -> None:
    """Prints what does not fit into the memory here, and which models need access to be requested.

    The plan runs in a process of its own. This process runs for days, and would keep PyTorch in
    memory all that time; it goes on where none can be made. A base that is trained here is left
    out, because its size was chosen for this machine.

    Args:
        study: The study.
        running: The steps that will run.
        files: The study's files, as given.
        overrides: YAML texts by parameter, as given.

    Raises:
        StudyError: The plan refuses the study.
    """
    if not study.base_model and not study.eval_models:
        return
    if not {"00_base", *LOADING} & set(running):
        return
    pairs = [word for pair in overrides.items() for word in ("-p", *pair)]
    before = [word for name in running for word in ("--before", name)]
    command = [sys.executable, "-m", "sm70lib", "plan", *map(str, files), *pairs, *before]
    done = subprocess.run(command, capture_output=True, text=True)
    errors = done.stderr.strip().splitlines()
    last = errors[-1].removeprefix("error: ") if errors else ""
    if done.returncode == 2:
        raise StudyError(last)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        why = last or f"exit code {done.returncode}"
        print(f"the plan could not be made ({why}); the run goes on without it", flush=True)


def set_environment(*studies: Study) -> None:
    """Sets the environment of the kernels.

    The hub is switched off unless a study needs it, and so is all that varies between runs.
    """
    os.environ.pop(live.IN_LAB, None)  # the runner shows progress, whoever started it
    os.environ.update(
        HF_HUB_DISABLE_TELEMETRY="1",
        PYTHONHASHSEED="0",
        PYDEVD_DISABLE_FILE_VALIDATION="1",
    )
    if not any(_needs_hub(study) for study in studies):
        os.environ["HF_HUB_OFFLINE"] = "1"
    # The process keeps freed tensors below 32 MB, instead of returning their memory. This leaves a
    # twelfth of the page faults, and takes a tenth less time on a CPU.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))


def _needs_hub(study: Study) -> bool:
    if study.data_root == "hub":
        return True
    return not all((ROOT / weights.place(model)).is_dir() for model, _ in downloads(study))
