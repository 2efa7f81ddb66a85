"""Marks of finished steps, as whole as the library demands them."""

from typing import Any


def done(**changes: Any) -> dict[str, Any]:
    """The mark of a finished step that read and wrote nothing, but for these changes."""
    empty: dict[str, Any] = dict.fromkeys(
        ("outputs", "external", "code", "parameters", "hardware", "versions"), {}
    )
    key = {"parameters": {}, "inputs": {}, "code": {}}
    return empty | {"key": key, "commit": None, "finished": "", "seconds": None} | changes
