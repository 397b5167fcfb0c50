from __future__ import annotations

import ast
import sys
from pathlib import Path

import samplers


def test_every_public_name_exists_and_is_listed_once() -> None:
    assert len(set(samplers.__all__)) == len(samplers.__all__)
    assert [name for name in samplers.__all__ if not hasattr(samplers, name)] == []


def test_samplers_import_nothing_but_torch_and_the_standard_library() -> None:
    allowed = {"torch", "samplers", *sys.stdlib_module_names}
    roots = set()
    for path in Path(samplers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name} has a relative import"
                roots.add((node.module or "").split(".")[0])
    assert roots - allowed == set()
    assert "torch" in roots
