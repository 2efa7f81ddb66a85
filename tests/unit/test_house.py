"""The house as a whole: which way imports run, dependencies, names, canonical notebooks."""

import json
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import papermill
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sm70lib.parameters import fields
from sm70lib.steps import steps
from sm70lib.study import provenance
from sm70lib.study.params import ROOT
from tests import house

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PIN = re.compile(r"^([^#=]+)==([^ \n]+)", re.MULTILINE)


# ---- the wings ---------------------------------------------------------------------------------


def test_imports_run_down_and_nothing_is_large():
    assert len(house.library()) > 100
    assert {house.wing(name) for name in house.imports()} == {"", *house.WINGS}
    assert house.faults() == []
    below = {house.wing(name) for name in GRAPH["sm70lib.parameters.values"][0]}
    assert below == {"parameters", "untrusted"}, "the parameters are at the bottom"
    assert GRAPH["sm70lib.parameters.tables"][0] == GRAPH["sm70lib.parameters.own"][0] == set()
    assert GRAPH["sm70lib.benchmarks.catalogue"][0] >= {"sm70lib.benchmarks.medqa"}


def test_an_import_upwards_a_circle_and_a_dense_statement_are_faults(tmp_path, monkeypatch):
    """A small house with one fault of each kind."""
    files = {
        "study/a.py": "from sm70lib.runner import b\n",
        "study/c.py": "from sm70lib.study import d\n",
        "study/d.py": "from sm70lib.study import c\nx = [y for z in () if (y := z)]\n",
        "runner.py": "b = 1 if 2 else 3 if 4 else 5\n",
        "cellar/e.py": "\n" * 251,
    }
    for name, text in files.items():
        path = tmp_path / "sm70lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setattr(house, "LIB", tmp_path / "sm70lib")
    house.imports.cache_clear()
    said = house.faults()
    house.imports.cache_clear()
    for part in ("stands above", "circle", "inside a comp", "inside a cond", "WINGS", "251 lines"):
        assert [line for line in said if part in line], part
    assert len(said) == 6


def test_no_code_that_came_with_a_model_is_run(tmp_path, monkeypatch):
    """Every place that loads a model, a tokenizer or a configuration says so."""
    assert len(house.loads()) >= 9 and house._strangers() == []
    module = tmp_path / "sm70lib/models/a.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "AutoTokenizer.from_pretrained(x)\nAutoConfig.from_pretrained(x, trust_remote_code=yes)\n"
        "AutoModelForCausalLM.from_pretrained(x, trust_remote_code=False)\n"
        "LlamaConfig.from_pretrained(x)\nPeftConfig.from_pretrained(x)\neval(x)\n"
    )
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setattr(house, "LIB", tmp_path / "sm70lib")
    assert [line.partition(": ")[2] for line in house._strangers()] == [
        "from_pretrained without trust_remote_code=False",
        "from_pretrained without trust_remote_code=False",
        "from_pretrained without use_safetensors=True",
        "from_pretrained without trust_remote_code=False",
        "eval",
    ]


GRAPH = house.imports()


@cache
def reached(name: str) -> set[str]:
    """Packages that an import of a module loads, directly or through this library."""
    own, others = GRAPH[name]
    return others.union(*(reached(below) for below in own))


SLOW = {"torch", "transformers", "datasets", "peft", "trl", "bitsandbytes", "lm_eval"}
QUICK = [
    "study.params",
    "study.provenance",
    "steps.steps",
    "runner",
    "statistics.stats",
    "analysis.frames",
    "analysis.tables",
    "analysis.figures",
    "claims.scorecard",
    "report",
]


@pytest.mark.parametrize("name", QUICK)
def test_quick_modules_import_no_deep_learning(name):
    assert reached(f"sm70lib.{name}") & SLOW == set()


def test_the_notebook_of_training_imports_no_trainer():
    """The trainer runs in a process of its own; the notebook would wait 5 s for nothing."""
    code = "import sys; from sm70lib.training import launch, rows; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "sm70lib.training.rows" in loaded, done.stderr
    assert loaded & {"trl", "bitsandbytes", "transformers.trainer"} == set()
    assert "trl" in reached("sm70lib.training.trainers"), "that is where it is needed"


# ---- one list of dependencies ------------------------------------------------------------------


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_is_exact_and_fits_the_project():
    optional = PROJECT["optional-dependencies"]
    texts = PROJECT["dependencies"] + optional["small"] + optional["test"]
    wanted = [Requirement(text) for text in texts]
    pins = PIN.findall(CONSTRAINTS)
    assert len(wanted) >= 25 and len(pins) > 150
    for requirement in wanted:
        name = canonical(requirement.name)
        versions = [version for pinned, version in pins if canonical(pinned) == name]
        assert versions, requirement
        assert all(version in requirement.specifier for version in versions), requirement
    assert not [version for _, version in pins if not re.fullmatch(r"[0-9][0-9a-z.]*", version)]
    assert {canonical(name) for name in provenance.PACKAGES} <= {canonical(r.name) for r in wanted}


