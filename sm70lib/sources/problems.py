"""Whether a record can be used, and if not, why: the reasons that tables of defects give."""

from collections.abc import Callable
from typing import Any


def problem(fields: object, *names: str) -> str | None:
    """Why an object's text fields cannot be used; None if they can.

    Args:
        fields: a record.
        names: its fields to check, in order. All must hold text, and the last must not be blank.
    """
    if not isinstance(fields, dict):
        return "no readable record, or a key stands twice in it"
    for name in names:
        text = fields.get(name)
        if not isinstance(text, str):
            return f"no text under {name}"
        if not _writable(text):
            return f"{name} holds a NUL, half a surrogate pair or a byte that is no UTF-8"
    last = names[-1]
    return None if fields[last].strip() else f"empty {last}"


def _writable(text: str) -> bool:
    if "\0" in text:
        return False
    return text.isascii() or text.encode(errors="replace").decode() == text


def undecodable(value: object) -> bool:
    """Whether a text in a value has a byte that is no UTF-8 (read with `surrogateescape`)."""
    if isinstance(value, dict):
        return any(map(undecodable, value.values()))
    if isinstance(value, list):
        return any(map(undecodable, value))
    if not isinstance(value, str) or value.isascii():
        return False
    return any("\udc80" <= letter <= "\udcff" for letter in value)


def shaped(shape: Callable[[dict], Any], record: Any) -> Any:
    """`shape(record)`, or the reason (str) why the record's layout is not what `shape` expects."""
    try:
        return shape(record)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return "no record of a known layout" if isinstance(record, dict) else problem(record, "")
