"""No method of any client library is left out of this suite."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent


def exercised() -> set[str]:
    """The names of everything that a test of this suite reads of a library's client, which it calls ``raw``."""
    found = set()
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2] == "raw":
                found.add(node.attr)
    return found


def test_every_method_is_exercised(library: ModuleType) -> None:
    methods = {name for name in dir(library.InferenceServerClient) if not name.startswith("_")}
    assert methods - exercised() == set()
