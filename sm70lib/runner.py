"""The runner: executes a study's notebooks in order, skips finished ones and explains errors."""

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sm70lib import preflight
from sm70lib.display import Display, command_line, explained, listed
from sm70lib.live import clock
from sm70lib.parameters.fields import Study
from sm70lib.parameters.rules import REHEARSAL
from sm70lib.records import children, locks
from sm70lib.steps import replaced, reuse, steps
from sm70lib.steps.keys import EVALUATION
from sm70lib.study.files import make_public
from sm70lib.study.params import ROOT, StudyError, load, parsed, rehearsal
from sm70lib.study.provenance import declared
from sm70lib.study.used import values_of
from sm70lib.untrusted.escaping import visible

# jsonschema would compile this grammar for 2 s, to check addresses that no notebook has.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def run(
    files: list[str],
    overrides: dict[str, str],
    fresh: Sequence[str] = (),
    list_only: bool = False,
    command: str = "",
    lenders: Sequence[str] = (),
    until: str | None = None,
) -> int:
    """Runs the unfinished steps of a study.

    Args:
        files: The study's file, then overlays.
        overrides: YAML texts by parameter.
        fresh: Steps to make again; the beginning of a name is enough.
        list_only: Whether to print only what would run.
        command: The command that resumes this run, if it is not `run`. A rehearsal gives its own;
            without one, the names of rehearsals are refused.
        lenders: Studies whose finished steps and stages are taken over, if this study would make
            them in the same way. So are those of the studies beside it (`figures_studies`).
        until: The last step to run; the beginning of its name is enough.

    Returns:
        0 if all steps are finished, 1 if a notebook failed.

    Raises:
        StudyError: A parameter is wrong, or a base or an adapter would have to be moved. This is
            raised before any step starts if it can be known, else when that step's turn comes.
    """
    began = time.monotonic()
    study = load(*files, overrides=parsed(overrides))
    _require_allowed_name(study, command)
    names = _steps(until)
    again = {_step(beginning, names) for beginning in fresh}
    whole = not command and names[-1] == list(steps.STEPS)[-1]  # to the last table, for a user
    command = command or command_line("run", files, overrides)
    _take_over(study, lenders, names, list_only)
    plan = preflight.outlook(study, names, again, command)
    if list_only:
        print(listed(plan, steps.outputs() / study.study))
        return 0
    _prepare(study, plan, files, overrides)
    if whole:
        if not _finish_others(study, overrides, lenders):
            return 1
        lenders = [*lenders, *preflight.finished_others(study)]
        preflight.set_environment(study)  # each of the others set its own
    if not _finish_all(study, names, again, command, lenders):
        return 1
    if whole:
        from sm70lib import ending  # takes a second, and most commands do not need it

        print(ending.last_words(steps.outputs() / study.study, time.monotonic() - began))
    return 0


def _finish_others(study: Study, overrides: dict[str, str], lenders: Sequence[str]) -> bool:
    """Runs the studies that 06 draws beside this one as far as 04; False if one failed.

    Each takes over from `lenders` and from those that were finished before it.
    """
    root = {name: text for name, text in overrides.items() if name == "data_root"}
    others = preflight.to_run_first(study)
    for other in others:  # a fault of the last one is told before the first one runs
        preflight.require(load(*other, overrides=parsed(root)), _steps(EVALUATION))
    for other in others:
        print(f"{other[-1].stem} is run first: it stands beside {study.study}", flush=True)
        before = [*lenders, *preflight.finished_others(study)]
        if run([str(file) for file in other], root, lenders=before, until=EVALUATION):
            return False
    return True


def _require_allowed_name(study: Study, command: str) -> None:
    """Raises StudyError if a study that is not a rehearsal has the name of one."""
    if rehearsal(study.study) and not command:
        raise StudyError(
            f"study {study.study}: names that begin with {REHEARSAL} are kept for rehearsals; "
            "choose another, or use the command rehearse"
        )


def _take_over(study: Study, lenders: Sequence[str], names: list[str], list_only: bool) -> None:
    if lenders and list_only:
        raise StudyError("--list takes nothing over: give --from without it, or --list alone")
    reuse.require(study.study, lenders)
    if lenders:
        with _alone(steps.outputs() / study.study):
            reuse.take_over(study, lenders, names)


