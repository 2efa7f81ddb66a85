"""The house as a whole: its size, which way imports run, one list of dependencies, canonical notebooks."""

import ast
import graphlib
import io
import json
import re
import tokenize
import tomllib
from pathlib import Path

import papermill
import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sm70lib.study import fields, params, provenance, steps

LIBRARY = sorted((ROOT / "sm70lib").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LEAST_NOTEBOOKS = 8
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(re.findall(r"^([^#=]+)==(.+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE))


# ---- size and imports -------------------------------------------------------------------------------


def code_lines(text: str) -> int:
    """Lines of code as counters of code see them: neither blank nor only a comment or a docstring."""
    tree, documented = ast.parse(text), set()
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node) is not None
        ):
            documented |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    empty = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = {
        line
        for token in tokens
        if token.type not in empty
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(lines - documented)


def test_no_room_is_large():
    """A file holds one idea: at most 250 lines of code, not counting explanation."""
    lines = {path.relative_to(ROOT).as_posix(): code_lines(path.read_text()) for path in LIBRARY}
    assert len(lines) > 20 and max(lines.values()) <= 250, lines


def test_functions_and_lines_are_short():
    long, functions = [], 0
    for path in LIBRARY:
        text = path.read_text()
        long += [f"{path.name}: {line}" for line in text.splitlines() if len(line) > 120]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                functions += 1
                long += [f"{path.name}: {node.name}"] * (node.end_lineno - node.lineno >= 50)
    assert functions > 50 and long == []


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Modules of this library, and other packages, that a module imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute, as steps.py follows them"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & MODULES or {node.module}
    return names & MODULES, {name.split(".")[0] for name in names - MODULES}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path) for path in LIBRARY}


GRAPH = {module(path): imports(path) for path in LIBRARY}


def test_imports_have_no_circle():
    order = list(
        graphlib.TopologicalSorter({name: own for name, (own, _) in GRAPH.items()}).static_order()
    )
    assert len(order) == len(LIBRARY)
    assert GRAPH["sm70lib.study.fields"][0] == set(), "the parameters are at the bottom"


def reached(name: str) -> set[str]:
    """Packages that an import of a module loads, directly or through this library."""
    own, others = GRAPH[name]
    return others.union(*(reached(below) for below in own))


SLOW = {"torch", "transformers", "datasets", "peft", "trl", "bitsandbytes", "lm_eval"}
QUICK = [
    "study.params",
    "study.provenance",
    "study.steps",
    "runner",
    "analysis.stats",
    "analysis.errors",
    "analysis.tables",
    "analysis.figures",
    "report",
]


@pytest.mark.parametrize("name", QUICK)
def test_quick_modules_import_no_deep_learning(name):
    if f"sm70lib.{name}" not in GRAPH:
        pytest.skip(f"sm70lib/{name}.py is not there yet")
    assert reached(f"sm70lib.{name}") & SLOW == set()


# ---- one list of dependencies -----------------------------------------------------------------------


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_is_exact_and_fits_the_project():
    texts = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    wanted = [Requirement(text) for text in texts]
    locked = {canonical(name): version for name, version in LOCK.items()}
    assert len(wanted) >= 25 and len(locked) == len(LOCK) > 150
    for requirement in wanted:
        assert locked[canonical(requirement.name)] in requirement.specifier, requirement
    assert not [
        version for version in LOCK.values() if not re.fullmatch(r"[0-9][0-9a-z.]*", version)
    ]
    assert {canonical(name) for name in provenance.PACKAGES} <= {canonical(r.name) for r in wanted}


def test_conda_gets_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, nested = environment["dependencies"]
    assert python.split("=")[1] in SpecifierSet(PROJECT["requires-python"]) and pip == "pip"
    assert nested["pip"] == ["-c requirements.lock", "-e .[test]"]


def test_ci_runs_the_tests_and_nothing_else():
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make test"
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


# ---- one list of names ------------------------------------------------------------------------------


