"""The user's own files, which a study names by their paths where it could name a catalogue's line.

A path is relative to the repository root, or absolute. Tables call the file by its stem.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENDINGS = (".json", ".jsonl", ".csv", ".parquet")


def is_file(name: object) -> bool:
    """Whether a name in a study file is the path of a file: it has a slash or a known ending."""
    return isinstance(name, str) and ("/" in name or name.lower().endswith(ENDINGS))


def place(name: str) -> Path:
    """Where the file of that path is."""
    return ROOT / Path(name).expanduser()


def title(name: str) -> str:
    """What tables, figures and folders call it: the stem of a path, else the name itself."""
    return Path(name).stem if is_file(name) else name


def titles(names: Sequence[str]) -> list[str]:
    """The titles of several names, in their order."""
    return [title(name) for name in names]


def checked(name: str, taken: Collection[str]) -> str:
    """The path, if its file can be read and called by its stem.

    Args:
        name: the path.
        taken: the names of the catalogue, which no file may have.

    Raises:
        ValueError: the ending is none that is read, or the stem cannot be a name or is taken.
    """
    if not name.lower().endswith(ENDINGS):
        raise ValueError(f"a file of your own must end in {', '.join(ENDINGS)}")
    stem = title(name)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", stem):
        raise ValueError(
            f"tables call a file by its stem, and {stem!r} has other characters than letters, "
            "digits, . _ and -; rename the file"
        )
    if stem in taken:
        raise ValueError(f"{stem} is a name of the catalogue already; rename the file")
    return name
