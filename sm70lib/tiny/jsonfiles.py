"""JSON and JSON Lines files of a world, in the layouts of the upstream data sets."""

import json
from pathlib import Path
from typing import Any

from sm70lib.study.files import write_text


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON.

    Keys keep their order, because TruthfulQA lists the right answer first.
    """
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_jsonl(path: Path, rows: list[dict]) -> None:
    """Writes one JSON object per line."""
    lines = [json.dumps(row) + "\n" for row in rows]
    write_text(path, "".join(lines))
