"""What a parameter's value may be, and how a parameter is declared."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from sm70lib.parameters import aggregates, own
from sm70lib.parameters.tables import names
from sm70lib.untrusted.time_limit import matches

_T = TypeVar("_T")
LAYERS = (  # names of layers in several families, on which a pattern is tried
    "model.layers.11.self_attn.q_proj",
    "model.layers.31.block_sparse_moe.experts.7.w1",
    "transformer.h.11.self_attention.query_key_value",
    "gpt_neox.layers.5.mlp.dense_h_to_4h",
    "lm_head",
)
LARGEST_SEED = 2**32 - 1  # of NumPy, which every training seeds


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("something is given twice")
    titles = [own.title(value) for value in values]
    for value, title in zip(values, titles):
        if own.is_file(value) and titles.count(title) > 1:
            raise ValueError(f"two files are called {title}, as tables would be; rename one")
    return values


def _number(value: Any) -> Any:
    """YAML 1.1 and papermill read 1e-4, which has no dot, as text: turn it into a number."""
    return float(value) if isinstance(value, str) else value


def _pattern(text: str) -> str:
    """The pattern, if it is one and does not take for ever on names of layers."""
    for name in LAYERS:
        matches(text, name)
    return text


def parameter(
    text: str, unit: str = "", affects: str = "results", before: Any = None, **bounds: Any
) -> Any:
    """Declares a parameter.

    Args:
        text: The help text.
        unit: The unit, if there is one.
        affects: What a change of the value affects: `results`, `looks` (may be overridden under
            the same study name) or `nothing`.
        before: For a parameter that came when studies were finished already: the value that says
            what they did. It keeps their keys as they are (see `steps.compared`).
        **bounds: Limits that pydantic checks, e.g. `ge=1`.
    """
    about = {"unit": unit, "affects": affects, "before": before}
    return Field(description=text, json_schema_extra=about, **bounds)


Distinct = Annotated[list[_T], AfterValidator(_distinct)]
Number = Annotated[float, BeforeValidator(_number)]
Pattern = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_pattern)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


def _named_or_own(known: Any, taken: tuple[str, ...]) -> Any:
    """A name of the catalogue, or the path of a file of the user's own.

    Args:
        known: The type of the catalogue's names.
        taken: The names that no such file may have.
    """
    file = Annotated[str, AfterValidator(partial(own.checked, taken=taken)), Tag("file")]
    which = Discriminator(lambda value: "file" if own.is_file(value) else "name")
    return Annotated[Annotated[known, Tag("name")] | file, which]


if TYPE_CHECKING:  # a type checker cannot read the tables
    Source = str
    Benchmark = str
    Protocol = str
    Compared = str
else:
    SOURCES, BENCHMARKS = names("sources/sources.csv"), names("benchmarks/benchmarks.csv")
    EXAMS = (*BENCHMARKS, *(aggregate.name for aggregate in aggregates.AGGREGATES))
    Source = _named_or_own(Literal[SOURCES], SOURCES)
    Benchmark = _named_or_own(Literal[BENCHMARKS], EXAMS)
    Protocol = Literal[names("protocols/protocols.csv")]
    Compared = _named_or_own(Literal[(*BENCHMARKS, "usmle")], EXAMS)
