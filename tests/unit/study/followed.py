"""Finds which parameters a notebook may read, by following them through the code.

They are followed from the notebook's `p` through every call that passes them on, across modules,
and into processes that are started by `-m sm70lib.<module>`, whose main reads them from a file.
"""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sm70lib.parameters.fields import FIELDS
from sm70lib.parameters.stages import STAGES
from sm70lib.study.params import ROOT

KINDS = "|".join(STAGES)

Texts = frozenset[tuple[str, str]]  # names and the text that each stands for


class Module(NamedTuple):
    """A module's functions (methods by plain name), what its names stand for, and its tree."""

    functions: dict[str, ast.FunctionDef]
    names: dict[str, tuple[str, str]]  # alias -> (module, name in it, or "" for the module itself)
    tree: ast.Module


def parsed(source: str) -> Module:
    tree = ast.parse(re.sub(r"(?m)^[%!].*", "", source))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith("sm70lib"):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if path_of(submodule):
                    meaning = (submodule, "")
                else:
                    meaning = (node.module, alias.name)
                names[alias.asname or alias.name] = meaning
    return Module(functions, names, tree)


def path_of(module: str) -> Path | None:
    """The file of a module of this library; None if there is no such module."""
    stem = ROOT.joinpath(*module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def library(module: str) -> Module:
    return parsed(path_of(module).read_text())


def cells(notebook: Path) -> str:
    book = json.loads(notebook.read_text())
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    return "\n".join(
        "".join(cell["source"])
        for cell in code
        if "parameters" not in cell["metadata"].get("tags", ())
    )


# ---- where the parameters go ---------------------------------------------------------------------


def carries(node: ast.AST, bound: set[str]) -> bool:
    """Whether an expression is the parameters: a bound name, a branch, a file's `params`."""
    if isinstance(node, ast.IfExp):
        return carries(node.body, bound) or carries(node.orelse, bound)
    if is_call(node, "SimpleNamespace"):
        return any(
            isinstance(word.value, ast.Subscript) and ast.unparse(word.value.slice) == "'params'"
            for word in node.keywords
        )
    return isinstance(node, ast.Name) and node.id in bound


def is_call(node: ast.AST, name: str) -> bool:
    """Whether a node calls the function of that name."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def bindings(body: ast.AST, bound: set[str]) -> set[str]:
    """The names that stand for the parameters in a function, including those it assigns."""
    pairs = []
    assignments = [node for node in ast.walk(body) if isinstance(node, ast.Assign)]
    for node in assignments:
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs += zip(target.elts, node.value.elts)
            else:
                pairs.append((target, node.value))
    return bound | {
        target.id
        for target, value in pairs
        if isinstance(target, ast.Name) and carries(value, bound)
    }


def arguments(call: ast.Call, function: ast.FunctionDef) -> dict[str, ast.AST]:
    """What a call passes for each of a function's arguments, including defaults."""
    given = call.args[1:] if is_call(call, "partial") else call.args
    own = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    defaults = dict(zip(reversed(own), reversed(function.args.defaults)))
    own = own[1:] if own[:1] == ["self"] else own
    return defaults | dict(zip(own, given)) | {word.arg: word.value for word in call.keywords}


def texts(given: dict[str, ast.AST], function: ast.FunctionDef, known: Texts) -> Texts:
    """The arguments that are one known text throughout the function, such as kind="sft"."""
    stored = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    found = set()
    for name, value in given.items():
        text = dict(known).get(value.id) if isinstance(value, ast.Name) else None
        text = value.value if isinstance(value, ast.Constant) else text
        if isinstance(text, str) and name not in stored:
            found.add((name, text))
    return frozenset(found)


def called(call: ast.Call, home: str, module: Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions that a call may mean: one by name or by module, or every method of that name.

    If the callee is a variable, it may be any function in a table of its module.
    """
    target = call.args[0] if is_call(call, "partial") else call.func
    if (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and target.value.id in module.names
    ):
        where, name = module.names[target.value.id]
        if not name:
            yield from defined(where, target.attr)
    elif isinstance(target, ast.Attribute):
        yield from methods(target.attr)
    elif isinstance(target, ast.Name) and target.id in module.names:
        where, name = module.names[target.id]
        yield from defined(where, name)
    elif isinstance(target, ast.Name) and target.id in module.functions:
        yield home, module.functions[target.id]
    elif isinstance(target, ast.Name):
        others = {where for where, name in module.names.values() if name and name.isupper()}
        for where in sorted({home, *others} - {"cells"}):
            known = module if where == home else library(where)
            yield from ((where, function) for function in in_tables(known))


@cache
def methods(name: str) -> list[tuple[str, ast.FunctionDef]]:
    """The methods of that name in the library, one from each class that has it."""
    return [
        (where, node)
        for where in modules()
        for one_class in library(where).tree.body
        if isinstance(one_class, ast.ClassDef)
        for node in one_class.body
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]


@cache
def modules() -> list[str]:
    """The modules of the library, by their dotted names."""
    paths = sorted((ROOT / "sm70lib").rglob("*.py"))
    dotted = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in dotted]


def defined(where: str, name: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """A function that a module defines or imports."""
    module = library(where)
    if name in module.functions:
        yield where, module.functions[name]
    elif name in module.names and module.names[name][1]:
        yield from defined(*module.names[name])


def in_tables(module: Module) -> list[ast.FunctionDef]:
    """The functions that the dictionaries of a module hold."""
    tables = [
        node.value
        for node in module.tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    ]
    named = {node.id for table in tables for node in ast.walk(table) if isinstance(node, ast.Name)}
    return [module.functions[name] for name in sorted(named & module.functions.keys())]


# ---- what is read of them -----------------------------------------------------------------------


def reads(body: ast.AST, bound: set[str], known: Texts) -> set[str]:
    """Parameters that a function reads: p.NAME, getattr(p, f"{kind}_steps"), a stage's own block.

    In a name that is put together, a part that is not `known` may be any word, and {kind} any
    training stage. A getattr with a default demands no parameter, nor does p.NAME under
    `if "NAME" in ...:`.
    """
    patterns, blocks, asked = set(), set(), set()
    for node in ast.walk(body):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Compare):
            name = node.test.left.value if isinstance(node.test.left, ast.Constant) else None
            asked |= {
                part
                for line in node.body
                for part in ast.walk(line)
                if isinstance(part, ast.Attribute) and part.attr == name
            }
    for node in ast.walk(body):
        if isinstance(node, ast.Attribute) and carries(node.value, bound) and node not in asked:
            patterns.add(node.attr)
        if is_getattr(node) and carries(node.args[0], bound):
            patterns.add(pattern(node.args[1], dict(known)))
        if isinstance(node, ast.Assign) and any(is_vars(part, bound) for part in ast.walk(node)):
            # own = {name[4:]: ... for ... in vars(p) if name.startswith(f"{kind}_")}
            blocks.add(node.targets[0].id)
    patterns |= {
        f"({KINDS})_{node.attr}"
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in blocks
    }
    if any(isinstance(node, ast.Attribute) and node.attr == "settings" for node in ast.walk(body)):
        patterns |= {f"{kind}_{name}" for kind in STAGES for name in STAGES[kind].settings}
    any_pattern = re.compile("|".join(sorted(patterns)))
    return {name for name in FIELDS if patterns and any_pattern.fullmatch(name)}


def is_getattr(node: ast.AST) -> bool:
    return is_call(node, "getattr") and len(node.args) == 2


def is_vars(node: ast.AST, bound: set[str]) -> bool:
    return is_call(node, "vars") and ast.unparse(node.args[0]) in bound


def pattern(name: ast.AST, known: dict[str, str]) -> str:
    """A regular expression for the names that an expression may stand for."""
    if isinstance(name, ast.Constant):
        return re.escape(name.value)
    if not isinstance(name, ast.JoinedStr):
        return "(?!)"  # matches nothing: such names come from a list of declared ones
    found = ""
    for part in name.values:
        said = "" if isinstance(part, ast.Constant) else ast.unparse(part.value)
        any_word = f"({KINDS})" if said.endswith("kind") else "[a-z]+"
        text = known.get(said) if said else part.value
        found += any_word if text is None else re.escape(text)
    return found


@cache
def needed(notebook: Path) -> dict[str, str]:
    """Every parameter that a notebook's code may read, with a function that reads it."""
    found = {}
    seen = set()
    cell = parsed(cells(notebook))
    waiting = [(notebook.stem, cell, cell.tree, frozenset({"p"}), frozenset())]
    while waiting:
        home, module, body, bound, known = waiting.pop()
        here = (home, getattr(body, "name", ""), getattr(body, "lineno", 0), bound, known)
        if here in seen:
            continue
        seen.add(here)
        bound = bindings(body, {*bound})
        found |= dict.fromkeys(reads(body, bound, known), f"{home}.{here[1] or 'cells'}")
        for node in ast.walk(body):
            for where, function in called(node, home, module) if isinstance(node, ast.Call) else ():
                given = arguments(node, function)
                if handed := frozenset(n for n, value in given.items() if carries(value, bound)):
                    fixed = texts(given, function, known)
                    waiting.append((where, library(where), function, handed, fixed))
            if isinstance(node, ast.Constant) and re.fullmatch(r"sm70lib(\.\w+)+", str(node.value)):
                started = library(node.value)  # after -m
                waiting.append((node.value, started, started.functions["main"], *[frozenset()] * 2))
    return found
