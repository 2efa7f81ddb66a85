"""What the cell of a notebook assigns."""

import ast
from typing import Any


def assigned(source: str) -> dict[str, Any]:
    """The names that a cell assigns at top level, with their values (None if not a constant)."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a cell with a magic
        return {}
    values = {}
    for node in body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                values[target.id] = getattr(node.value, "value", None)
    return values
