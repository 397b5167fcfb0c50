"""What `import dpgen` promises: every public name is there, also after its home has moved."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dpgen
from dpgen.methods import METHODS, find_settings
from dpgen.settings import leaves


@pytest.mark.parametrize("name", dpgen.__all__)
def test_every_public_name_is_found_where_the_package_says_that_it_lives(name: str) -> None:
    assert getattr(dpgen, name) is not None


def test_what_is_public_and_what_has_a_home_are_the_same() -> None:
    assert sorted(dpgen._HOMES) == sorted(dpgen.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = dpgen.lode


def test_completion_offers_every_public_name_without_importing_torch() -> None:
    code = "import sys, dpgen; print(set(dpgen.__all__) - set(dir(dpgen)), 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["set()", "False"]


def test_type_checkers_see_what_python_finds() -> None:
    tree = ast.parse(Path(dpgen.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == dpgen._HOMES


@pytest.mark.parametrize("method", METHODS)
def test_every_class_of_settings_that_a_certified_mode_takes_is_public(method: str) -> None:
    groups = {leaf.hint.__name__ for leaf in leaves(find_settings(method)) if leaf.is_group}
    followed = {"Architecture", "Variant"}  # of the weights of others, and not chosen
    assert groups - {"PaperSettings"} - followed <= set(dpgen.__all__)
