from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpgen.privacy.accounting.accountant import Adjacency, Budget, epsilon_of
from dpgen.privacy.accounting.events import GaussianLeaf, compose, event_to_json
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.charges import executed_releases, releases_of
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.certificate import (
    CertificateError,
    read_statement,
    sha256_file,
    statement_bytes,
    tree_hash,
)
from dpgen.privacy.statements.statement import accounting_of, declaration, inherited, sentence
from dpgen.privacy.verification import promise
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import canonical, digest
from tests.relations import ADD_REMOVE, REPLACE_ONE

Kit = Any  # what conftest.py shares

DELTA = 1e-5


pytestmark = pytest.mark.usefixtures("remembering")


@pytest.fixture(scope="module")
def genuine(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuine run folder: charged, executed and stated by the production objects."""
    place = tmp_path_factory.mktemp("genuine")
    folder = place / "run"
    folder.mkdir()
    stages = (
        Stage("means", NoisySum(kit.Echo(), 6.0)),
        Stage("teacher", NoisySGD(0.25, 4, 3.0, n_records=20)),
    )
    data = kit.dataset(kit.source(), place, ledger=place / "ledger.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        data.begin("run", StageKeys(place / "keys"), Plan(stages, ADD_REMOVE))
    data.release(stages[0].mechanism, label="means")
    for step in data.steps(stages[1].mechanism, label="teacher"):
        step.gradient(kit.Linear(), kit.parameters())
    for stage in stages:
        data.finish(stage.label, stage.mechanism)
    state: Path = kit.state(folder, data, "run", stages, delta=DELTA)
    return state


@pytest.fixture
def run(genuine: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(genuine, tmp_path / "run"))


def holds(folder: Path) -> bool:
    """What `dpgen verify` says: every check passed and none gave up."""
    try:
        checks = verify(folder)
    except CertificateError:
        return False
    return not any(check.failed for check in checks)


def rewrite(folder: Path, statement: dict[str, Any], *, seal: bool) -> None:
    """Writes an edited statement; with ``seal`` its own hash is made to fit."""
    if seal:
        body = {key: value for key, value in statement.items() if key != "sha256"}
        statement = {**body, "sha256": digest(body)}
    (folder / "privacy.json").write_bytes(statement_bytes(statement))


def leaves_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves_of(item, (*path, key))
    else:
        yield path


def edited(statement: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:  # noqa: ANN401
    whole = copy.deepcopy(statement)
    at: Any = whole
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return whole


def test_the_statement_of_a_genuine_run_holds(run: Path) -> None:
    assert holds(run)
    names = {check.name for check in verify(run)}
    assert {"epsilon from the events", "second accountant", "files", "ledger lines"} <= names


def test_the_statement_says_what_was_charged_and_no_less(run: Path) -> None:
    statement = read_statement(run)
    event = compose([GaussianLeaf(1.0, 6.0, 1).event, GaussianLeaf(0.25, 3.0, 4).event])
    exact = epsilon_of(event, DELTA, ADD_REMOVE)
    assert exact <= statement["guarantee"]["epsilon"] <= exact * 1.01
    assert statement["guarantee"]["delta"] == DELTA
    assert statement["accounting"]["events"] == event_to_json(event)
    assert statement["releases"] == {
        "means": {"charged": 1, "executed": 1},
        "teacher": {"charged": 4, "executed": 4},
    }
    assert statement["accounting"]["cross_check"]["epsilon"] >= exact


def test_changing_any_field_of_the_statement_is_seen(run: Path) -> None:
    statement = read_statement(run)
    paths = list(leaves_of(statement))
    assert len(paths) > 80
    for path in paths:
        at: Any = statement
        for key in path:
            at = at[key]
        if isinstance(at, bool) or at is None or isinstance(at, dict | list):
            other: Any = "changed"
        elif isinstance(at, int | float):
            other = at * 2 + 1
        else:
            other = at + "x"
        rewrite(run, edited(statement, path, other), seal=False)
        assert not holds(run), path
    rewrite(run, {**statement, "more": 1}, seal=False)
    assert not holds(run)
    for key in statement:
        rewrite(run, {k: v for k, v in statement.items() if k != key}, seal=False)
        assert not holds(run), key


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("guarantee", "epsilon"), 0.1),
        (("guarantee", "epsilon"), 99.0),
        (("guarantee", "delta"), 1e-4),
        (("guarantee", "delta"), 0.5),
        (("guarantee", "adjacency"), "replace_one"),
        (("guarantee", "adjacency"), "none"),
        (("guarantee", "profile", 0, 1), 1e-9),
        (("guarantee", "mu_gdp"), 0.1),
        (("guarantee", "unit"), "person"),
        (("accounting", "events", 0, "noise_multiplier"), 60.0),
        (("accounting", "events", 1, "steps"), 1),
        (("accounting", "events", 1, "rate"), 0.01),
        (("statement",), "This model is perfectly private."),
        (("facts", "n_records"), 10**6),
        (("facts", "adjacency"), "replace_one"),
        (("releases", "teacher", "executed"), 3),
        (("releases", "teacher", "executed"), 5),
        (("releases", "teacher", "charged"), 5),
        (("releases", "student"), {"charged": 1, "executed": 1}),
        (("mechanism", "stages", "teacher", "clip_norm"), 0.5),
        (("mechanism", "stages", "means", "bound"), 1.0),
        (("mechanism", "stages", "other"), {}),
        (("artifact", "kind"), "synthetic_dataset"),
        (("artifact", "files", "model.safetensors"), "0" * 64),
        (("artifact", "files", "../model.safetensors"), "0" * 64),
        (("schema",), "dpgen-privacy/1"),
        (("guarantee", "max_records_per_unit"), 5),
        (("guarantee", "max_records_per_unit"), True),
        (("guarantee", "group", "2"), 0.01),
        (("guarantee", "mu_delta_floor"), 0.0),
        (("facts", "max_records_per_unit"), 5),
        (("data_set", "name"), "another"),
        (("data_set", "runs"), 0),
        (("data_set", "limit", "epsilon"), 0.01),
        (("data_set", "limit"), None),
        (("verified",), "beyond doubt"),
        (("accounting", "accountant"), "an abacus"),
        (("accounting", "rounding"), None),
        (("accounting", "cross_check"), {}),
        (("accounting", "cross_check", "epsilon"), 0.01),
        (("tuning", "statement"), "All settings are covered."),
    ],
)
def test_a_changed_claim_is_seen_though_the_statement_was_sealed_again(
    path: tuple[Any, ...], value: object, run: Path
) -> None:
    rewrite(run, edited(read_statement(run), path, value), seal=True)
    assert not holds(run)


@pytest.mark.parametrize(("multiplier", "adjacency"), [(60.0, "add_remove"), (6.0, "replace_one")])
def test_a_statement_that_fits_itself_but_not_its_ledger_is_seen(
    multiplier: float, adjacency: Adjacency, run: Path
) -> None:
    """Cheaper events or the other relation, every derived number and the seal made to fit."""
    cheaper = [GaussianLeaf(1.0, multiplier, 1).event, GaussianLeaf(0.25, 3.0, 4).event]
    relation = Relation(adjacency, 1)
    forged = read_statement(run) | accounting_of(compose(cheaper), DELTA, relation)
    forged["statement"] = sentence("model", forged["guarantee"]["epsilon"], DELTA, relation)
    rewrite(run, forged, seal=True)
    assert not holds(run)


def test_a_changed_epsilon_fails_the_check_of_epsilon(run: Path) -> None:
    for value in (0.1, 99.0):
        rewrite(run, edited(read_statement(run), ("guarantee", "epsilon"), value), seal=True)
        failed = {check.name for check in verify(run) if check.failed}
        assert "epsilon from the events" in failed


def spoil(folder: Path, n_places: int = 30) -> None:
    """Asserts that the folder holds, and in no way after any byte of any file was changed."""
    assert holds(folder)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        # White space of the statement included, which JSON does not see.
        n_here = 10 * n_places if path.name == "privacy.json" else n_places
        for at in range(0, len(content), max(1, len(content) // n_here)):
            bit = 1 << at % 8
            path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            assert not holds(folder), (path, at)
        for other in (content[:-1], content + b"\n", b" " + content, b""):
            path.write_bytes(other)
            assert not holds(folder), path
        path.unlink()
        assert not holds(folder), path
        path.write_bytes(content)
        path.rename(path.with_name("renamed"))
        assert not holds(folder), path
        path.with_name("renamed").rename(path)
        assert holds(folder)
    for more in ("notes.txt", ".hidden", "deeper/privacy.json", "deeper/privacy.sig"):
        (folder / more).parent.mkdir(exist_ok=True)
        (folder / more).write_text("more")
        assert not holds(folder), more
        (folder / more).unlink()
    assert holds(folder)


def test_changing_leaving_out_renaming_or_adding_a_file_of_a_run_is_seen(run: Path) -> None:
    spoil(run)


@pytest.mark.parametrize("layout", ["folder", "npz", "webdataset"])
def test_changing_leaving_out_renaming_or_adding_a_file_of_a_set_is_seen(
    layout: str, kit: Kit, run: Path, tmp_path: Path
) -> None:
    spoil(kit.set(tmp_path / "set", run, n=3, layout=layout))


def test_a_link_in_a_set_is_seen(kit: Kit, run: Path, tmp_path: Path) -> None:
    made = kit.set(tmp_path / "set", run, layout="folder")
    picture = next(made.rglob("*.png"))
    picture.rename(tmp_path / "elsewhere.png")
    picture.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(CertificateError, match="is a link"):
        verify(made)


@pytest.mark.parametrize("what", ["instead", "more", "nowhere", "folder", "pipe"])
def test_a_link_or_a_pipe_in_a_run_is_seen(what: str, run: Path, tmp_path: Path) -> None:
    """The same bytes behind a link are not the same file: they change without it."""
    weights = run / "model.safetensors"
    if what == "instead":
        weights.rename(tmp_path / "elsewhere")
        weights.symlink_to(tmp_path / "elsewhere")
    elif what == "more":
        (run / "also").symlink_to(weights)
    elif what == "pipe":
        os.mkfifo(run / "also")
    else:
        (run / "also").symlink_to(tmp_path if what == "folder" else tmp_path / "none")
    failed = [check for check in verify(run) if check.failed]
    assert [check.name for check in failed] == ["files"]
    assert ("is a link" if what == "instead" else "also is not covered") in failed[0].seen


def test_a_checkpoint_that_was_left_fails_with_its_cure_where_nothing_else_is_wrong(
    run: Path,
) -> None:
    (run / "checkpoint" / "keys").mkdir(parents=True)
    for name in ("run.json", "keys/owner", "keys/a.key", "lock"):
        (run / "checkpoint" / name).write_text("secret")
    (failed,) = [check for check in verify(run) if check.failed]
    assert failed.name == "files"
    assert "run the same train command again" in failed.seen and "secrets" in failed.seen
    (run / "mine").touch()
    (failed,) = [check for check in verify(run) if check.failed]
    assert "run the same train command" not in failed.seen and "and 2 more" in failed.seen
    (run / "mine").unlink()
    (run / "preview.png").write_bytes(b"another")
    assert not any("train command" in check.seen for check in verify(run))


def test_names_that_hold_a_line_are_not_two_files(tmp_path: Path) -> None:
    """Content and names swapped across a line break, so that plain text lists are the same."""
    for place, names in (("one", ("a", "b\n{}  c")), ("two", ("a\n{}  b", "c"))):
        folder = tmp_path / place
        folder.mkdir()
        for name in names:
            (folder / name.format(hashlib.sha256(b"same").hexdigest())).write_bytes(b"same")
    one, two = tree_hash(tmp_path / "one"), tree_hash(tmp_path / "two")
    assert one["count"] == two["count"] == 2 and one["sha256"] != two["sha256"]


def test_a_ledger_copy_that_charges_other_events_is_seen_though_its_hash_was_updated(
    run: Path,
) -> None:
    statement = read_statement(run)
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    # What the descent of the run says is read by other checks.
    priced = [i for i, line in enumerate(lines) if line["kind"] in ("charge", "executed")]
    assert len(priced) == 4
    for drop in priced:
        kept = [line for i, line in enumerate(lines) if i != drop]
        (run / "ledger.jsonl").write_text("".join(canonical(line) + "\n" for line in kept))
        files = {
            **statement["artifact"]["files"],
            "ledger.jsonl": sha256_file(run / "ledger.jsonl"),
        }
        rewrite(run, edited(statement, ("artifact", "files"), files), seal=True)
        assert not holds(run), lines[drop]["kind"]


def test_a_synthetic_set_inherits_the_numbers_and_its_files_are_covered(
    run: Path, tmp_path: Path
) -> None:
    parent = read_statement(run)
    made = tmp_path / "images"
    (made / "0").mkdir(parents=True)
    for i in range(3):
        (made / "0" / f"{i}.png").write_bytes(bytes([i] * 9))
    statement = inherited(parent, files=tree_hash(made), synthetic={"samples": 3})
    (made / "privacy.json").write_bytes(statement_bytes(statement))
    assert holds(made)
    assert statement["guarantee"] == parent["guarantee"]
    assert statement["artifact"]["parents"] == [digest(parent)]
    assert "This synthetic dataset satisfies" in statement["statement"]
    for change in ("change", "rename", "add", "remove"):
        spoiled = tmp_path / change
        shutil.copytree(made, spoiled)
        target = spoiled / "0" / "1.png"
        if change == "change":
            target.write_bytes(b"x")
        elif change == "rename":
            target.rename(target.with_name("9.png"))
        elif change == "add":
            (spoiled / "more.png").write_bytes(b"x")
        else:
            target.unlink()
        assert not holds(spoiled), change


def test_a_forged_statement_takes_no_time_and_no_memory(run: Path) -> None:
    """Sealed, but with more events than anybody charges, or such as no machine can price."""
    statement = read_statement(run)
    row = {"type": "poisson_sampled_gaussian", "rate": 0.5, "noise_multiplier": 1.0}
    many = [{**row, "rate": 1 / (k + 2), "steps": 1} for k in range(1001)]
    for events in (many, [{**row, "steps": 10**12}], [{**row, "rate": 1.0, "steps": 10**12}]):
        rewrite(run, edited(statement, ("accounting", "events"), events), seal=True)
        assert not holds(run)


def test_a_second_accountant_with_the_smaller_bound_is_a_failure(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two is then wrong, and nobody knows which."""
    stated = read_statement(run)["guarantee"]["epsilon"]
    for other, passes in ((0.9 * stated, False), (1.1 * stated, True)):
        monkeypatch.setattr(promise, "second_opinion", lambda *_, other=other: other)
        (check,) = (c for c in verify(run) if c.name == "second accountant")
        assert check.held == passes and f"{other:.4g}" in check.seen


def test_a_set_whose_facts_are_of_persons_and_whose_epsilon_is_of_records_is_seen(
    kit: Kit, run: Path, tmp_path: Path
) -> None:
    """Nothing else of a set says which unit its data set's ledger was kept for."""
    made = kit.set(tmp_path / "set", run)
    statement = read_statement(made)
    for name, other in (("max_records_per_unit", 3), ("adjacency", "replace_one")):
        rewrite(made, edited(statement, ("facts", name), other), seal=True)
        assert [check.name for check in verify(made) if check.failed] == ["unit"]


def test_a_notice_is_never_a_certificate(run: Path) -> None:
    (run / "notice.json").write_text("{}")
    with pytest.raises(CertificateError, match="notice, not a certificate"):
        verify(run)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '{"schema": "dpgen-privacy/2"}'])
