"""The page of file schemas names what the source writes and reads, and nothing else."""

from __future__ import annotations

import ast
import re
from importlib.resources import files
from pathlib import Path

import dpgen

SCHEMA = re.compile(r"dpgen-[a-z]+/[0-9]+")
PACKAGE = Path(dpgen.__file__).parent
ELSEWHERE = {"dpgen-privacy/1", "dpgen-scores/1"}  # on the page as versions that nothing reads


def in_source(text: str) -> set[str]:
    """The schemas that are values in a module; docstrings and comments do not count."""
    tree = ast.parse(text)
    told = {
        id(node.value) for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }  # fmt: skip
    values = [
        node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and id(node) not in told
    ]
    return {value.strip() for value in values if SCHEMA.fullmatch(value.strip())}


def in_rows(page: str) -> list[str]:
    """The schemas that have a row of their own."""
    return re.findall(r"^\| `(dpgen-[a-z]+/[0-9]+)` \|", page, re.MULTILINE)


def page() -> str:
    return (files("dpgen.storage") / "schemas.md").read_text(encoding="utf-8")


def test_the_page_has_one_row_for_each_schema_of_the_source_and_no_other() -> None:
    source = set[str]().union(*(in_source(p.read_text()) for p in PACKAGE.rglob("*.py")))
    assert len(source) >= 14  # the search finds what it looks for
    assert sorted(in_rows(page())) == sorted(source)


def test_schemas_that_the_page_names_beside_its_rows_are_those_that_nothing_reads() -> None:
    assert set(SCHEMA.findall(page())) - set(in_rows(page())) == ELSEWHERE


def test_a_row_says_file_writer_reader_and_other_versions() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `dpgen-")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert all(len(row) == 5 and all(row) for row in cells)


def test_a_schema_in_a_docstring_is_not_taken_for_one_that_is_written() -> None:
    source = '"""dpgen-told/1"""\nONE = "dpgen-written/1"\nTWO = b"dpgen-bytes/2 "  # dpgen-c/3\n'
    assert in_source(source) == {"dpgen-written/1", "dpgen-bytes/2"}
