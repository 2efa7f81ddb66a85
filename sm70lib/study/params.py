"""Load study files, and check the parameters of notebooks."""

import difflib
import functools
import re
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError, create_model

from sm70lib.parameters import declared
from sm70lib.parameters.fields import BEFORE, FIELDS, Study
from sm70lib.parameters.rules import REHEARSAL, contradiction
from sm70lib.parameters.stages import for_every_kind
from sm70lib.study import cells
from sm70lib.study.used import counts, differing, lacking
from sm70lib.untrusted import yaml_text
from sm70lib.untrusted.escaping import shortened

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "sm70lib"
VALUE = 80  # characters of a wrong value that an error shows
MOST_FAULTS = 5  # wrong values that one error names


class StudyError(ValueError):
    """A problem that the user can solve, described in one sentence."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the sentence says all that it would."""
        return [f"{type(self).__name__}: {self}"]


def rehearsal(study: str) -> str:
    """The warning on all pages, tables, figures and marks of a rehearsal; "" for other studies."""
    if study.startswith(REHEARSAL):
        return "Rehearsal, stand-in weights: no number here means anything."
    return ""


def affects(name: str) -> str:
    """What a parameter changes: `results`, `looks` or `nothing`."""
    return cast(Any, FIELDS[name].json_schema_extra)["affects"]


def value_of(text: str | bytes, where: str) -> Any:
    """Reads a YAML text.

    Args:
        text: The YAML text.
        where: Where the text comes from; an error begins with it.

    Returns:
        The value, as Python objects.

    Raises:
        StudyError: The text is not readable YAML, or is larger than any file of parameters.
    """
    return _with_lines(text, where)[0]


def _with_lines(text: str | bytes, where: str) -> tuple[Any, dict[str, int]]:
    """The value of a YAML text, and the line of each of its keys (see `value_of`)."""
    try:
        return yaml_text.load(text)
    except yaml_text.UNREADABLE as error:
        mark = getattr(error, "problem_mark", None)
        lines = max(1, len(text.splitlines()))  # libyaml finds an open bracket behind the last one
        line = f":{min(mark.line + 1, lines)}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyError(
            f"{where}{line}: this is not readable YAML: {shortened(problem)}"
        ) from None


def parsed(overrides: dict[str, str]) -> dict[str, Any]:
    """Reads the YAML values of `-p NAME VALUE`; raises StudyError if one is not readable."""
    return {name: value_of(text, f"-p {name}") for name, text in overrides.items()}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a study file, and where each of them stands: file and line."""
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in (ROOT / "params").glob("*.yml")))
        raise StudyError(f"{path}: there is no such file; the studies in params/ are: {known}")
    with path.open("rb") as file:
        text = file.read(yaml_text.LARGEST + 1)
    values, lines = _with_lines(text, str(path))
    if not isinstance(values, dict):
        raise StudyError(f"{path} has no parameters: a study file has lines such as 'seed: 0'")
    return values, {name: f"{path}:{lines[name]}" for name in values if name in lines}


def load(*files: Path | str, overrides: dict[str, Any] | None = None) -> Study:
    """Loads a study from one or more files and from overrides.

    Args:
        *files: The study file, which names every parameter that counts in it (see `used`; those of
            `fields.BEFORE` may be left out), then overlays. A later file replaces the values of the
            files before it.
        overrides: Values that replace those of the files. A relative `data_root` or `base_model`
            starts at the current folder.

    Returns:
        The checked study, with the parameters that count in it and no others.

    Raises:
        StudyError: A file or value is wrong, there is none, or a later layer changes results
            without giving the study a new name.
    """
    layers = [(str(file), *_read(Path(file))) for file in files]
    if overrides:
        layers.append(("-p", overrides | _folders(overrides), {}))
    if not layers:
        raise StudyError("params.load was given no study file; give one, such as params/tiny.yml.")
    values: dict[str, Any] = dict(BEFORE)  # a file that is older than a parameter may lack it
    origin: dict[str, str] = {}
    study: Any = None
    for where, layer, places in layers:
        values = values | layer
        origin = origin | dict.fromkeys(layer, where) | places
        before = study
        study = _validate(values, list(FIELDS), origin, where)
        if before:
            _require_new_name(before, study, values, origin)
    return study


def _require_new_name(
    before: Study, study: Study, values: dict[str, Any], origin: dict[str, str]
) -> None:
    """Raises StudyError if a layer changes results but keeps the study's name."""
    if before.study != study.study:
        return
    for name in differing(before, study):
        raise StudyError(
            f"{origin[name]}: {name} {shortened(values[name], VALUE)} changes the results of "
            f"{study.study}; give the variant a study name of its own (-p study NAME)"
        )


