"""The runner: executes a study's notebooks in order, skips finished ones, and says what went wrong."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sm70lib.display import Display, clock
from sm70lib.study import kept, lent, steps
from sm70lib.study.fields import Study
from sm70lib.study.params import REHEARSAL, ROOT, StudyError, load, parsed, rehearsal
from sm70lib.study.provenance import declared

LOADING = ("02_load_4bit", "03_qlora_finetune", "04_eval")  # steps that load models
MEANINGS = {  # a mark in an error's last line, and what the error means
    "DeadKernelError": "the kernel died, probably for lack of memory; python -m sm70lib plan says "
    "what each step needs, and 04 needs less with a lower eval_batch_tokens",
    "MemoryError": "memory ran out; python -m sm70lib plan says what each step needs, and 04 needs "
    "less with a lower eval_batch_tokens",
    "No space left": "the disk is full",
    "StudyError": "something given is not as it must be; the sentence above says what to do",
    "stopped by hand": "nothing that was finished is lost",
}


def run(
    files: list[str],
    overrides: dict[str, str],
    fresh: list[str] = (),
    list_only: bool = False,
    command: str = "",
    lender: str | None = None,
    until: str | None = None,
) -> int:
    """Runs the unfinished steps of a study; 0 when all are finished, 1 when a notebook failed.

    overrides: YAML texts by parameter. fresh: steps, or beginnings of their names, to be made again. command:
    what goes on with this run where that is not `run`; a rehearsal has its own, and only a rehearsal may have
    its name. lender: a study from which finished steps are taken over first, where this one would make the same.
    until: the last step to run, or the beginning of its name.
    Raises StudyError for wrong parameters, and where a base or an adapter would have to give way: before
    anything is started if it can be known, else when it is that step's turn.
    """
    study = load(*files, overrides=parsed(overrides))
    if rehearsal(study.study) and not command:
        raise StudyError(
            f"study {study.study}: names that begin with {REHEARSAL} are kept for rehearsals; choose "
            "another, or use the command rehearse"
        )
    names = [name for name in steps.STEPS if steps.notebook(name).exists()]
    if not names:
        raise StudyError(f"there are no notebooks in {steps.notebook('00_base').parent}")
    if until:
        names = names[: names.index(_step(until, names, "--until")) + 1]
    again = {_step(beginning, names) for beginning in fresh}
    if list_only and lender:
        raise StudyError("--list takes nothing over: give --from without it, or --list alone")
    folder = steps.outputs() / study.study
    command = command or command_line("run", files, overrides)
    if lender:
        lent.require(study.study, lender)
        with _alone(folder):
            lent.take_over(study, lender, names)
    plan = _plan(study, names, again, command)
    if list_only:
        print("\n".join(f"{name:<18}  {state:<8}  {why}".rstrip() for name, state, why in plan))
        return 0
    if refused := [why for _, state, why in plan if state == "refuses"]:
        raise StudyError(refused[0])
    running = [name for name, state, _ in plan if state == "runs"]
    _require_data(study, running)
    _require_by_hand(study, running)
    _set_environment(study)
    if not rehearsal(study.study):  # whose models are small, whatever their names say
        _forewarn(study, running, files, overrides)
    with _alone(folder):
        return (
            0 if all(_finish(name, study, folder, name in again, command) for name in names) else 1
        )


def _step(beginning: str, names: list[str], option: str = "--fresh") -> str:
    found = [name for name in names if name.startswith(beginning)]
    if len(found) != 1:
        raise StudyError(f"{option} {beginning}: give one step of {', '.join(names)}")
    return found[0]


def _plan(
    study: Study, names: list[str], again: set[str], command: str
) -> list[tuple[str, str, str]]:
    """Per step what would happen, and why.

    finished; runs; returns (an earlier result does, as its key has); refuses; or depends (on a step
    before it that runs or returns).
    """
    rows, running = [], []
    for name in names:
        finished, why = steps.status(name, study)
        before = [maker for maker in map(steps.maker, steps.STEPS[name]) if maker in running]
        verdict = kept.judge(name, study, {*before}, command)
        if name in again:
            rows.append((name, "runs", "--fresh"))
        elif verdict.what == "refuses":
            rows.append((name, "refuses", verdict.why))
        elif verdict.what == "comes back":
            place = verdict.place.relative_to(steps.outputs() / study.study)
            rows.append((name, "returns", f"from {place}"))
        elif not finished:
            rows.append((name, "runs", why))
        else:
            why = (
                f"runs if {before[0]} changes what it reads"
                if before
                else why.removeprefix("finished")
            )
            rows.append((name, "depends" if before else "finished", why))
        running += [name] if rows[-1][1] not in ("finished", "depends") else []
    return rows


def _require_data(study: Study, names: list[str]) -> None:
    """Fails now, and not after an hour of pretraining, where the data are not there."""
    reading = [name for name in names if "data_root" in declared(steps.notebook(name))]
    if (
        reading
        and study.data_root not in ("world", "hub")
        and not (ROOT / study.data_root).is_dir()
    ):
        raise StudyError(
            f"data_root {study.data_root} is no folder, and {reading[0]} reads from it: give "
            "the folder of sources and benchmarks (make reproduce DATA=... or -p data_root ...)"
        )


def _require_by_hand(study: Study, running: list[str]) -> None:
    """Fails now where something that the hub does not have has to be put in place first."""
    if study.data_root == "hub" and {"00_base", "01_data"} & {*running}:
        from sm70lib.planning import byhand

        byhand.require(study, running)


def _forewarn(
    study: Study, running: list[str], files: list[str], overrides: dict[str, str]
) -> None:
    """Says what will not fit here, and whose owners have to be asked.

    In a process of its own, as this one goes on for days and would hold PyTorch all that time. A
    base that is trained here is left out: it was given its size for this machine. Raises
    StudyError as the plan does.
    """
    if not (study.base_model or study.eval_models) or not {"00_base", *LOADING} & {*running}:
        return
    pairs = [word for pair in overrides.items() for word in ("-p", *pair)]
    before = [word for name in running for word in ("--before", name)]
    command = [sys.executable, "-m", "sm70lib", "plan", *map(str, files), *pairs, *before]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1:] or [""]
    if done.returncode == 2:
        raise StudyError(last[0].removeprefix("error: "))
    print(done.stdout or last[0], end="" if done.stdout or not last[0] else "\n", flush=True)


def command_line(verb: str, files: list[str], overrides: dict[str, str]) -> str:
    """The command that does this again, to be shown."""
    python = os.path.relpath(sys.executable) if sys.executable.startswith(os.getcwd()) else "python"
    pairs = [word for pair in overrides.items() for word in ("-p", *pair)]
    return shlex.join([python, "-m", "sm70lib", verb, *map(str, files), *pairs])


def _set_environment(study: Study) -> None:
    """What kernels inherit: no hub unless the study asks for it, nothing that differs from run to run."""
    models = [line.split()[0] for line in study.eval_models.values()] + [study.base_model or "."]
    needs_hub = study.data_root == "hub" or not all((ROOT / model).is_dir() for model in models)
    os.environ.update(
        HF_HUB_DISABLE_TELEMETRY="1",
        PYTHONHASHSEED="0",
        PYDEVD_DISABLE_FILE_VALIDATION="1",
        **({} if needs_hub else {"HF_HUB_OFFLINE": "1"}),
    )
    # Tensors below 32 MB stay with the process when they are freed: a twelfth of the page faults, a tenth of the time
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second run away from a study; the lock goes with this process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / "lock").acquire(timeout=0)
    except Timeout:
        raise StudyError(
            f"study {folder.name} is being run already: wait for it, or end it"
        ) from None
    with held:
        yield


def _finish(name: str, study: Study, folder: Path, again: bool, command: str) -> bool:
    """Brings one step to its end, and says so; False if its notebook failed."""
    if again:
        kept.make_anew(name, study)
    else:
        kept.make_way(name, study, command)
    finished, why = steps.status(name, study)
    if finished:
        print(f"{name}: {why}", flush=True)
        return True
    print(f"{name}: runs ({'--fresh' if again else why})", flush=True)
    display, start = Display(name, folder), time.monotonic()
    trouble = execute(name, study, folder, display)
    finished, why = steps.status(name, study)
    if finished and not trouble:
        print(f"{name}: finished in {clock(time.monotonic() - start)}", flush=True)
        return True
    trouble = (
        trouble
        or f"the notebook ended without step.finish(), or what it wrote changed since ({why})"
    )
    meaning = next(
        (text for mark, text in MEANINGS.items() if mark in trouble), "an error in that cell"
    )
    print(
        f"\n{name} failed in cell {display.cell}\n  {trouble}\n  meaning:  {meaning}\n"
        f"  notebook: {_output(name, folder)}\n  go on by: {command}",
        file=sys.stderr,
    )
    return False


def _output(name: str, folder: Path) -> Path:
    return folder / "notebooks" / f"{name}.ipynb"


def execute(name: str, study: Study, folder: Path, display: "Display | None" = None) -> str:
    """Runs a notebook with the parameters it declares; the last line of its error, or nothing."""
    display = display or Display(name, folder)
    import papermill  # takes 2 s, and a finished study needs none of it

    values = {n: getattr(study, n) for n in declared(steps.notebook(name))}
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
            )
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue.strip().splitlines()[-1] if error.evalue.strip() else ''}"
    except KeyboardInterrupt:
        return "stopped by hand"
    except Exception as error:  # a kernel can end in many ways, and all are told alike
        return f"{type(error).__name__}: {error}"
    return ""
