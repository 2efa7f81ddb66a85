"""The keys of servers: a line names the environment variable that holds one; no text shows it."""

from __future__ import annotations

import os

from sm70lib.study.others import Server
from sm70lib.study.params import StudyError

REHEARSAL = "SM70_SERVED"  # the server that stands in for all others in a rehearsal


def require(server: Server, where: str) -> None:
    """Checks that the variable which a line names for its key is set; a rehearsal needs none.

    A kernel has the environment that its run began with, so one that is set later comes too late.

    Args:
        server: the server.
        where: Parameter and name of the line; an error begins with them.

    Raises:
        StudyError: it is not set, or is empty.
    """
    if not server.keyed or os.environ.get(server.key) or os.environ.get(REHEARSAL):
        return
    # Who writes a key in place of a name shall not find it in a log; names are in capitals mostly.
    named = f"key={server.key}" if server.key.isupper() else "key="
    raise StudyError(
        f"{where}: {named} names an environment variable that is not set here; set it before the "
        "run starts, or take key= out if the server needs none"
    )
