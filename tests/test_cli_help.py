"""Help pages: whole names, keys of a file as they are read, and what an interruption leaves."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

import click
import pytest

import dpgen as dpgen_package
from dpgen.commands.cli import RESUMED, main
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
