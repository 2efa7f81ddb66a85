"""The house as it stands: wings, files, lines, and which wing imports which (make house).

Imports run down only: a wing may import the wings that stand before it in WINGS, and no module may
reach itself. Exits with 1, and says why, where that does not hold.
"""

from __future__ import annotations

import ast
import graphlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pandas as pd

from sm70lib.parameters.tables import named_modules
from sm70lib.study.params import LIB, ROOT

# From the bottom to the top; a file beside the wings is a wing of its own.
WINGS = (
    "untrusted",
    "parameters",
    "study",
    "live",
    "unexecuted",
    "records",
    "steps",
    "statistics",
    "sources",
    "benchmarks",
    "corpus",
    "preparing",
    "protocols",
    "models",
    "serving",
    "sizes",
    "training",
    "asking",
    "inspection",
    "evaluation",
    "judging",
    "tiny",
    "presentation",
    "analysis",
    "composition",
    "mistakes",
    "beside",
    "measures",
    "claims",
    "display",
    "reporting",
    "behind",
    "cards",
    "guidelines",
    "ending",
    "planning",
    "smollm2",
    "report",
    "lab",
    "preflight",
    "kernels",
    "runner",
    "standins",
    "rehearsal",
    "__main__",
)
CATALOGUES = ("benchmarks", "protocols")  # wings with a file for each entry: as many as there are
# Read JSON or weights, and have no argument `trust_remote_code`
RUN_NO_CODE = ("GenerationConfig", "PeftConfig", "PeftModel", "AutoHfQuantizer")
RUN_ANY_TEXT = "eval exec os.system torch.load pickle.load pickle.loads yaml.unsafe_load".split()
OF_OUR_OWN = ("sm70lib.rehearsal.first_steps",)  # executes cells of this repository's notebooks
MOST_FILES, MOST_LINES, MOST_OF_A_FUNCTION = 10, 250, 40


