"""Help pages: whole names, keys of a file as they are read, and what an interruption leaves."""

from __future__ import annotations

import ast
import math
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

import click
import pytest

import dpgen as dpgen_package
from dpgen.commands.cli import RESUMED, main
from dpgen.commands.questions import QUESTIONS
from dpgen.methods.expectation import FROM
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.release.release_file import ReleaseFile, read_release
from tests.commands import dpgen


@pytest.mark.parametrize("command", main.commands)
def test_no_line_of_a_help_page_is_broken_within_a_name(command: str) -> None:
    page = dpgen(command, "--help").output
    assert not re.search(r"\w-\n", page)
    assert page.isascii()
    for option in main.commands[command].params:
        assert not isinstance(option, click.Option) or option.opts[-1] in page


def test_the_help_of_card_lists_the_keys_that_are_read(tmp_path: Path) -> None:
    _, _, listed = dpgen("card", "--help").output.partition("Keys of release.toml")
    keys = re.findall(r"^  (\w+)  ", listed, flags=re.MULTILINE)
    assert keys == [one.name for one in fields(ReleaseFile)]
    file = tmp_path / "release.toml"
    values = dict.fromkeys(keys, '"x"')
    values |= {"curators": '["a", "b"]', "publication_date": "2026-01-31"}
    file.write_text("\n".join(f"{key} = {value}" for key, value in values.items()))
    assert read_release(file).missing == []


def test_every_option_and_command_that_a_message_names_exists() -> None:
    options = {name for one in (main, *main.commands.values()) for option in one.params
               for name in (*option.opts, *option.secondary_opts)}  # fmt: skip
    options |= {"--help", "--raw"}  # --raw is gdcmconv's
    for file in Path(dpgen_package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", node.value))
                assert named <= options, (file.name, node.lineno, named - options)
                called = set(re.findall(r"`dpgen ([a-z]+)", node.value))
                assert called <= set(main.commands), (file.name, node.lineno, called)


@pytest.mark.parametrize("command", ["sample", "evaluate", "train"])
def test_an_interruption_says_whether_the_same_command_goes_on(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: click.Context) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.commands[command], "invoke", interrupted)
    needed = {
        "sample": ["run", "--out", "o"],
        "evaluate": ["set", "--reference", "digits"],
        "train": ["--epsilon", 1, "--out", "o"],
    }
    done = dpgen(command, *needed[command])
    assert done.exit_code == 130
    assert ("goes on where this one stopped" in done.stderr) is (command in RESUMED)
    assert ("starts from the beginning" in done.stderr) is (command not in RESUMED)


def test_a_page_that_nobody_reads_to_its_end_ends_without_a_word() -> None:
    command = [sys.executable, "-m", "dpgen", "settings", "pge"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}
    ) as ran:
        assert ran.stdout is not None and ran.stderr is not None
        ran.stdout.close()
        assert ran.stderr.read() == b""


@pytest.mark.parametrize(
    ("epsilon", "shape", "shapes"), [(3, (1, 28, 28), 200), (3, (3, 32, 32), 390)]
)
def test_the_numbers_of_records_in_the_questions_are_those_that_plans_give(
    epsilon: int, shape: tuple[int, int, int], shapes: int
) -> None:
    """A single release of all classes, at a great number of records."""
    (text,) = [answer for question, answer in QUESTIONS if question.startswith("How many images")]
    assert f"{shapes} " in text and "2.7 times" in text and "a third" in text
    each = {
        e: FROM["shapes"] * math.prod(shape) ** 0.5 / gaussian_mu(Budget(e, 1e-5))
        for e in (1, 3, 10)
    }
    assert each[epsilon] == pytest.approx(shapes, rel=0.03)
    assert each[1] / each[3] == pytest.approx(2.7, rel=0.03)
    assert each[10] / each[3] == pytest.approx(1 / 3, rel=0.1)
    assert FROM["details"] == 4 * FROM["shapes"]
