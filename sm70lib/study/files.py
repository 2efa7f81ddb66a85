"""Files written whole or not at all, and their digests."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _files(path: Path) -> list[Path]:
    """The files that count; of a PEFT adapter its weights only, as its JSON lists layers in random order."""
    weights = sorted(path.glob("*.safetensors")) if (path / "adapter_config.json").exists() else []
    return (
        [path]
        if path.is_file()
        else weights or sorted(file for file in path.rglob("*") if file.is_file())
    )


def digest(path: Path) -> str:
    """SHA-256 (hex) of a file, or of a folder's relative names and contents."""
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
    """Digest, bytes and newest change (ns) of a file or folder; None if there is none.

    Where size and time are those of an earlier record, `known`, nothing is read.
    """
    if not path.exists():
        return None
    size = _size(path)
    return known if known and size.items() <= known.items() else {"sha256": digest(path)} | size


def holds(path: Path, recorded: dict[str, Any] | None) -> bool:
    """Whether a file or folder is as recorded; it is read only where size or time differ."""
    if recorded is None or not path.exists():
        return recorded is None and not path.exists()
    return _size(path).items() <= recorded.items() or digest(path) == recorded["sha256"]
