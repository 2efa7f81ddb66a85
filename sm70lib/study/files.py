"""Write files atomically, and record their digests."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm70lib.study.params import ROOT
from sm70lib.untrusted import escaping

if TYPE_CHECKING:
    import pandas as pd  # slow to import

CONFIGURATION, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # of an adapter
PARTIAL = re.compile(r"\..+\.\d+")  # the name of a file that a process is writing


def write_text(path: Path, text: str) -> None:
    """Writes a text file completely or not at all; makes the folder if needed."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file completely or not at all; makes the folder if needed.

    Raises:
        OSError: It cannot be written, e.g. for want of space; the error names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def sweep(top: Path) -> None:
    """Removes what a killed process was writing: a file, or files below a folder, of one writer."""
    for path in (top, *top.rglob(".*")):
        if PARTIAL.fullmatch(path.name) and path.is_file():
            path.unlink()


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as CSV, completely or not at all; no spreadsheet computes its texts."""
    write_text(path, escaping.csv(table))


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def public(text: str) -> str:
    """A text without the folders of this machine: paths begin in the repository or with ~."""
    if elsewhere := os.environ.get("SM70_OUTPUTS"):
        text = text.replace(f"{Path(elsewhere).resolve()}/", "outputs/")
    text = text.replace(f"{ROOT}/", "")
    home = str(Path.home())
    return re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text) if len(home) > 1 else text


def make_public(path: Path) -> None:
    """Rewrites a text file as `public` has it; one that is not there stays away."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if public(text) != text:
        write_text(path, public(text))


def _is_adapter(path: Path) -> bool:
    return (path / CONFIGURATION).exists() and any(path.glob("*.safetensors"))


def _files(path: Path) -> list[Path]:
    """The files that belong to a digest, sorted."""
    if path.is_file():
        return [path]
    if _is_adapter(path):
        # Keys are compared by the weights alone, as they always were; `changed` watches the rest.
        return sorted(path.glob("*.safetensors"))
    card = _card(path)
    return [file for file in _all(path) if file != card]


def _all(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def _card(path: Path) -> Path | None:
    """The card of an adapter or a model, which tells its results: these come later."""
    is_model = _is_adapter(path) or (path / "config.json").exists()
    return path / "README.md" if is_model else None


def _watched(path: Path) -> dict[str, Path]:
    """The files of a folder that have to stay as they are, by name: all but a card."""
    card = _card(path)
    return {file.relative_to(path).as_posix(): file for file in _all(path) if file != card}


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the relative names and contents of a folder's files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return _joined({file.relative_to(path).as_posix(): digest(file) for file in _files(path)})


def _joined(digests: dict[str, str]) -> str:
    lines = [f"{name} {sha}\n" for name, sha in digests.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def configuration_digest(path: Path) -> str:
    """SHA-256 (hex) of what an adapter's configuration says.

    PEFT lists layers in random order, and the place of the base changes nothing.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return digest(path)
    if isinstance(about, dict):
        about.pop("base_model_name_or_path", None)
        about = {
            name: sorted(value, key=str) if isinstance(value, list) else value
            for name, value in about.items()
        }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _digest_of_file(file: Path) -> str:
    return configuration_digest(file) if file.name == CONFIGURATION else digest(file)


def _size(path: Path) -> dict[str, int]:
    stats = [file.stat() for file in _files(path)]
    return {
        "files": len(stats),
        "bytes": sum(stat.st_size for stat in stats),
        "mtime_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }


def record(path: Path, known: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Records a file or folder.

    Args:
        path: The file or folder.
        known: An earlier record. What has the size and the time that it says is not read again.

    Returns:
        The digest, the number of files, the bytes and the newest modification time (ns), and of a
        folder the `contents`: the same of each of its files. None if the path does not exist.
    """
    if not path.exists():
        return None
    size, known = _size(path), known or {}
    if path.is_file():
        return known if size.items() <= known.items() else {"sha256": digest(path)} | size
    before = known.get("contents", {})
    contents = {name: _entry(file, before.get(name)) for name, file in _watched(path).items()}
    counted = [file.relative_to(path).as_posix() for file in _files(path)]
    sha = _joined({name: contents[name]["sha256"] for name in counted})
    if size.items() <= known.items() and sha != known["sha256"]:
        return known  # damage that changed no time is not taken for the result
    return {"sha256": sha} | size | {"contents": contents}


def alike(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files; an adapter's card does not count."""
    digests = [
        {name: _digest_of_file(file) for name, file in _watched(path).items()}
        for path in (one, other)
    ]
    return digests[0] == digests[1]


def _entry(file: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    stat = file.stat()
    size = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if known and size.items() <= known.items():
        return known
    return {"sha256": _digest_of_file(file)} | size


def holds(path: Path, recorded: dict[str, Any] | None) -> bool:
    """Whether a file or folder is as recorded; a record of None means that it does not exist.

    The content is read only if the size or the time differs.
    """
    if recorded is None:
        return not path.exists()
    return not changed(path, recorded)


def changed(path: Path, recorded: dict[str, Any], thorough: bool = False) -> list[Path]:
    """The files that are not as recorded: changed, unreadable, missing or new.

    Records of earlier versions have no `contents` and do not say which file of a folder changed, so
    the folder is given. They hold on until their step runs again, and get `contents` then.

    Args:
        path: The file or folder.
        recorded: Its record.
        thorough: Whether all is read, even where size and time are as recorded.
    """
    known = recorded.get("contents")
    if known is None or not path.is_dir():
        return [] if _holds_whole(path, recorded, thorough) else [path]
    now = _watched(path)
    return [
        path / name
        for name in sorted(known.keys() | now.keys())
        if name not in known or name not in now or not _same(now[name], known[name], thorough)
    ]


def _holds_whole(path: Path, recorded: dict[str, Any], thorough: bool) -> bool:
    try:
        if not path.exists():
            return False
        if not thorough and _size(path).items() <= recorded.items():
            return True
        return digest(path) == recorded["sha256"]
    except OSError:  # it cannot be read
        return False


def _same(file: Path, known: dict[str, Any], thorough: bool) -> bool:
    try:
        stat = file.stat()
        size = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        if not thorough and size.items() <= known.items():
            return True
        return _digest_of_file(file) == known["sha256"]
    except OSError:  # it cannot be read
        return False
