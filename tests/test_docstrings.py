"""A docstring of a function says first what the function does, and the public ones have one.

The first word is a verb in the third person: Returns, Computes, Draws. The help of a command is for
the command line and is written as commands are: Train, Write.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import dpgen
import samplers

ROOT = Path(__file__).parents[1]
PACKAGES = ("dpgen", "samplers", "scripts")
# A word such as Names or Calls is a verb, unless one of these follows: "Calls of the score".
VERB = re.compile(r"(?P<word>[A-Z][a-z]+[a-rt-z]s)\b(?! (?:of|per)\b)")
# Words with the same ending that begin a phrase and no sentence.
NOUNS = frozenset(
    "Always Bytes Candidates Cells Classes Coefficients Columns Coordinates Epsilons Evaluations "
    "Files Folders Images Items Keys Lines Logarithms Logits Milliseconds Multipliers Mutants "
    "Networks Numbers Operations Pairs Parameters Pixels Positions Rows Samples Seconds Settings "
    "Stages Tables Tensors This Tuples Units Values Whereas Words".split()
)


def begins_with_a_verb(docstring: str) -> bool:
    found = VERB.match(docstring)
    return found is not None and found["word"] not in NOUNS


def is_command(function: ast.FunctionDef) -> bool:
    """Returns whether a decorator makes the docstring the help text of a command."""
    calls = (one.func for one in function.decorator_list if isinstance(one, ast.Call))
    return any(isinstance(one, ast.Attribute) and one.attr == "command" for one in calls)


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (place, docstring) of every function, method and property of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and not is_command(node):
            text = ast.get_docstring(node)
            if text is not None:
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {text[:60]!r}", text


@pytest.mark.parametrize(
    "text", ["Returns the sum.", "Draws B images.", "Does nothing.", "Names the method that runs."]
)
def test_a_verb_in_the_third_person_is_recognised(text: str) -> None:
    assert begins_with_a_verb(text)


@pytest.mark.parametrize(
    "text",
    [
        "The sum of all records.", "Whether a run is finished.", "Return the sum.",
        "(B, D) float64.", "How many records there are.", "Names of the classes.",
        "Calls of the score.", "Loss of B.",
        "Records of a batch.", "Seconds by process.",
        "Pixels (B, C, H, W).", "As `plan`, for one mode.", "returns the sum",
    ],
)  # fmt: skip
def test_nouns_questions_imperatives_and_shapes_are_no_verbs(text: str) -> None:
    assert not begins_with_a_verb(text)


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_of_functions_begin_with_a_verb(package: str) -> None:
    found = [one for path in sorted((ROOT / package).rglob("*.py")) for one in docstrings(path)]
    assert found
    assert [place for place, text in found if not begins_with_a_verb(text)] == []


def test_the_help_of_a_command_begins_with_an_imperative() -> None:
    helps = [
        (f"{path.name} {node.name}", ast.get_docstring(node) or "")
        for path in sorted((ROOT / "dpgen" / "commands").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and is_command(node)
    ]
    assert len(helps) > 10
    others = ("The", "A", "An", "All", "Every", "Each", "What", "Which", "How", "Data", "FID")
    assert [place for place, text in helps if text.split()[0] in others] == []
    assert [place for place, text in helps if begins_with_a_verb(text)] == []


NAMES = [(package, name) for package in (dpgen, samplers) for name in package.__all__]


@pytest.mark.parametrize(("package", "name"), NAMES, ids=[name for _, name in NAMES])
def test_public_functions_classes_and_their_methods_have_docstrings(
    package: ModuleType, name: str
) -> None:
    one = getattr(package, name)
    if inspect.isfunction(one):
        assert one.__doc__
    if inspect.isclass(one):
        assert one.__doc__
        assert [m for m in public_members(one) if not inspect.getdoc(getattr(one, m))] == []


def public_members(one: type) -> Iterator[str]:
    """Yields the names of a class' methods and properties, inherited ones of ours included."""
    for base in one.__mro__:
        if base.__module__.split(".")[0] in ("dpgen", "samplers"):
            for name, member in vars(base).items():
                is_member = inspect.isroutine(member) or isinstance(member, property)
                if is_member and not name.startswith("_"):
                    yield name
