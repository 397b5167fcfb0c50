"""Parentage: a set names its model, the model's lines are in the data set's ledger."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dpgen.images.images import PublicFacts
from dpgen.privacy.statements.certificate import (
    CertificateError,
    read_statement,
    statement_bytes,
    tree_hash,
)
from dpgen.privacy.statements.mixture import mixed
from dpgen.privacy.verification.parentage import trace
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import digest

Kit = Any  # what conftest.py shares

pytestmark = pytest.mark.usefixtures("remembering")


@pytest.fixture
def place(kit: Kit, tmp_path: Path) -> Path:
    """ledger.jsonl; runs/one, runs/two; sets/one, sets/two: models are not beside their sets."""
    for name, multiplier in (("one", 6.0), ("two", 9.0)):
        run = kit.run(
            tmp_path / "runs" / name, ledger=tmp_path / "ledger.jsonl", multiplier=multiplier
        )
        kit.set(tmp_path / "sets" / name, run)
    return tmp_path


def seen(folder: Path, **given: Any) -> dict[str, tuple[bool, str]]:  # noqa: ANN401
    return {check.name: (check.held, check.seen) for check in trace(folder, **given)}


def test_a_set_is_traced_to_its_model_and_to_the_ledger(place: Path) -> None:
    found = seen(place / "sets/one", models=[place / "runs/one"], ledgers=[place / "ledger.jsonl"])
    assert found["model"] == (True, f"{place / 'runs/one'} is the run it was drawn from, and holds")
    assert found["data set"][0] and "holds 2 runs, this one among them" in found["data set"][1]


def test_another_model_is_refused(place: Path) -> None:
    checks = trace(place / "sets/one", models=[place / "runs/two"])
    assert [check.held for check in checks if check.name == "model"] == [False, False]


def test_a_model_that_changed_is_refused_though_its_statement_is_the_same(place: Path) -> None:
    weights = place / "runs/one/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    passed, said = seen(place / "sets/one", models=[place / "runs/one"])["model"]
    assert not passed and "files" in said


def test_a_set_that_says_other_things_than_its_model_is_refused(kit: Kit, place: Path) -> None:
    """Every number of the dearer run replaced by the cheaper run's; by itself the set holds."""
    cheap, folder = read_statement(place / "sets/two"), place / "sets/one"
    own = read_statement(folder)
    forged = {**cheap, "artifact": own["artifact"]}
    body = {key: value for key, value in forged.items() if key != "sha256"}
    (folder / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))
    assert not any(check.failed for check in verify(folder))
    assert cheap["guarantee"]["epsilon"] < own["guarantee"]["epsilon"]
    passed, said = seen(folder, models=[place / "runs/one"])["model"]
    assert not passed and "guarantee differs" in said


def test_a_model_beside_its_set_is_found_and_none_is_said_to_be_looked_at(place: Path) -> None:
    held, said = seen(place / "sets/one")["model"]
    assert held is None and "is not here" in said
    shutil.copytree(place / "runs/one", place / "sets/the run")
    (place / "sets/torn").mkdir()
    (place / "sets/torn/privacy.json").write_bytes(b"\xff{")
    assert seen(place / "sets/one")["model"][1].endswith("the run it was drawn from, and holds")
    (place / "sets/the run/model.safetensors").write_bytes(b"other")
    assert not seen(place / "sets/one")["model"][0]


def test_a_run_is_traced_to_the_ledger_and_has_no_model(place: Path) -> None:
    run, ledger = place / "runs/one", place / "ledger.jsonl"
    assert seen(run, ledgers=[ledger])["data set"][0]
    assert seen(run)["data set"][0] is None
    with pytest.raises(CertificateError, match="is a run itself"):
        trace(run, models=[place / "runs/two"])


@pytest.mark.parametrize("of", ["runs/one", "sets/one"])
def test_a_ledger_that_does_not_know_the_run_is_a_failure(of: str, kit: Kit, place: Path) -> None:
    """Rolled back by whoever rewrites its head, too; or torn."""
    ledger = place / "ledger.jsonl"
    whole = ledger.read_bytes()
    rows = whole.splitlines(keepends=True)
    ledger.write_bytes(b"".join(rows[:2]))
    assert not seen(place / of, ledgers=[ledger])["data set"][0]  # shorter than its head says
    ledger.write_bytes(whole.replace(b'"rate":1.0', b'"rate":0.9'))
    assert not seen(place / of, ledgers=[ledger])["data set"][0]
    other = place / "other.jsonl"
    kit.run(place / "third", ledger=other)
    assert seen(place / of, ledgers=[other, place / "none.jsonl"])["data set"][0] is None
    # A ledger of the same name that never charged it.
    name = read_statement(place / of)["data_set"]["name"]
    head, forged = other.with_name("other.jsonl.head"), place / "forged.jsonl"
    _rename(other, head, forged, name)
    passed, said = seen(place / of, ledgers=[forged])["data set"]
    assert passed == (of == "sets/one") and ("not this" in said) != passed


