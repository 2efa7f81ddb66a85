"""What a parameter's value may be, and how a parameter is declared."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from sm70lib.parameters.tables import names

_T = TypeVar("_T")


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("something is given twice")
    return values


def _number(value: Any) -> Any:
    """YAML 1.1 and papermill read 1e-4, which has no dot, as text: turn it into a number."""
    return float(value) if isinstance(value, str) else value


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
if TYPE_CHECKING:  # a type checker cannot read the tables
    Source = str
    Benchmark = str
    Protocol = str
    Compared = str
else:
    Source = Literal[names("sources/sources.csv")]
    Benchmark = Literal[names("benchmarks/benchmarks.csv")]
    Protocol = Literal[names("protocols/protocols.csv")]
    Compared = Literal[Benchmark, "usmle"]
