"""Processes of a trial: forked from this one, which has imported everything, or started anew."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sm70lib.study.params import ROOT, StudyError

PATIENCE = 900  # seconds, after which a process counts as one without an end
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code; negative for a signal, None if it had no end.
        said: What it printed, errors among it.
        seconds: What it and its children took of the processor.
        lasted: Seconds from its start to its end.
    """

    code: int | None
    said: str
    seconds: float
    lasted: float = 0.0


class Process:
    """A process in a session of its own, whose words go to a file."""

    def __init__(self, log: Path):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        self.log, self.began, self.used = log, time.monotonic(), _used()

    pid: int

    def alive(self) -> bool:
        """Whether it still runs."""
        raise NotImplementedError

    def _wait(self, seconds: float) -> int | None:
        raise NotImplementedError

    def kill(self, number: int = signal.SIGKILL, group: bool = True) -> None:
        """Sends a signal to it, or to all that it has started too."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self, patience: float = PATIENCE) -> Ended:
        """Waits for its end; what has none is killed."""
        code = self._wait(patience)
        below = _below(self.pid)
        self.kill()
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._wait(30)
        said = self.log.read_text(errors="replace") if self.log.exists() else ""
        return Ended(code, said, _used() - self.used, time.monotonic() - self.began)


class Forked(Process):
    """A function that runs in a fork of this process.

    Args:
        call: The function; what it returns is the exit code, and None is 0.
        *given: Its arguments.
        log: Where its words go.
        environment: Variables that it has besides.
    """

    def __init__(
        self, call: Callable, *given: Any, log: Path, environment: dict[str, str] | None = None
    ):
        super().__init__(log)
        self.process = _FORK.Process(target=_run, args=(call, given, log, environment or {}))
        self.process.start()
        self.pid = self.process.pid or 0

    def alive(self) -> bool:
        return self.process.is_alive()

    def _wait(self, seconds: float) -> int | None:
        self.process.join(seconds)
        return self.process.exitcode


class Started(Process):
    """A command line, as a user gives it.

    Args:
        *words: The words of the command; `python` means this one.
        log: Where its words go.
        environment: Variables that it has besides; one that is None is taken away.
        folder: Where it runs.
        limits: Limits of resources, such as {resource.RLIMIT_AS: 2**30}.
    """

    def __init__(
        self,
        *words: str,
        log: Path,
        environment: dict[str, str | None] | None = None,
        folder: Path = ROOT,
        limits: dict[int, int] | None = None,
    ):
        super().__init__(log)
        given = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        given |= environment or {}

        def limited() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # one in the background ignores it
            for what, most in (limits or {}).items():
                resource.setrlimit(what, (most, resource.getrlimit(what)[1]))

        command = [sys.executable if word == "python" else word for word in words]
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={name: value for name, value in given.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=limited,
            )
        self.pid = self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def _wait(self, seconds: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode


def killed_at_random(
    start: Callable[[], Process],
    lasts: float,
    draw: random.Random,
    kill: Callable[[Process], None] = Process.kill,
) -> Ended:
    """Starts a process and kills it at a random moment; earlier, if it was over by then.

    Args:
        start: Starts it, from the same beginning each time.
        lasts: How long it takes undisturbed (seconds).
        draw: When.
        kill: How it is killed.
    """
    most = lasts
    while True:
        process = start()
        until = time.monotonic() + draw.uniform(0, most)
        while process.alive() and time.monotonic() < until:
            time.sleep(0.002)
        if process.alive():
            kill(process)
            return process.end()
        ended = process.end()
        if ended.code != 0 or most < 0.05:
            return ended
        most = ended.lasted * 0.7


def _run(call: Callable, given: tuple, log: Path, environment: dict[str, str]) -> None:
    os.setsid()
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
    os.environ.update(environment)
    os._exit(_code(call, given))


def _code(call: Callable, given: tuple) -> int:
    """The exit code of a function, which fails as `python -m sm70lib` does."""
    try:
        found = call(*given)
        return found if isinstance(found, int) else 0
    except (StudyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    except BaseException:
        traceback.print_exc()
        return 70


def _used() -> float:
    """Seconds of the processor that ended children took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _below(pid: int) -> list[psutil.Process]:
    """All that a process has started, in whatever session."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