def _folders(overrides: dict[str, Any]) -> dict[str, str]:
    """The overridden folders as absolute paths, because notebooks run in the repository root."""
    root = overrides.get("data_root")
    if root not in (None, "world", "hub") and not Path(str(root)).is_dir():
        raise StudyError(
            f"-p: data_root is {shortened(root, VALUE)}, which is not a folder; allowed are world, "
            "hub and a folder"
        )
    folders = {}
    for name in ("data_root", "base_model"):
        path = overrides.get(name)
        if path and Path(str(path)).is_dir():
            folders[name] = str(Path(path).resolve())
    return folders


def _validate(values: dict, names: list[str], origin: dict[str, str], where: str) -> Any:
    """Checks values, and returns a frozen object with the named parameters that count.

    Raises:
        StudyError: A name is unknown, a value is wrong, a name is missing or two values contradict
            each other; the first of these that applies.
    """
    _require_known(values, origin, where)
    try:
        given = _parameters(*(n for n in names if n in values))(**values).model_dump()
    except ValidationError as error:
        raise StudyError(_faults(error, origin)) from None
    if missing := lacking(names, given):
        expected = "a study file names every parameter that counts in it"
        raise StudyError(f"{where}: {expected}, and this one lacks {missing}")
    checked = _parameters(*(n for n in given if counts(n, given)))(**values)
    if fault := contradiction(checked.model_dump()):
        raise StudyError(f"{origin.get(fault.split()[0], where)}: {fault}")
    return checked


@functools.cache  # making a class takes longer than all the checks
def _parameters(*names: str) -> Any:
    """A pydantic class with the named parameters alone."""
    fields: dict[str, Any] = {n: (FIELDS[n].annotation, FIELDS[n]) for n in names}
    return create_model("Parameters", __config__=Study.model_config, **fields)


def _require_known(values: dict, origin: dict[str, str], where: str) -> None:
    """Raises StudyError for the first name that is not a parameter."""
    unknown = [name for name in values if name not in FIELDS]
    if not unknown:
        return
    place, name = origin.get(unknown[0], where), shortened(unknown[0], VALUE)
    near = difflib.get_close_matches(name, FIELDS, 1)
    hint = f"did you mean {near[0]}?" if near else "params/tiny.yml lists all names"
    raise StudyError(f"{place}: there is no parameter {name}; {hint}")


def _faults(error: ValidationError, origin: dict[str, str]) -> str:
    """Describes wrong values; one fault of each of the first parameters."""
    faults = {str(fault["loc"][0]): fault for fault in error.errors()}
    said = [
        f"{origin[n]}: {n} is {shortened(repr(fault['input']), VALUE)} ({FIELDS[n].description}): "
        f"{shortened(fault['msg'].removeprefix('Value error, '))}{_nearest(fault)}"
        for n, fault in faults.items()
    ]
    rest = [f"and {len(said) - MOST_FAULTS} more"] if len(said) > MOST_FAULTS else []
    return "; ".join(said[:MOST_FAULTS] + rest)


def _nearest(fault: Any) -> str:
    """The allowed value that is most like a wrong one, as a question; "" if none is like it."""
    allowed = re.findall("'(.*?)'", fault.get("ctx", {}).get("expected", ""))
    near = difflib.get_close_matches(shortened(fault["input"], VALUE), allowed, 1)
    return f"; did you mean {near[0]}?" if near else ""


def check(scope: dict[str, Any]) -> Any:
    """Checks a notebook's parameters; its second code cell calls this with globals().

    Args:
        scope: The notebook's globals. IPython lists the cells that have run in `In`.

    Returns:
        A frozen object with the parameters that the notebook declares and that count.

    Raises:
        StudyError: A value is wrong, papermill injected an unknown name or some parameters of
            another study alone, or the cell names a study of params/ and has other values.
    """
    injected, own = cells.run(scope.get("In", ()))
    wanted = for_every_kind(own.keys() & scope.keys()) or scope  # a warm kernel kept older cells
    names = [n for n in FIELDS if n in wanted]
    values = {n: scope[n] for n in names if n in scope}
    absent = [n for n in values if n not in {*injected, *BEFORE} and counts(n, values)]
    if absent and injected.get("study", own.get("study")) != own.get("study"):
        raise StudyError(
            f"study {injected['study']} came without {', '.join(absent)}; give papermill the "
            f"whole study file (-f params/{injected['study']}.yml), or tiny values slip in"
        )
    values |= {n: value for n, value in injected.items() if n not in FIELDS}
    checked = _validate(values, names, dict.fromkeys(values, "notebook"), "notebook")
    if values.get("study", cells.STUDY) != cells.STUDY and "study" not in injected:
        _require_own_values(checked)
    return checked


def _require_own_values(given: Study) -> None:
    """Raises StudyError if values stand under the name of a study of params/ that has others."""
    files = declared.files_of(ROOT / "params", given.study)
    if files and (apart := differing(given, load(*files))):
        raise StudyError(cells.slip(given.study, apart, [path.relative_to(ROOT) for path in files]))
