"""The shapes of the marks of steps, which a person or a disk may have damaged."""

from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

KINDS = ("done", "begun", "merged")


def _inside(path: str) -> str:
    """The path of an output; ValueError if it leads out of the study's folder, and is a stranger's.

    What is not as recorded is moved, and nothing outside may be.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError(f"{path} is outside of the study's folder")
    return path


class _Key(BaseModel):
    parameters: dict[str, Any]
    inputs: dict[str, str | None]
    code: dict[str, str]


class _Entry(BaseModel):
    sha256: str


class _Record(BaseModel):
    sha256: str
    contents: dict[str, _Entry] = {}


class _Done(BaseModel):
    key: _Key
    outputs: dict[Annotated[str, AfterValidator(_inside)], _Record]
    external: dict[str, _Record | None]
    code: dict[str, str]
    parameters: dict[str, Any]
    hardware: dict[str, Any]
    versions: dict[str, Any]
    commit: str | None
    finished: str
    seconds: float | None


class _Begun(BaseModel):
    key: _Key


class _Merge(BaseModel):
    key: _Key
    parity: dict[str, Any]


class _Move(BaseModel):
    place: Annotated[str, Field(pattern="^replaced/"), AfterValidator(_inside)]
    back: bool
    paths: list[Annotated[str, AfterValidator(_inside)]]


# What the code reads of a mark; a mark may hold more.
_SHAPES: dict[str, TypeAdapter] = {
    "done": TypeAdapter(_Done),
    "begun": TypeAdapter(_Begun),
    "merged": TypeAdapter(dict[str, _Merge]),
    "moving": TypeAdapter(_Move),
}


def is_whole(found: object, kind: str) -> bool:
    """Whether what was read is a mark of its kind: one of KINDS, or the note of a move."""
    try:
        _SHAPES[kind].validate_python(found, strict=True)
    except ValidationError:
        return False
    return True
