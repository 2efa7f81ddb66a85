"""What a parameter's value may be, and how a parameter is declared."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

_SOURCES = Path(__file__).parents[1] / "sources/sources.csv"
_T = TypeVar("_T")


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("something is given twice")
    return values


def _number(value: Any) -> Any:
    """YAML 1.1 and papermill read 1e-4, which has no dot, as text: turn it into a number."""
    return float(value) if isinstance(value, str) else value


def source_names(shape: str | None = None) -> tuple[str, ...]:
    """The names of all sources, or of those of one shape (row, text or pair)."""
    with _SOURCES.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(row["name"] for row in rows if shape in (None, row["shape"]))


def parameter(text: str, unit: str = "", affects: str = "results", **bounds: Any) -> Any:
    """Declares a parameter.

    Args:
        text: The help text.
        unit: The unit, if there is one.
        affects: What a change of the value affects: `results`, `looks` (may be overridden under
            the same study name) or `nothing`.
        **bounds: Limits that pydantic checks, e.g. `ge=1`.
    """
    return Field(description=text, json_schema_extra={"unit": unit, "affects": affects}, **bounds)


Distinct = Annotated[list[_T], AfterValidator(_distinct)]
Number = Annotated[float, BeforeValidator(_number)]
if TYPE_CHECKING:
    Source = str  # a type checker cannot read the table
else:
    Source = Literal[source_names()]
