"""Imports run one way: the table of rooms is the architecture, and this keeps it true."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = {
    "privacy", "cosines", "files", "fourier", "gabor", "warps", "_torchvision", "progress",
    "settings", "tensors",
}  # fmt: skip
ALLOWED: dict[str, set[str]] = {
    "samplers": set(),
    "files": set(),
    "tensors": {"files"},
    "privacy": {"files"},
    "cosines": set(),
    "fourier": set(),
    "gabor": set(),
    "warps": set(),
    "_torchvision": set(),
    "progress": set(),
    "settings": {"files"},
    "data": {"files", "privacy"},
    "networks": {"samplers", "cosines", "fourier", "gabor", "warps", "_torchvision"},
    "score_matching": {"samplers"},
    "matching": {"networks", "progress", "warps"},
    "checkpoint": {"files", "networks", "privacy", "tensors"},
    "run_folder": {"checkpoint", "files", "privacy"},
    "workplace": {"run_folder"},
    "distillation_settings": {"samplers"},
    "distillation": {"checkpoint", "distillation_settings", "networks", "progress", "samplers"},
    "stages": {
        "data", "networks", "checkpoint", "distillation", "distillation_settings", "matching",
        "score_matching", "workplace", "samplers", *CORE,
    },
    "evaluation": {"data", "networks", *CORE},
    "auditing": {"data", "networks", "evaluation", *CORE},
    "released": {"networks", *CORE},
    "drawing": {"data", "networks", "samplers"},
    "fitted": {"drawing", "data", "networks", "samplers", *CORE},
    "generator": {
        "fitted", "released", "data", "networks", "evaluation", "run_folder", "workplace",
        "samplers", *CORE,
    },
    "configurations": {
        "stages", "distillation_settings", "data", "networks", "samplers", *CORE
    },
    "methods": {
        "configurations", "generator", "stages", "distillation", "data", "networks", "workplace",
        "samplers", *CORE,
    },
    "synthesis": {"generator", "drawing", "networks", "data", "evaluation", "samplers", *CORE},
    "mixing": {"data", *CORE},
    "reports": {"generator", "data", "workplace", *CORE},
    "scores": {"evaluation", *CORE},
    "scoring": {"scores", "data", "evaluation", *CORE},
    "cell": {"methods", "generator", "data", "evaluation", "workplace", *CORE},
    "planned": {"methods", "data", *CORE},
    "auditor": {"auditing", "generator", "data", "workplace", *CORE},
    "benchmarking": {"cell", "data", "evaluation", *CORE},
    "commands": {
        "methods", "auditing", "auditor", "benchmarking", "evaluation", "mixing", "planned",
        "reports", "scoring", "synthesis", "data", "workplace", *CORE,
    },
    "cli": {"commands", "privacy"},
    "__main__": {"cli"},
}  # fmt: skip
LATE = {("generator", "methods")}  # `load` finds a class by its id when it is called


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "samplers" if parts[0] == "samplers" else parts[1] if parts[1] != "__init__" else "dpgen"


def imported_rooms(path: Path) -> set[tuple[str, bool]]:
    """(room, whether at module level) of every import of ours."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typing_only:
            inner = [f"dpgen.{a.name}" for a in node.names if node.module == "dpgen"]
            names = [node.module, *inner]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "samplers":
                found.add(("samplers", node in tree.body))
            elif parts[0] == "dpgen" and len(parts) > 1:
                found.add((parts[1], node in tree.body))
    return found


FILES = sorted(p for folder in ("dpgen", "samplers") for p in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    here = room(path)
    if here == "dpgen":
        assert not imported_rooms(path), "the package itself imports lazily"
        return
    for there, at_module_level in imported_rooms(path):
        late = (here, there) in LATE and not at_module_level
        assert there == here or there in ALLOWED[here] or late, f"{here} must not import {there}"


def test_methods_never_import_each_other() -> None:
    for path in (ROOT / "dpgen" / "methods").glob("[a-z]*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        modules = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
        assert not [module for module in modules if module.startswith("dpgen.methods")]


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        ready = {name for name, needs in ALLOWED.items() if name not in done and needs <= done}
        assert ready, f"a cycle among {sorted(set(ALLOWED) - done)}"
        done |= ready
