"""An error raised through Python speaks of arguments, the same one on the command line of options.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from dpgen import DPDM, Hardware, PublicFacts, load, open_images
from dpgen.arguments import ARGUMENTS, as_typed, in_python, speaks_python
from tests.commands import dpgen

ROOT = Path(__file__).parents[1] / "dpgen"
# Rooms that only the command line reaches, and texts that quote a whole command.
COMMANDS = (
    "commands", "benchmark", "evaluation", "exports", "release", "synthetic", "auditing", "report",
    "privacy/verification", "privacy/statements/mixture.py", "methods/advice.py", "arguments.py",
)  # fmt: skip
OF_COMMANDS = dict.fromkeys(("set", "raise", "explain", "raw"))


def _strings(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def test_every_option_in_a_message_that_python_can_meet_has_an_argument() -> None:
    found: dict[str, str] = {}
    for path in ROOT.rglob("*.py"):
        name = str(path.relative_to(ROOT))
        if name.startswith(COMMANDS):
            continue
        for text in _strings(path):
            found |= {option: name for option in re.findall(r"(?<!\S)--([a-z][a-z-]+)", text)}
    assert len(found) > 8
    assert {o: n for o, n in found.items() if o not in ARGUMENTS | OF_COMMANDS} == {}


def test_every_argument_is_one_that_a_function_has() -> None:
    known = {
        *inspect.signature(open_images).parameters, *inspect.signature(DPDM.fit).parameters,
        *inspect.signature(Hardware).parameters, *inspect.signature(DPDM.sample).parameters,
    }  # fmt: skip
    for form, _, _ in ARGUMENTS.values():
        assert set(re.findall(r"(\w+)=", form)) <= known


@pytest.mark.parametrize(
    ("typed", "spoken"),
    [
        ("give all one size with --size", "give all one size with size="),
        ("crop it, or take --size 32", "crop it, or take size=32"),
        ("use --channels 1 or 3", "use channels=1 or 3"),
        ("with --value-range LOW,HIGH", "with value_range=(LOW, HIGH)"),
        ("use --split all or name one", "use split='all' or name one"),
        ("as --classes 0,499,998", "as classes=[0, 499, 998]"),
        (
            "with --classes N or --classes NAME,NAME (classes=N in Python), as",
            "with classes=N or classes=[NAME, NAME], as",
        ),
        ("--allow-unverified (allow_unverified=True) runs it", "allow_unverified=True runs it"),
        ("--ledger NEWFILE --overlap charge", "ledger='NEWFILE' overlap='charge'"),
        ("Use --ledger /a/b.jsonl, or", "Use ledger='/a/b.jsonl', or"),
        ("(--micro-batch 8)", "(hardware=Hardware(micro_batch=8))"),
        ("use --max-records-per-unit 3", "use max_records_per_unit=3"),
        (
            "--unit needs --max-records-per-unit M (unit= and max_records_per_unit= in Python)",
            "unit= needs max_records_per_unit=M",
        ),
        ("in the folder, as --unit folder says", "in the folder, as unit='folder' says"),
        ("dpgen ledger --raise EPSILON --ledger /a", "dpgen ledger --raise EPSILON --ledger /a"),
        ("dpgen verify --explain prints them", "dpgen verify --explain prints them"),
        ("--sizes and --splitting stay", "--sizes and --splitting stay"),
    ],
)
def test_options_become_arguments_and_quoted_commands_stay(typed: str, spoken: str) -> None:
    assert in_python(typed) == spoken


def test_the_command_line_still_says_what_is_typed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4))
    with pytest.raises(ValueError, match=r"declare them with classes=N or classes=\[NAME, NAME\]"):
        open_images(tmp_path / "a.npz")
    typed = dpgen("train", "dpdm", "--data", tmp_path / "a.npz", "--epsilon", 1, "--out",
                  tmp_path / "run")  # fmt: skip
    assert typed.exit_code == 2 and "--classes N or --classes NAME,NAME" in typed.stderr


def test_fit_and_load_speak_of_arguments_too(tmp_path: Path) -> None:
    float_images = np.zeros((4, 8, 8), np.float32)
    with pytest.raises(ValueError, match=r"with value_range=\(LOW, HIGH\)"):
        DPDM(epsilon=1).fit(float_images)
    (tmp_path / "notice.json").write_text("{}")
    with pytest.raises(ValueError, match="verified; allow_unverified=True uses it all the same"):
        load(tmp_path)
    facts = PublicFacts((1, 16, 16), ("all",), 4)
    with pytest.raises(ValueError, match="resize with size= and channels=, or correct"):
        open_images(np.zeros((4, 8, 8), np.uint8), facts=facts)


def test_an_error_passed_through_two_functions_keeps_what_was_typed() -> None:
    @speaks_python
    def inner() -> None:
        raise ValueError("use --split all")

    with pytest.raises(ValueError, match="use split='all'") as caught:
        speaks_python(inner)()
    assert as_typed(caught.value) == "use --split all"
