"""A limit of time for patterns and templates that others wrote, which may never end."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 5.0  # of this process's time: a conversation takes a thousandth of one
OF_A_PATTERN = 0.2
OVER = "it did not end in time"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stops what runs inside after some seconds.

    Python's patterns and jinja's templates look for signals while they run. Signals reach the main
    thread alone; in another thread there is no limit.

    Args:
        seconds: the limit, in seconds of processor time, so that a busy machine stops nothing.

    Raises:
        TimeoutError: the time is over.
    """
    alone = threading.current_thread() is threading.main_thread()
    if not alone or not hasattr(signal, "setitimer"):
        yield
        return
    stopped = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(True)
        raise TimeoutError(OVER)

    before = signal.signal(signal.SIGPROF, stop)
    left, _ = signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    except Exception:
        if stopped:  # jinja may turn the error into another one
            raise TimeoutError(OVER) from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, left)
        signal.signal(signal.SIGPROF, before)


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern that a user gave fits a whole text.

    Raises:
        ValueError: it is not a pattern, or one that takes for ever, such as (a+)+b.
    """
    try:
        with time_limit(OF_A_PATTERN):
            return re.fullmatch(pattern, text) is not None
    except TimeoutError:
        raise ValueError(
            f"on {text} it takes more than {OF_A_PATTERN} seconds; take out repeats inside of "
            "repeats, such as (a+)+"
        ) from None
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"this is not a regular expression: {error}") from None
