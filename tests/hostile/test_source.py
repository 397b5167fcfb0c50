"""No line of the package unpickles, evaluates or extracts what it was given."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("dpgen", "samplers", "scripts", "tests/faults")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
FORBIDDEN = {
    "eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "dill.load", "dill.loads", "joblib.load", "cloudpickle.load", "cloudpickle.loads",
    "marshal.load", "marshal.loads", "shelve.open", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "os.system", "torch.jit.load", "torch.hub.load", "pandas.read_pickle",
    "torch.package.PackageImporter", "shutil.unpack_archive",
}  # fmt: skip
METHODS = {"extract", "extractall"}  # of archives, but with filter="data"
ONLY_WITH = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False)}
# A TorchScript file of features is code that its user names, and is told to trust: there alone.
MEANT = {"dpgen/evaluation/own_features.py": ["torch.jit.load"]}


def faults(source: str) -> list[str]:
    """What a text calls, or hands on, that may run what a file holds."""
    tree = ast.parse(source)
    named = dict(_imports(tree))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = []
    for node in ast.walk(tree):
        name = _dotted(node, named)
        if name in FORBIDDEN and not (name == "compile" and not isinstance(node, ast.Name)):
            found.append(name)
        if name in ONLY_WITH:
            keyword, wanted = ONLY_WITH[name]
            call = called.get(id(node))
            given = [k.value for k in call.keywords if k.arg == keyword] if call else []
            if [getattr(value, "value", None) for value in given] != [wanted]:
                found.append(name)
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            call = called.get(id(node))
            filters = [k.value for k in call.keywords if k.arg == "filter"] if call else []
            if [getattr(value, "value", None) for value in filters] != ["data"]:
                found.append(node.attr)
    return found


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname or alias.name.split(".")[0]), (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.AST, named: dict[str, str]) -> str:
    """The full name that an expression stands for, "" for others."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([named.get(node.id, node.id), *reversed(parts)])


def test_nothing_that_a_file_holds_is_run() -> None:
    found = {str(p.relative_to(ROOT)): faults(p.read_text(encoding="utf-8")) for p in FILES}
    assert len(found) > 200 and {name: calls for name, calls in found.items() if calls} == MEANT


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load(f)",
        "import torch; torch.load(f, weights_only=False)",
        "import torch as t; t.load(f, weights_only=flag)",
        "from torch import load; load(f)",
        "import torch; read = torch.load",
        "import numpy as np; np.load(f)",
        "import numpy as np; np.load(f, allow_pickle=True)",
        "import pickle; pickle.loads(b)",
        "from pickle import loads as parse; parse(b)",
        "import yaml; yaml.load(f)",
        "eval(text)",
        "exec(text)",
        "import tarfile; tarfile.open(f).extractall()",
        "import tarfile; tarfile.open(f).extractall(p, filter='tar')",
        "archive.extract(member)",
        "import shutil; shutil.unpack_archive(f)",
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load(f, weights_only=True)",
        "import numpy as np; np.load(f, allow_pickle=False)",
        "import tarfile; tarfile.open(f).extractall(p, filter='data')",
        "import re; re.compile('a'); module.eval(); import pickle; pickle.UnpicklingError",
    ],
)
def test_the_search_finds_nothing_else(source: str) -> None:
    assert not faults(source)
