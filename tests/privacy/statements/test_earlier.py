"""Statements of schema dpgen-privacy/2, as an earlier version wrote them: read, and checked as far
as their facts go.

``written_by_2.json`` holds the files of a run (of dpdm on the digits), of two sets drawn from it
and of their mixture; in the place of weights and pictures are words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dpgen.methods.planned import planned_check
from dpgen.privacy.statements.certificate import (
    CertificateError,
    read_statement,
    sha256_file,
    statement_bytes,
)
from dpgen.privacy.verification.parentage import trace
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import canonical, digest

pytestmark = pytest.mark.usefixtures("remembering")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """run, set1, set2, mixture"""
    texts = json.loads(Path(__file__).with_name("written_by_2.json").read_text())
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def rewrite(folder: Path, statement: dict[str, Any]) -> None:
    """Sealed again, with the hashes that the files have now."""
    files = statement["artifact"]["files"]
    if statement["artifact"]["kind"] == "model":
        files |= {name: sha256_file(folder / name) for name in files}
    body = {key: value for key, value in statement.items() if key != "sha256"}
    (folder / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))


@pytest.mark.parametrize("name", ["run", "set1", "mixture"])
def test_it_holds_and_what_it_lacks_is_skipped_by_name(name: str, place: Path) -> None:
    checks = [*verify(place / name), *trace(place / name)]
    assert [check.name for check in checks if check.failed] == []
    skipped = {check.name for check in checks if check.held is None}
    lacks = {"one lineage", "files in the ledger"} if name == "run" else set()
    assert skipped == {"data set"} | lacks
    if name == "run":
        assert planned_check(place / name).held is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("mechanism", "theorem"), "trust me"),
        (("mechanism", "id"), "pge/sketch"),
        (("accounting", "events", 2, "steps"), 1),
        (("accounting", "events", 0, "noise_multiplier"), 6.0),
        (("implementation", "caveats"), []),
        (("implementation", "sampling"), "none"),
        (("declared",), "All of it is private."),
        (("data_set", "total_epsilon"), 0.01),
        (("data_set", "runs"), 0),
        (("data_set", "limit", "epsilon"), 0.5),
        (("releases", "teacher", "executed"), 1),
        (("guarantee", "epsilon"), 1.0),
        (("tuning", "statement"), "Covered."),
        (("artifact", "parents"), ["another"]),
        (("note",), "nothing"),
    ],
)
def test_what_stands_twice_is_not_believed_once(
    path: tuple[Any, ...], value: object, place: Path
) -> None:
    statement = read_statement(place / "run")
    at: Any = statement
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    rewrite(place / "run", statement)
    assert any(check.failed for check in verify(place / "run"))


@pytest.mark.parametrize("part", ["facts", "guarantee"])
def test_no_earlier_statement_says_that_people_were_counted(part: str, place: Path) -> None:
    statement = read_statement(place / "set1")
    rewrite(place / "set1", {**statement, part: {**statement[part], "unit_bound": "enforced"}})
    assert any(check.failed for check in verify(place / "set1"))


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("config.json", ("budget", "epsilon"), 0.1),
        ("config.json", ("budget", "delta"), 1e-5),
        ("config.json", ("method",), "pge"),
        ("config.json", ("version",), "0.0.9"),
        ("facts.json", ("n_records",), 5),
    ],
)
def test_configuration_and_facts_are_compared(
    name: str, path: tuple[str, ...], value: object, place: Path
) -> None:
    table = json.loads((place / "run" / name).read_text())
    at: Any = table
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    (place / "run" / name).write_text(canonical(table))
    rewrite(place / "run", read_statement(place / "run"))
    failed = [check.name for check in verify(place / "run") if check.failed]
    assert failed == ["facts" if name == "facts.json" else "configuration"]


def test_a_limit_that_was_raised_is_not_held_against_a_copy_that_cannot_show_it(
    place: Path,
) -> None:
    """Copies of earlier versions hold no line that raises the limit, honest ones neither."""
    statement = read_statement(place / "run")
    statement["data_set"]["limit"]["epsilon"] = 20.0
    rewrite(place / "run", statement)
    found = {check.name: check for check in verify(place / "run")}
    assert found["limit"].held is None and not any(check.failed for check in found.values())


def test_a_mixture_of_statements_of_both_schemas_is_one_of_today(place: Path) -> None:
    from dpgen.privacy.statements.mixture import mixed

    parts = [read_statement(place / name) for name in ("set1", "set2")]
    statement = mixed(parts, disjoint=False, files={}, synthetic={})
    assert statement["schema"] == "dpgen-privacy/3"
    names = [theorem["name"] for theorem in statement["mechanism"]["theorems"]]
    assert names == ["B1", "B2", "F3", "A3"]


def test_an_older_schema_is_refused_with_what_to_do(place: Path) -> None:
    statement = {**read_statement(place / "run"), "schema": "dpgen-privacy/1"}
    rewrite(place / "run", statement)
    with pytest.raises(CertificateError, match="use the version of dpgen that wrote it"):
        verify(place / "run")
