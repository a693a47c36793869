"""Whether a test that a text names is there, without collecting it."""

from __future__ import annotations

import ast
import functools
from pathlib import Path


@functools.cache
def _tests(path: Path) -> dict[str, set[str]]:
    """Each test of a file, and what stands in its decorators: its parameters' ids among that."""
    if not path.exists():
        return {}
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {
        function.name: {
            str(node.value)
            for decorator in function.decorator_list
            for node in ast.walk(decorator)
            if isinstance(node, ast.Constant)
        }
        for function in functions
    }


def is_there(path: Path, name: str, parameter: str = "") -> bool:
    return name in _tests(path) and (not parameter or parameter in _tests(path)[name])