def test_all_but_torch_is_locked_by_hash():
    """Of torch there is one file for each kind of machine, so make's second line fetches it."""
    hashed = re.findall(
        r"^(\S+==.+?)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", LOCK, re.MULTILINE
    )
    assert len(hashed) == len(PIN.findall(LOCK)) > 150
    pins = set(PIN.findall(CONSTRAINTS))
    assert pins - set(PIN.findall(LOCK)) == {("torch", "2.13.0")}
    assert set(PIN.findall(LOCK)) <= pins
    [alone] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"][
        "dependency-metadata"
    ]
    assert f"torch=={alone['version']}" in PROJECT["dependencies"]
    theirs = {Requirement(text).name for text in requires("torch") if "extra ==" not in text}
    assert set(alone["requires-dist"]) == {name for name in theirs if "nvidia" not in name}


def test_every_package_that_is_imported_is_declared():
    """A package that only comes with another one is gone when that one does without it."""
    comes_as = packages_distributions()

    def undeclared(folders: list[str], groups: list[str]) -> list[str]:
        declared = {canonical(Requirement(text).name) for text in groups}
        imported = set().union(*(house.packages(ROOT / folder) for folder in folders))
        assert len(imported) > 20
        names = {
            name: {canonical(each) for each in comes_as.get(name, [name])} for name in imported
        }
        return sorted(name for name, known in names.items() if not known & declared)

    optional = PROJECT["optional-dependencies"]
    own = PROJECT["dependencies"]
    assert undeclared(["sm70lib", "notebooks"], own) == []
    theirs = ["datatrove"]  # of trove.py, which runs in an environment of its own
    assert undeclared(["tests"], own + optional["test"] + optional["small"]) == theirs
    without = [text for text in own if not text.startswith("pillow")]
    assert undeclared(["sm70lib"], without) == ["PIL"], "so that the test can fail"


def test_conda_gets_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, nested = environment["dependencies"]
    assert python.split("=")[1] in SpecifierSet(PROJECT["requires-python"]) and pip == "pip"
    assert nested["pip"] == ["-c constraints.txt", "-e .[small,test]"]


def test_ci_runs_the_tests_and_nothing_else():
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make test"
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


# ---- one list of names -------------------------------------------------------------------------


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
    """The names that a parameter (or each entry of its list) may be; paths not counted."""
    schema = fields.Study.model_json_schema()["properties"][name]
    schema = schema.get("items", schema)
    schema = schema.get("oneOf", [schema])[0]
    return set(schema.get("enum", [schema.get("const")]))


def test_choices_are_those_of_the_rooms():
    from sm70lib import benchmarks, protocols, sources
    from sm70lib.corpus import templates

    assert values("data_sources") == values("base_text") == set(sources.SOURCES)
    assert values("eval_benchmarks") == set(benchmarks.BENCHMARKS)
    assert values("eval_primary_benchmarks") == {*benchmarks.BENCHMARKS, "usmle"}
    assert values("eval_protocols") == {protocol.name for protocol in protocols.PROTOCOLS}
    assert values("data_template") == {*templates.TEMPLATES, templates.CHAT}


# ---- notebooks ---------------------------------------------------------------------------------


def test_notebooks_are_counted():
    names = [path.stem for path in NOTEBOOKS]
    assert names == [*steps.STEPS, "07_ask"]
    declared = {name for path in NOTEBOOKS for name in provenance.declared(path)}
    assert declared == set(fields.FIELDS)


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
    tiny = yaml.safe_load((ROOT / "params/tiny.yml").read_text())
    shown = papermill.inspect_notebook(str(path))
    assert list(shown) and set(shown) == set(provenance.declared(path)), (
        "papermill reads the cell as we do"
    )
    scope: dict = {}
    exec(code_of(path)[0], scope)
    assert {name: scope[name] for name in shown} == {name: tiny[name] for name in shown}
    kinds = r"(Optional\[)?(int|float|str|bool|list\[(int|float|str)\]|dict\[str, \w+\])\]?"
    for name, about in shown.items():
        assert re.fullmatch(kinds, about["inferred_type_name"]), (
            f"{name}: papermill cannot inspect its type"
        )
        assert about["help"] and ";" not in about["help"], f"{name} needs its comment, without ;"
        optional = type(None) in getattr(fields.FIELDS[name].annotation, "__args__", ())
        assert about["inferred_type_name"].startswith("Optional") == optional, name


def test_workers_see_the_groups_of_tests(request):
    """xdist writes a group into the ids of its tests; under a pytest that it does not know it
    groups nothing, and what the tests of a file share is made again for each.
    """
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    assert request.node.nodeid.endswith("@unit-test_house") == in_worker