def library() -> list[Path]:
    """All modules of the library."""
    return sorted(LIB.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """What Python makes of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def module(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def wing(name: str) -> str:
    """The wing of a module; "" for the library itself."""
    return name.split(".")[1] if "." in name else ""


@cache
def imports() -> dict[str, tuple[set[str], set[str]]]:
    """For each module the modules of this library, and the other packages, that it imports."""
    names = {module(path) for path in library()}
    return {module(path): _imports(path, names) for path in library()}


def _imports(path: Path, own: set[str]) -> tuple[set[str], set[str]]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute, as provenance follows them"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & own or {str(node.module)}
    if path.stem == "catalogue":  # it imports what the lines of its table name
        tables = path.parent.glob("*.csv")
        found |= {module(entry) for table in tables for entry in named_modules(table)}
    return found & own, {name.split(".")[0] for name in found - own}


def faults() -> list[str]:
    """What stands against the rules, one sentence each: arrows, circles, sizes, code of others."""
    return [*_arrows(), *_circles(), *_sizes(), *_strangers()]


def packages(folder: Path) -> set[str]:
    """The packages of others that the modules and the notebooks below a folder import."""
    found = set()
    for node in (node for _, whole in _code(folder) for node in ast.walk(whole)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found - set(sys.stdlib_module_names) - {"sm70lib", "tests"}


def _code(folder: Path) -> list[tuple[str, ast.Module]]:
    """Every module and notebook below a folder: its name, and what Python makes of it."""
    parsed = [(path.name, tree(path)) for path in sorted(folder.rglob("*.py"))]
    for path in sorted(folder.glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        parsed.append((path.name, ast.parse("\n".join(code))))
    return parsed


def loads() -> list[tuple[str, ast.Call]]:
    """Where models, tokenizers and configurations are loaded: every place, and the call there."""
    parsed = [*_code(LIB), *_code(ROOT / "notebooks")]
    calls = [(name, node) for name, whole in parsed for node in ast.walk(whole)]
    return [(f"{name}, line {node.lineno}", node) for name, node in calls if _loads(node)]


def _loads(node: ast.AST) -> TypeGuard[ast.Call]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr not in ("from_pretrained", "from_config"):
        return False
    return not (isinstance(node.func.value, ast.Name) and node.func.value.id in RUN_NO_CODE)


def _strangers() -> list[str]:
    """Calls that might run code which came with a model, and calls that run any text."""
    said = []
    for place, call in loads():
        given = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
        if given.get("trust_remote_code") is not False:
            said.append(f"{place}: from_pretrained without trust_remote_code=False")
        weights = "from_pretrained" in ast.unparse(call.func) and "Model" in ast.unparse(call.func)
        if weights and given.get("use_safetensors") is not True and "gguf_file" not in given:
            said.append(f"{place}: from_pretrained without use_safetensors=True")
    for path in (path for path in library() if module(path) not in OF_OUR_OWN):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in RUN_ANY_TEXT:
                said.append(f"{module(path)}, line {node.lineno}: {ast.unparse(node.func)}")
    return said


def _arrows() -> list[str]:
    unknown = {wing(name) for name in imports()} - {"", *WINGS}
    said = [f"{name} has no place in WINGS" for name in sorted(unknown)]
    places = {name: place for place, name in enumerate(WINGS)}
    for name, (own, _) in imports().items():
        for other in sorted(own):
            if places.get(wing(other), -1) > places.get(wing(name), -1):
                said.append(f"{name} imports {other}, which stands above it")
    return said


def _circles() -> list[str]:
    try:
        tuple(
            graphlib.TopologicalSorter({k: own for k, (own, _) in imports().items()}).static_order()
        )
    except graphlib.CycleError as error:
        return [f"a circle of imports: {' -> '.join(error.args[1])}"]
    return []


def _sizes() -> list[str]:
    said = []
    for name in (name for name in WINGS if (LIB / name).is_dir() and name not in CATALOGUES):
        count = len([path for path in (LIB / name).glob("*.py") if path.stem != "__init__"])
        if count > MOST_FILES:
            said.append(f"{name} has {count} files, at most {MOST_FILES}")
    for path in library():
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > MOST_LINES:
            said.append(f"{module(path)} has {len(text.splitlines())} lines, at most {MOST_LINES}")
        for node in ast.walk(tree(path)):
            said += _statement(node, module(path))
    return said


def _statement(node: ast.AST, name: str) -> list[str]:
    """What one node of a module's tree has against the rules."""
    if isinstance(node, ast.FunctionDef) and length(node) > MOST_OF_A_FUNCTION:
        return [f"{name}.{node.name} has {length(node)} lines, at most {MOST_OF_A_FUNCTION}"]
    inner = [part for part in ast.walk(node) if part is not node]
    if isinstance(node, ast.IfExp) and any(isinstance(part, ast.IfExp) for part in inner):
        return [f"{name}, line {node.lineno}: a conditional inside a conditional"]
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    if isinstance(node, comprehensions) and any(isinstance(part, ast.NamedExpr) for part in inner):
        return [f"{name}, line {node.lineno}: an assignment inside a comprehension"]
    return []


def length(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    last = function.end_lineno or function.lineno
    lines = last - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def table() -> pd.DataFrame:
    """A row for each wing, from the top to the bottom: files, lines, and the wings it imports."""
    rows = []
    for name in reversed(WINGS):
        paths = [path for path in library() if wing(module(path)) == name]
        lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
        below = {wing(other) for path in paths for other in imports()[module(path)][0]} - {name, ""}
        rows.append([name, len(paths), lines, ", ".join(sorted(below, key=WINGS.index))])
    return pd.DataFrame(rows, columns=["wing", "files", "lines", "imports"])


def main() -> int:
    """Prints the table and what stands against the rules."""
    rows = table()
    print(rows.to_markdown(index=False))
    print(f"\n{rows['files'].sum()} files, {rows['lines'].sum():,} lines")
    for fault in (found := faults()):
        print(f"error: {fault}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