def _rename(ledger: Path, head: Path, forged: Path, name: str) -> None:
    """The same lines under the name of another data set, chained anew."""
    import json

    from dpgen.privacy.ledger.chain import chain
    from dpgen.storage.canonical import canonical

    lines = [json.loads(row) for row in ledger.read_text().splitlines()]
    bodies = [{k: v for k, v in line.items() if k not in ("hash", "prev")} for line in lines]
    bodies[0]["dataset"] = name
    lines = chain(bodies, "0" * 64)
    forged.write_text("".join(canonical(line) + "\n" for line in lines))
    forged.with_name(forged.name + ".head").write_text(
        canonical({"lines": len(lines), "hash": lines[-1]["hash"]})
    )


@pytest.mark.parametrize("changed", [{"max_records_per_unit": 3}, {"n_records": 30}])
def test_a_ledger_of_other_facts_is_a_failure(
    changed: dict[str, int], kit: Kit, place: Path
) -> None:
    facts = PublicFacts((1, 1, 3), ("a", "b"), **{"n_records": 20, **changed})
    other, forged = place / "persons.jsonl", place / "forged.jsonl"
    kit.run(place / "persons", ledger=other, facts=facts)
    name = read_statement(place / "sets/one")["data_set"]["name"]
    _rename(other, other.with_name("persons.jsonl.head"), forged, name)
    assert not seen(place / "sets/one", ledgers=[forged])["data set"][0]


def _rewrite(folder: Path, *path: str, value: object) -> None:
    """One field of a statement changed, and its seal made to fit."""
    statement = read_statement(folder)
    at: Any = statement
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    body = {key: held for key, held in statement.items() if key != "sha256"}
    (folder / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("mechanism", "stages", "means", "noise_multiplier"), 6.5),
        (("mechanism", "stages", "means", "bound"), 1.0),
        (("releases", "means", "executed"), 0),
        (("data_set", "total_epsilon"), 1.7),
        (("data_set", "runs"), 2),
        (("data_set", "runs"), 3),
        (("data_set", "ledger"), "run folder (public data)"),
        (("facts", "n_records"), 30),
        (("guarantee", "adjacency"), "replace_one"),
    ],
)
@pytest.mark.parametrize("of", ["runs/one", "sets/one"])
def test_a_ledger_contradicts_what_it_did_not_charge_or_had_not_spent(
    of: str, path: tuple[str, ...], value: object, place: Path
) -> None:
    ledgers = [place / "ledger.jsonl"]
    assert seen(place / of, ledgers=ledgers)["data set"][0]
    _rewrite(place / of, *path, value=value)
    assert seen(place / of, ledgers=ledgers)["data set"][0] is False


def test_what_two_runs_had_spent_is_counted_again_for_the_second(place: Path) -> None:
    ledgers = [place / "ledger.jsonl"]
    account = read_statement(place / "runs/two")["data_set"]
    assert account["runs"] == 2
    assert seen(place / "runs/two", ledgers=ledgers)["data set"][0]
    _rewrite(place / "runs/two", "data_set", "total_epsilon", value=account["total_epsilon"] + 0.1)
    assert seen(place / "runs/two", ledgers=ledgers)["data set"][0] is False


@pytest.mark.parametrize("drop", ["executed", "released"])
def test_a_copy_that_lacks_a_line_of_the_ledger_is_a_failure(drop: str, place: Path) -> None:
    import json

    from dpgen.storage.canonical import canonical

    copy = place / "runs/one/ledger.jsonl"
    lines = [json.loads(row) for row in copy.read_text().splitlines()]
    kept = [line for line in lines if line["kind"] != drop]
    assert len(kept) == len(lines) - 1
    copy.write_text("".join(canonical(line) + "\n" for line in kept))
    assert seen(place / "runs/one", ledgers=[place / "ledger.jsonl"])["data set"][0] is False


def test_notes_of_a_limit_after_a_run_do_not_contradict_its_copy(kit: Kit, place: Path) -> None:
    """And a run that comes after the limit was raised carries the line that says so."""
    from dpgen.privacy.accounting.accountant import Budget
    from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger

    ledger = PrivacyLedger(place / "ledger.jsonl")
    ledger.raise_limit(Budget(60.0, ledger.limit.delta))
    assert seen(place / "runs/one", ledgers=[ledger.path])["data set"][0]
    later = kit.run(place / "runs/later", ledger=ledger.path, multiplier=12.0)
    assert read_statement(later)["data_set"]["limit"]["epsilon"] == 60.0
    assert not any(check.failed for check in verify(later))
    assert seen(later, ledgers=[ledger.path])["data set"][0]


def test_every_model_of_a_mixture_is_asked_for(place: Path) -> None:
    parts = [read_statement(place / "sets" / name) for name in ("one", "two")]
    folder = place / "mixture" / "both"
    folder.mkdir(parents=True)
    (folder / "images").write_bytes(b"x")
    statement = mixed(parts, disjoint=False, files=tree_hash(folder), synthetic={})
    (folder / "privacy.json").write_bytes(statement_bytes(statement))
    runs = [place / "runs/one", place / "runs/two"]
    checks = trace(folder, models=runs, ledgers=[place / "ledger.jsonl"])
    assert [(c.name, c.held) for c in checks] == [("model", True), ("data set", True)] * 2
    missing = [c for c in trace(folder, models=runs[:1]) if c.failed]
    assert len(missing) == 1 and "no --model is" in missing[0].seen