def test_what_is_no_statement_is_refused(content: str, run: Path) -> None:
    (run / "privacy.json").write_text(content)
    assert not holds(run)


def test_a_folder_without_a_statement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="neither a finished run"):
        verify(tmp_path)


def test_more_releases_than_charged_are_seen() -> None:
    lines = [
        {"kind": "charge", "label": "a", "event": event_to_json(GaussianLeaf(0.1, 2.0, 4).event)},
        {"kind": "executed", "label": "a", "start": 0, "stop": 3},
        {"kind": "executed", "label": "a", "start": 2, "stop": 5},
        {"kind": "executed", "label": "b", "start": 0, "stop": 1},
    ]
    assert executed_releases(lines) == {"a": 5, "b": 1}
    assert releases_of(lines) == {
        "a": {"charged": 4, "executed": 5},
        "b": {"charged": 0, "executed": 1},
    }


def test_the_sentence_never_understates_delta_and_names_everything() -> None:
    delta = 1.23456249e-6
    words = sentence("model", 1.01, delta, REPLACE_ONE)
    stated = float(words.split(", ")[1].split(")")[0])
    assert delta <= stated <= delta * (1 + 1e-5)
    assert "(1.01, " in words
    assert "replacing one record" in words
    assert "adding or removing one record" in sentence("model", 1.0, 1e-5, ADD_REMOVE)