def _steps(until: str | None) -> list[str]:
    """The steps that have a notebook, up to `until`."""
    names = [name for name in steps.STEPS if steps.notebook(name).exists()]
    if not names:
        raise StudyError(f"there are no notebooks in {steps.notebook('00_base').parent}")
    if until:
        return names[: names.index(_step(until, names, "--until")) + 1]
    return names


def _step(beginning: str, names: list[str], option: str = "--fresh") -> str:
    """The one step whose name begins so; raises StudyError if there is not exactly one."""
    matching = [name for name in names if name.startswith(beginning)]
    if len(matching) != 1:
        raise StudyError(f"{option} {beginning}: give one step of {', '.join(names)}")
    return matching[0]


def _prepare(
    study: Study, plan: list[tuple[str, str, str]], files: list[str], overrides: dict[str, str]
) -> None:
    """Raises StudyError, or warns, if the steps cannot run; sets the environment."""
    refusals = [why for _, state, why in plan if state == "refuses"]
    if refusals:
        raise StudyError(refusals[0])
    running = [name for name, state, _ in plan if state == "runs"]
    preflight.require(study, running)
    preflight.set_environment(study)
    if not rehearsal(study.study):  # a rehearsal's models are small, whatever their names
        preflight.forewarn(study, running, files, overrides)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Locks a study against other runs and notebooks; the lock ends with this process."""
    steps.require_writable(folder)
    with locks.run(folder):
        yield


def _finish_all(
    study: Study, names: list[str], again: set[str], command: str, lenders: Sequence[str]
) -> bool:
    """Runs the steps in order; False, and no further step, if a notebook failed."""
    folder = steps.outputs() / study.study
    os.environ[replaced.COMMAND] = f"{study.study} {command}"
    with _alone(folder):
        for name in names:
            if name not in again:
                reuse.take_over_in_turn(study, lenders, name)
            if not _finish(name, study, folder, name in again, command):
                return False
    return True


def _finish(name: str, study: Study, folder: Path, again: bool, command: str) -> bool:
    """Runs a step if necessary, and prints the result; False if its notebook failed."""
    if again:
        replaced.make_anew(name, study)
    else:
        replaced.make_way(name, study, command)
    finished, why = steps.status(name, study)
    if finished:
        print(f"{name}: {why}", flush=True)
        return True
    print(f"{name}: runs ({'--fresh' if again else why})", flush=True)
    display = Display(name, folder)
    start = time.monotonic()
    trouble = visible(execute(name, study, folder, display))
    finished, why = steps.status(name, study)
    if finished and not trouble:
        print(f"{name}: finished in {clock(time.monotonic() - start)}", flush=True)
        return True
    if not trouble:
        trouble = (
            f"the notebook ended without step.finish(), or what it wrote changed since ({why})"
        )
    print(explained(name, display.cell, trouble, _output(name, folder), command), file=sys.stderr)
    return False


def _output(name: str, folder: Path) -> Path:
    return folder / "notebooks" / f"{name}.ipynb"


def execute(name: str, study: Study, folder: Path, display: Display | None = None) -> str:
    """Runs a notebook with those parameters that it declares and that count in the study.

    Args:
        name: The step.
        study: The study.
        folder: outputs/<study>; the executed notebook is written below it.
        display: The line to show; by default a new one.

    Returns:
        The last line of the notebook's error; "" if there was none.
    """
    display = display or Display(name, folder)
    # These take 2 s, and a finished study does not need them.
    import papermill

    from sm70lib import kernels

    values = values_of(study, declared(steps.notebook(name)))
    _output(name, folder).parent.mkdir(parents=True, exist_ok=True)
    try:
        with display:
            papermill.execute_notebook(
                steps.notebook(name),
                _output(name, folder),
                values,
                cwd=ROOT,
                progress_bar=False,
                on_cell_execute=display.on_cell,
                extra_arguments=["--log-level=CRITICAL"],
                kernel_name=kernels.NAME,
                kernel_manager_class=kernels.Here,
            )
    except papermill.PapermillExecutionError as error:
        lines = error.evalue.strip().splitlines()
        return f"{error.ename}: {lines[-1] if lines else ''}"
    except KeyboardInterrupt:
        # The client goes on waiting for the cell, and would tell of its end by a traceback.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        children.end_all()
        return children.STOPPED
    except Exception as error:  # a kernel can end in many ways, and all are reported alike
        return f"{type(error).__name__}: {error}"
    finally:
        make_public(_output(name, folder))
    return ""