def test_every_study_has_its_row():
    readme = (ROOT / "params/README.md").read_text()
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\.yml\) \|", readme, re.MULTILINE)
    files = sorted(path.stem for path in (ROOT / "params").glob("*.yml"))
    assert (
        sorted(name for name, _ in rows) == sorted(name for _, name in rows) == files
        and len(files) >= 1
    )


def test_tiny_comments_on_every_name():
    lines = (ROOT / "params/tiny.yml").read_text().splitlines()
    commented = [line.split(":")[0] for line in lines if re.match(r"\w+:.*# ..", line)]
    assert commented == list(fields.FIELDS) and len(commented) > 60


def values(name: str) -> set[str]:
    """What a parameter (or each entry of its list) may be."""
    schema = fields.Study.model_json_schema()["properties"][name]
    schema = schema.get("items", schema)
    return set(schema.get("enum", [schema.get("const")]))


def test_choices_are_those_of_the_rooms():
    from sm70lib import benchmarks, protocols, sources
    from sm70lib.corpus import templates

    assert values("data_sources") == values("base_text") == set(sources.SOURCES)
    assert values("eval_benchmarks") == set(benchmarks.BENCHMARKS)
    assert values("eval_primary_benchmarks") == {*benchmarks.BENCHMARKS, "usmle"}
    assert values("eval_protocols") == {protocol.name for protocol in protocols.PROTOCOLS}
    assert values("data_template") == set(templates.TEMPLATES)


# ---- notebooks --------------------------------------------------------------------------------------


def test_notebooks_are_counted():
    names = [path.stem for path in NOTEBOOKS]
    assert len(names) >= LEAST_NOTEBOOKS and set(names) <= {*steps.STEPS, "07_ask"}
    if len(names) == len(steps.STEPS) + 1:
        assert {name for path in NOTEBOOKS for name in provenance.declared(path)} == set(
            fields.FIELDS
        )


def code_of(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_canonical(path):
    text = path.read_text(encoding="utf-8")
    book = json.loads(text)
    assert text == json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    assert not [
        name
        for name in ids
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or re.fullmatch(r"[0-9a-f]{8}(-.*)?", name)
    ], "ids are named by hand"
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 4
    assert not [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]], (
        "no outputs"
    )
    tagged = [cell["id"] for cell in code if "parameters" in cell["metadata"].get("tags", ())]
    assert tagged == [code[0]["id"]], "one parameters cell, and it is the first code cell"
    assert not [source for source in code_of(path)[1:] if source.count("\n") >= 20], (
        "at most 20 lines"
    )
    assert not re.search(r"^\s*(async )?(def|class) ", "\n".join(code_of(path)), re.M), (
        "logic has its room"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_and_ends_as_all_do(path):
    code = code_of(path)
    assert "params.check(globals())" in code[1]
    if path.stem in steps.STEPS:
        assert f'steps.begin("{path.stem}", p)' in code[2] and "step.finish(" in code[-1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_parameters_cell_agrees_with_the_definition_and_tiny(path):
    tiny = params.load(ROOT / "params/tiny.yml")
    shown = papermill.inspect_notebook(str(path))
    assert list(shown) and set(shown) == set(provenance.declared(path)), (
        "papermill reads the cell as we do"
    )
    scope: dict = {}
    exec(code_of(path)[0], scope)
    assert {name: scope[name] for name in shown} == {name: getattr(tiny, name) for name in shown}
    kinds = r"(Optional\[)?(int|float|str|bool|list\[(int|float|str)\]|dict\[str, \w+\])\]?"
    for name, about in shown.items():
        assert re.fullmatch(kinds, about["inferred_type_name"]), (
            f"{name}: papermill cannot inspect its type"
        )
        assert about["help"] and ";" not in about["help"], f"{name} needs its comment, without ;"
        optional = type(None) in getattr(fields.FIELDS[name].annotation, "__args__", ())
        assert about["inferred_type_name"].startswith("Optional") == optional, name