def test_the_run_that_is_stated_is_within_the_limit_it_was_charged_to(run: Path, kit: Kit) -> None:
    statement = read_statement(run)
    limit = Budget(**statement["data_set"]["limit"])
    assert limit == kit.LIMIT
    assert statement["guarantee"]["epsilon"] <= statement["data_set"]["total_epsilon"] + 1e-9


def test_a_statement_says_who_declared_the_number_of_records_and_the_classes(run: Path) -> None:
    statement = read_statement(run)
    facts = statement["facts"]
    assert "number of records (20)" in statement["declared"]
    assert "list of classes (2)" in statement["declared"]
    assert "declared public, as read from the data's own headers" in statement["declared"]
    assert "does not cover them" in statement["declared"]
    assert "stated in a facts file" in declaration({**facts, "origin": "stated"})
    for other in ("They are private.", declaration({**facts, "n_records": 9})):
        rewrite(run, edited(statement, ("declared",), other), seal=True)
        assert not holds(run)


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("releases", "teacher", "executed"), 3, "executed exactly what was charged"),
        (("releases", "more"), {"charged": 1, "executed": 1}, "executed exactly what was charged"),
        (("mechanism", "stages", "teacher", "n_records"), 21, "events from the stages"),
        (("mechanism", "stages", "teacher", "rate"), 0.26, "events from the stages"),
    ],
)
def test_a_set_that_has_no_ledger_beside_it_is_held_to_the_stages_that_it_names(
    path: tuple[str, ...], value: object, name: str, kit: Kit, run: Path, tmp_path: Path
) -> None:
    made = kit.set(tmp_path / "set", run)
    rewrite(made, edited(read_statement(made), path, value), seal=True)
    assert name in [check.name for check in verify(made) if check.failed]
