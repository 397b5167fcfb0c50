"""Parentage: a set names its model, the model's lines are in the data set's ledger."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dpgen.data.images import PublicFacts
from dpgen.privacy.certificate import (
    CertificateError,
    read_statement,
    statement_bytes,
    tree_hash,
)
from dpgen.privacy.chain import digest
from dpgen.privacy.mixture import mixed
from dpgen.privacy.parentage import trace
from dpgen.privacy.verification import verify

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
    return {check.name: (check.passed, check.seen) for check in trace(folder, **given)}


def test_a_set_is_traced_to_its_model_and_to_the_ledger(place: Path) -> None:
    found = seen(place / "sets/one", models=[place / "runs/one"], ledgers=[place / "ledger.jsonl"])
    assert found["model"] == (True, f"{place / 'runs/one'} is the run it was drawn from, and holds")
    assert found["data set"][0] and "holds 2 runs, this one among them" in found["data set"][1]


def test_another_model_is_refused(place: Path) -> None:
    checks = trace(place / "sets/one", models=[place / "runs/two"])
    assert [check.passed for check in checks if check.name == "model"] == [False, False]


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
    assert all(check.passed for check in verify(folder))
    assert cheap["guarantee"]["epsilon"] < own["guarantee"]["epsilon"]
    passed, said = seen(folder, models=[place / "runs/one"])["model"]
    assert not passed and "guarantee differs" in said


def test_a_model_beside_its_set_is_found_and_none_is_said_to_be_looked_at(place: Path) -> None:
    passed, said = seen(place / "sets/one")["model"]
    assert passed and "not looked at" in said
    shutil.copytree(place / "runs/one", place / "sets/the run")
    (place / "sets/torn").mkdir()
    (place / "sets/torn/privacy.json").write_bytes(b"\xff{")
    assert seen(place / "sets/one")["model"][1].endswith("the run it was drawn from, and holds")
    (place / "sets/the run/model.safetensors").write_bytes(b"other")
    assert not seen(place / "sets/one")["model"][0]


def test_a_run_is_traced_to_the_ledger_and_has_no_model(place: Path) -> None:
    run, ledger = place / "runs/one", place / "ledger.jsonl"
    assert seen(run, ledgers=[ledger])["data set"][0]
    assert "not looked at" in seen(run)["data set"][1]
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
    assert "not looked at" in seen(place / of, ledgers=[other, place / "none.jsonl"])["data set"][1]
    # A ledger of the same name that never charged it.
    name = read_statement(place / of)["data_set"]["name"]
    head, forged = other.with_name("other.jsonl.head"), place / "forged.jsonl"
    _rename(other, head, forged, name)
    passed, said = seen(place / of, ledgers=[forged])["data set"]
    assert passed == (of == "sets/one") and ("not this" in said) != passed


def _rename(ledger: Path, head: Path, forged: Path, name: str) -> None:
    """The same lines under the name of another data set, chained anew."""
    import json

    from dpgen.privacy.chain import canonical, chain

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


def test_a_ledger_that_charged_fewer_releases_than_a_set_says_is_a_failure(place: Path) -> None:
    folder, ledgers = place / "sets/one", [place / "ledger.jsonl"]
    assert seen(folder, ledgers=ledgers)["data set"][0]
    statement = read_statement(folder)
    events = [{**row, "steps": row["steps"] + 1} for row in statement["accounting"]["events"]]
    body = {**statement, "accounting": {**statement["accounting"], "events": events}}
    (folder / "privacy.json").write_bytes(statement_bytes(body))
    assert not seen(folder, ledgers=ledgers)["data set"][0]


def test_every_model_of_a_mixture_is_asked_for(place: Path) -> None:
    parts = [read_statement(place / "sets" / name) for name in ("one", "two")]
    folder = place / "mixture" / "both"
    folder.mkdir(parents=True)
    (folder / "images").write_bytes(b"x")
    statement = mixed(parts, disjoint=False, files=tree_hash(folder), synthetic={})
    (folder / "privacy.json").write_bytes(statement_bytes(statement))
    runs = [place / "runs/one", place / "runs/two"]
    checks = trace(folder, models=runs, ledgers=[place / "ledger.jsonl"])
    assert [(c.name, c.passed) for c in checks] == [("model", True), ("data set", True)] * 2
    missing = [c for c in trace(folder, models=runs[:1]) if not c.passed]
    assert len(missing) == 1 and "no --model is" in missing[0].seen
