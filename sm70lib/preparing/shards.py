"""Running text in shards: a file of a source is prepared by itself, by one of several processes.

A shard is a part (`corpus.parts`), audited as if no other text had been read. When shards are
joined, `repeats` drops what stands in an earlier one, so that the result does not depend on how
many processes there are. A process takes the next shard that is neither finished nor locked. A lock
is that of a file and ends with its process: a kill costs the shards under way and no more, and
machines that share the folder can work on one study together.
"""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from filelock import FileLock, Timeout

from sm70lib import sources
from sm70lib.corpus import parts
from sm70lib.corpus.findings import Findings
from sm70lib.corpus.parts import Maker, Part
from sm70lib.corpus.selection import limit
from sm70lib.preparing import near, repeats
from sm70lib.study.params import StudyError
from sm70lib.study.used import values_of

KIND = "text"
POLICIES = ("duplicate", "personal", "label", "leak")
# Parameters that decide how running text is audited and encoded
READ = (
    *("seed", "data_limit", "data_caps", "data_template", "data_max_length", "data_overlong"),
    *("train_stages", "sft_loss", "cpt_near_duplicates"),
    *(f"audit_{check}" for check in POLICIES),
)
LEAST = 2**26  # bytes of text for which one more process is worth its start
PROCESSES = "SM70_PROCESSES"  # names the variable that says how many processes to start


def policies(p) -> dict[str, str]:
    """What a study does with the findings of each check."""
    return {check: getattr(p, f"audit_{check}") for check in POLICIES}


def prepare(p, maker: Maker, names: list[str], folder: Path) -> dict[str, Findings]:
    """Writes the dataset `text` of a study: all shards, joined without repeated texts.

    Args:
        p: the parameters of the study.
        maker: what shards are made with.
        names: the sources of running text.
        folder: where the dataset and its parts go.

    Returns:
        The findings in each source, by the name that the audit has for it.

    Raises:
        StudyError: an audit policy is fail and a text has such a finding; a source cannot be read
            or has no usable text; or a process was killed.
    """
    if not names:
        return {}
    shards = list(shards_of(p, names, maker.root, folder))
    _make_in_processes(p, maker, shards)
    for shard in shards:  # what other machines are making is waited for here
        _make(p, shard, maker, wait=True)
    return repeats.join(p, maker, shards, folder / KIND)


def shards_of(p, names: list[str], root: Path, folder: Path) -> Iterator[Part]:
    """The shards of sources: one for each file, or one for a source of which rows are drawn."""
    for name in names:
        whole = parts.folder_of(folder, KIND, name)
        files = sources.files(name, root)
        if len(files) == 1 or limit(p, name) is not None:
            yield Part(KIND, name, whole)
            continue
        for number, file in enumerate(files):
            yield Part(KIND, name, whole / f"{number:05}", file)


def _make(p, shard: Part, maker: Maker, wait: bool) -> bool:
    """Makes a shard unless it is finished; False if another process has it and `wait` is False."""
    shard.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{shard.folder}.lock", timeout=-1 if wait else 0):
            if not parts.finished(shard, maker.root, maker.questions):
                maker.checks.seen.clear()
                note = None if p.cpt_near_duplicates == "none" else near.write_signatures
                parts.write(p, shard, maker, note)
    except Timeout:
        return False
    return True


def _make_in_processes(p, maker: Maker, shards: list[Part]) -> None:
    """Makes the unfinished shards in several processes, if there is enough to do for them."""
    waiting = [shard for shard in shards if not parts.finished(shard, maker.root, maker.questions)]
    sizes = [_bytes(shard, maker.root) for shard in waiting]
    count = _processes(len(waiting), sum(sizes))
    if not count:
        return
    read = SimpleNamespace(**values_of(p, READ))
    alone = replace(maker, bar=_Still(), ahead=False)
    spawn = get_context("spawn")
    # The index of the benchmarks goes along: to send it takes a fifth of the time to build it. A
    # queue sends it: as an argument it would keep the next process from starting meanwhile.
    given = spawn.Queue()
    given.cancel_join_thread()  # a process that was killed takes nothing out of it
    for _ in range(count):
        given.put((read, alone))
    try:
        with ProcessPoolExecutor(count, spawn, _start, (given,)) as pool:
            for size, _ in zip(sizes, pool.map(_make_here, waiting)):
                maker.bar.update(size)
    except BrokenProcessPool:
        raise StudyError(
            f"one of {count} processes that prepare running text was killed, perhaps for its "
            f"memory: run the same command again, with {PROCESSES}={count // 2} in front of it"
        ) from None


def _bytes(shard: Part, root: Path) -> int:
    return sum(path.stat().st_size for path in shard.files(root).values())


def _processes(shards: int, size: int) -> int:
    """How many processes of one core to start for so many shards and bytes.

    By default none instead of one: this process prepares as fast, and a thread helps it.

    Raises:
        StudyError: SM70_PROCESSES is not a number.
    """
    if given := os.environ.get(PROCESSES):
        if not given.isdecimal():
            raise StudyError(f"{PROCESSES}={given}: give a number of processes, such as 8, or 0")
        return min(int(given), shards)
    count = min(os.cpu_count() or 1, shards, size // LEAST)
    return count if count > 1 else 0


_here: dict[str, Any] = {}  # parameters and Maker of a process that `_start` began


class _Still:
    """A progress bar that shows nothing."""

    def update(self, _: int) -> None:
        pass


def _start(given: Queue) -> None:
    """Begins a process that makes shards. It uses one core: there are as many as cores.

    Args:
        given: has parameters and a Maker for every process.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    p, maker = given.get()
    _here.update(p=p, maker=maker)


def _end_with(parent: int) -> None:
    """Ends this process once its parent was killed, which it would not notice by itself."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _make_here(shard: Part) -> bool:
    return _make(_here["p"], shard, _here["maker"], wait=False)
