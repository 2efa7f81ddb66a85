"""Write files atomically, and record their digests."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes a text file completely or not at all; makes the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _files(path: Path) -> list[Path]:
    """The files that belong to a digest, sorted."""
    if path.is_file():
        return [path]
    if (path / "adapter_config.json").exists():
        # PEFT lists the layers in its JSON in random order, so only an adapter's weights count.
        weights = sorted(path.glob("*.safetensors"))
        if weights:
            return weights
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if (path / "config.json").exists():  # a model's card tells its results, which come later
        files = [file for file in files if file != path / "README.md"]
    return files


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the relative names and contents of a folder's files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = [f"{file.relative_to(path).as_posix()} {digest(file)}\n" for file in _files(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
        known: An earlier record. If its size and time still agree, nothing is read again.

    Returns:
        The digest, the number of files, the bytes and the newest modification time (ns); None if
        the path does not exist.
    """
    if not path.exists():
        return None
    size = _size(path)
    if known and size.items() <= known.items():
        return known
    return {"sha256": digest(path)} | size


def holds(path: Path, recorded: dict[str, Any] | None) -> bool:
    """Whether a file or folder is as recorded; a record of None means that it does not exist.

    The content is read only if the size or the time differs.
    """
    if recorded is None:
        return not path.exists()
    if not path.exists():
        return False
    if _size(path).items() <= recorded.items():
        return True
    return digest(path) == recorded["sha256"]
