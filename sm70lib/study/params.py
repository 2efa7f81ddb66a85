"""Parameters: the one definition of every name, the strict loader of study files, the notebooks' check."""

import ast
import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    ValidationError,
    create_model,
)

from sm70lib.study.fields import FIELDS, Study

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "sm70lib"
REHEARSAL = "rehearsal-"  # what the names of rehearsed studies begin with, and no others


class StudyError(ValueError):
    """Something a user can put right, said in one sentence."""


def rehearsal(study: str) -> str:
    """What stands on every page, table, figure and mark of a rehearsed study; nothing for any other."""
    return (
        "Rehearsal, stand-in weights: no number here means anything."
        if study.startswith(REHEARSAL)
        else ""
    )


def affects(name: str) -> str:
    """What a parameter changes: `results`, `looks` or `nothing`."""
    return FIELDS[name].json_schema_extra["affects"]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        for at, (key, _) in enumerate(node.value):
            if key.value in [earlier.value for earlier, _ in node.value[:at]]:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


def value_of(text: str | bytes, where: str) -> Any:
    """A YAML text as Python values; raises StudyError, beginning with `where`, if it is broken."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        line = f":{error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyError(f"{where}{line}: this is not readable YAML: {problem}") from None


def parsed(overrides: dict[str, str]) -> dict[str, Any]:
    """The values of `-p NAME VALUE` words, which are YAML; raises StudyError for what is none."""
    return {name: value_of(text, f"-p {name}") for name, text in overrides.items()}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in (ROOT / "params").glob("*.yml")))
        raise StudyError(f"{path}: there is no such file; the studies in params/ are: {known}")
    if not isinstance(values := value_of(path.read_bytes(), str(path)), dict):
        raise StudyError(
            f"{path}: a study file holds lines such as 'seed: 0', and this one holds none"
        )
    return values


def load(*files: Path | str, overrides: dict[str, Any] | None = None) -> Study:
    """The study of one or more files, of which later ones win, and of `-p` overrides, which win over all.

    The first file names every parameter; whatever changes results brings its own study name. A relative
    `data_root` among the overrides starts at the current folder. Raises StudyError.
    """
    layers = [(str(file), _read(Path(file))) for file in files]
    layers += [("-p", overrides | _folders(overrides))] if overrides else []
    values, origin, study = {}, {}, None
    for where, layer in layers:
        values, origin = values | layer, origin | dict.fromkeys(layer, where)
        before, study = study, _validate(values, list(FIELDS), origin, where)
        changed = [
            n
            for n in FIELDS
            if before and affects(n) == "results" and getattr(before, n) != getattr(study, n)
        ]
        if changed and before.study == study.study:
            name = changed[0]
            raise StudyError(
                f"{origin[name]}: {name} {values[name]} changes the results of {study.study}; "
                "give the variant a study name of its own (-p study NAME)"
            )
    return study


def _folders(overrides: dict[str, Any]) -> dict[str, str]:
    """The folders among the overrides as absolute paths, since notebooks run in the repository root."""
    root, model = overrides.get("data_root"), overrides.get("base_model")
    if root not in (None, "world", "hub") and not Path(str(root)).is_dir():
        raise StudyError(
            f"-p: data_root is {root}, which is no folder; allowed are world, hub and a folder"
        )
    paths = {"data_root": root, "base_model": model}
    return {
        n: str(Path(path).resolve())
        for n, path in paths.items()
        if path and Path(str(path)).is_dir()
    }


def _validate(values: dict, names: list[str], origin: dict[str, str], where: str) -> Any:
    """A frozen object with the names; raises StudyError: unknown names first, wrong values, missing names."""
    if unknown := [str(name) for name in values if name not in FIELDS]:
        near = difflib.get_close_matches(unknown[0], FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else "params/tiny.yml lists all names"
        raise StudyError(
            f"{origin.get(unknown[0], where)}: there is no parameter {unknown[0]}; {hint}"
        )
    fields = {n: (FIELDS[n].annotation, FIELDS[n]) for n in names}
    try:
        checked = create_model("Parameters", __config__=Study.model_config, **fields)(**values)
    except ValidationError as error:
        faults = {fault["loc"][0]: fault for fault in error.errors()}
        wrong = [
            f"{origin[n]}: {n} is {fault['input']!r} ({FIELDS[n].description}): {fault['msg']}"
            for n, fault in faults.items()
            if n in values
        ]
        lacks = (
            f"{where}: a study file names every parameter, and this one lacks {', '.join(faults)}"
        )
        raise StudyError("; ".join(wrong) or lacks) from None
    if fault := _contradiction(checked.model_dump()):
        raise StudyError(f"{where}: {fault}")
    return checked


def _contradiction(values: dict[str, Any]) -> str | None:
    """The first rule that does not hold; one about a name that a notebook does not declare is left out."""
    for rule, holds, relation in RULES:
        names = rule.split()
        if set(names) <= values.keys() and not holds(*(values[n] for n in names)):
            first, *second = [f"{name} {values[name]}" for name in names[:2]]
            return " ".join([first, relation, *second])
    return None


USMLE = {"usmle_step1", "usmle_step2", "usmle_step3"}
RULES = (  # parameters, what holds between their values, how the error puts it; the second is named too
    (
        "study",
        lambda name: name != "reference",
        "is the folder of the committed results; choose another",
    ),
    (
        "base_hidden_size base_heads",
        lambda width, heads: width % (2 * heads) == 0,
        "is no even multiple of",
    ),
    ("base_heads base_kv_heads", lambda heads, shared: heads % shared == 0, "is no multiple of"),
    ("base_context base_length", lambda context, length: context >= length, "is less than"),
    (
        "base_context data_max_length base_model",
        lambda n, rows, model: model or n >= rows,
        "is less than",
    ),
    (
        "base_text base_model",
        lambda text, model: text or model,
        "names no source to pretrain on, with",
    ),
    (
        "train_stages",
        lambda stages: re.fullmatch("c?s?d*", "".join(kind[0] for kind in stages)),
        "is not in the order cpt, sft, dpo, of which only dpo may be repeated",
    ),
    (
        "train_stages cpt_sources",
        lambda kinds, names: "cpt" not in kinds or names,
        "has a stage cpt, and there is nothing in",
    ),
    (
        "train_stages dpo_sources",
        lambda kinds, names: "dpo" not in kinds or names,
        "has a stage dpo, and there is nothing in",
    ),
    (
        "dpo_rounds train_stages",
        lambda of, kinds: max(of.values(), default=0) <= kinds.count("dpo"),
        "goes beyond",
    ),
    (
        "sft_batch_size train_micro_batch_size",
        lambda batch, micro: batch % micro == 0,
        "is no multiple of",
    ),
    ("eval_protocols eval_primary_protocol", lambda asked, primary: primary in asked, "lacks"),
    ("eval_shots eval_primary_shots", lambda asked, primary: primary in asked, "lacks"),
    (
        "eval_benchmarks eval_primary_benchmarks",
        lambda asked, primary: all(
            name in asked or (name == "usmle" and USMLE <= set(asked)) for name in primary
        ),
        "lacks some of",
    ),
    (
        "eval_benchmarks study",
        lambda asked, study: (
            set(asked) <= {"medqa_4_dev", "pubmedqa_dev"}
            or not study.removeprefix(REHEARSAL).startswith("grid")
        ),
        "holds test items, on which no grid may choose; give only medqa_4_dev and pubmedqa_dev to",
    ),
    (
        "figures_studies",
        lambda others: not any(map(rehearsal, others)),
        "names a rehearsal, whose numbers mean nothing; take it out",
    ),
    ("figures_studies study", lambda others, study: study not in others, "contains"),
)


def assigned(source: str) -> dict[str, Any]:
    """Names that a cell assigns at top level, with their values (None unless these are constants)."""
    try:
        nodes = [n for n in ast.parse(source).body if isinstance(n, ast.Assign | ast.AnnAssign)]
    except SyntaxError:  # a cell with a magic
        return {}
    pairs = [(t, n.value) for n in nodes for t in getattr(n, "targets", None) or [n.target]]
    return {t.id: getattr(value, "value", None) for t, value in pairs if isinstance(t, ast.Name)}


def check(scope: dict[str, Any]) -> Any:
    """A notebook's parameters, checked and frozen; its second code cell calls this with globals().

    Raises StudyError for a wrong value, an unknown injected name, and another study injected only in part.
    """
    cells = [cell for cell in scope.get("In", ()) if cell]
    injected = next(
        (assigned(cell) for cell in reversed(cells) if cell.startswith("# Parameters")), {}
    )
    own = {
        n: v
        for cell in cells
        if not cell.startswith("# Parameters")
        for n, v in assigned(cell).items()
    }
    declared = [n for n in FIELDS if n in scope and n in (own or scope)]
    lacking = [n for n in declared if n not in injected]
    if lacking and injected.get("study", own.get("study")) != own.get("study"):
        raise StudyError(
            f"study {injected['study']} came without {', '.join(lacking)}; give papermill the "
            f"whole study file (-f params/{injected['study']}.yml), or tiny values slip in"
        )
    values = {n: scope[n] for n in declared} | {
        n: v for n, v in injected.items() if n not in FIELDS
    }
    return _validate(values, declared, dict.fromkeys(values, "notebook"), "notebook")
