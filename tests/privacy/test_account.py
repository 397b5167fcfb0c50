"""What a data set's ledger adds up, over trainings and over versions, and what its name gives away.

With the accountant of production: the prices are those that a certificate states.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget, epsilon_of, round_up
from dpgen.privacy.accounting.events import GaussianLeaf, compose
from dpgen.privacy.ledger.chain import LedgerError, chain
from dpgen.privacy.ledger.charges import Charge, plan_hash
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded, PrivacyLedger
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.certificate import read_statement, statement_bytes
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import canonical, digest
from tests.relations import ADD_REMOVE

Kit = Any  # what conftest.py shares

DELTA = 1e-5


def price(n_runs: int) -> float:
    return epsilon_of(compose([GaussianLeaf(1.0, 6.0, 1).event] * n_runs), DELTA, ADD_REMOVE)


def train(kit: Kit, folder: Path, source: Any, limit: Budget) -> Any:  # noqa: ANN401
    """One run of one release; the ledger is the one that the records' fingerprint leads to."""
    stage = Stage("means", NoisySum(kit.Echo(), 6.0))
    data = kit.dataset(source, folder, limit=limit)
    data.begin(str(folder), StageKeys(folder / "keys"), Plan((stage,), ADD_REMOVE))
    data.release(stage.mechanism, label="means")
    return data


def test_a_second_training_adds_up_and_a_third_past_the_budget_reads_nothing(
    kit: Kit, tmp_path: Path, home: Path
) -> None:
    """The same records in another order, another process's objects, other run folders."""
    limit, source = Budget(1.001 * price(2), DELTA), kit.source()
    first = train(kit, tmp_path / "one", source, limit)
    assert first.ledger.spent() == pytest.approx(price(1), rel=1e-9)
    turned = kit.ArraySource(source.pixels.flip(0), source.labels.flip(0), source.class_names)
    second = train(kit, tmp_path / "two", turned, limit)
    assert second.ledger.path == first.ledger.path
    assert second.ledger.spent() == pytest.approx(price(2), rel=1e-9)
    assert second.account()["runs"] == 2
    assert second.account()["total_epsilon"] == round_up(price(2))
    before, third = first.ledger.path.read_bytes(), kit.source()
    # Neither another limit nor another folder is a way around it.
    with pytest.raises(BudgetExceeded, match=f"{round_up(price(2)):g} is spent, and .* would be"):
        train(kit, tmp_path / "three", third, Budget(40.0, DELTA))
    assert third.reads == [] and first.ledger.path.read_bytes() == before
    assert len(list((home / "ledgers").glob("*.jsonl"))) == 1


def test_every_run_that_settings_were_chosen_by_is_told_and_charged(
    kit: Kit, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    for n in (1, 2, 3):
        run = kit.run(tmp_path / str(n), ledger=ledger)
        told = read_statement(run)["tuning"]
        assert told["runs_charged"] == n
        assert told["total_epsilon"] == round_up(price(n))
        assert f"all others on this data set, {n} in all, are charged" in told["statement"]
        assert "epsilon above is of this run alone" in told["statement"]
        assert "chosen by metrics of private records" in told["statement"]
        assert "are not covered" in told["statement"]
    # A statement that keeps quiet about them does not hold, sealed or not.
    statement = read_statement(run)
    for other in (
        {"runs_charged": 1}, {"total_epsilon": round_up(price(1))}, {"statement": "No tuning."},
    ):  # fmt: skip
        body = {**statement, "tuning": {**statement["tuning"], **other}}
        del body["sha256"]
        (run / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))
        assert [c.name for c in verify(run) if c.failed] == ["choice of settings"]


def test_nobody_without_the_key_can_tell_whether_a_record_is_in_a_data_set(
    kit: Kit, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has every record, and all that is written, tries every hash without the key."""
    source = kit.source()
    data = train(kit, tmp_path / "one", source, kit.LIMIT)
    files = [p for p in home.rglob("*") if p.is_file() and p.name != "key"]
    written = " ".join([*map(str, files), *(p.read_text(errors="replace") for p in files)])
    written += json.dumps(data.account())
    rows = [
        f"{pixels.shape}:{label}:".encode() + np.ascontiguousarray(pixels).tobytes()
        for pixels, label in source.raw_records()
    ]
    guesses = [b"", bytes(32), b"dpgen", b"key"]
    keyed = [[hmac.digest(key, row, "sha256") for row in rows] for key in guesses]
    marks = [*keyed, [hashlib.sha256(row).digest() for row in rows]]
    whole = [b"".join(sorted(each)) for each in marks]
    tried = [mark for each in marks for mark in each]
    tried += [hashlib.sha256(x).digest() for x in whole]
    tried += [hmac.digest(key, x, "sha256") for key in guesses for x in whole]
    assert not [mark for mark in tried if mark.hex() in written]
    # What leads to the ledger is of records and key: nobody meets it under a key of their own.
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "elsewhere"))
    other = train(kit, tmp_path / "two", source, kit.LIMIT)
    assert other.ledger.path.name != data.ledger.path.name
    assert data.ledger.path.stem not in json.dumps(data.ledger.lines())
    assert other.ledger.dataset != data.ledger.dataset


OLD = """\
{"adjacency":"add_remove","dataset":"bc25573c21ff0573","facts":{"adjacency":"add_remove",\
"class_names":["a","b"],"max_records_per_unit":1,"n_records":20,"origin":"declared",\
"schema":"dpgen-facts/1","shape":[1,1,3]},\
"hash":"7f38121aa5198d4900abc95b40bc1bff7162ed466159249ef714d03407685b58","kind":"open",\
"limit":{"delta":1e-05,"epsilon":3.0},\
"prev":"0000000000000000000000000000000000000000000000000000000000000000",\
"schema":"dpgen-ledger/1","time":"2026-11-21T14:51:13+00:00"}
{"event":[{"noise_multiplier":3.0,"rate":0.25,"steps":4,"type":"poisson_sampled_gaussian"}],\
"hash":"0745d1ffe98abd72a4642f5225981b03b198fd45b03689fdaf9c8cfbda99c461","kind":"charge",\
"label":"teacher","plan":"83bfab59e77038500b2a729e406a9f6ae650c17e777c32503f0284e1a11fab8b",\
"prev":"7f38121aa5198d4900abc95b40bc1bff7162ed466159249ef714d03407685b58","run":"one",\
"schema":"dpgen-ledger/1","time":"2026-11-21T14:51:13+00:00"}
{"hash":"7df6883a6f3776815ef958489de4c72cb763b343eb0c01da9e419c63b5fc64c1","kind":"executed",\
"label":"teacher","plan":"83bfab59e77038500b2a729e406a9f6ae650c17e777c32503f0284e1a11fab8b",\
"prev":"0745d1ffe98abd72a4642f5225981b03b198fd45b03689fdaf9c8cfbda99c461","run":"one",\
"schema":"dpgen-ledger/1","start":0,"stop":4,"time":"2026-11-21T14:51:13+00:00"}
"""  # written by the version before persons were priced
HEAD = '{"hash":"7df6883a6f3776815ef958489de4c72cb763b343eb0c01da9e419c63b5fc64c1","lines":3}'


def test_a_ledger_from_before_there_were_persons_keeps_its_charges(
    kit: Kit, tmp_path: Path
) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text(OLD)
    path.with_name("old.jsonl.head").write_text(HEAD)
    data = kit.dataset(kit.source(), tmp_path, ledger=path)
    assert data.ledger.relation == ADD_REMOVE
    event = GaussianLeaf(0.25, 3.0, 4).event
    assert data.ledger.spent() == epsilon_of(event, DELTA, ADD_REMOVE)
    # A run that was begun by the old version and is resumed by this one pays nothing again.
    charge = Charge("teacher", plan_hash("teacher", event, {"bound": 1.0}), event)
    assert data.ledger.holds("one", charge)
    data.ledger.charge("one", [charge])
    assert path.read_text() == OLD
    with pytest.raises(ValueError, match="kept for units of at most 1 records.*asks for 3"):
        persons = type(data)(kit.source(), ledger=path, max_records_per_unit=3)
        persons.open_ledger(kit.LIMIT, tmp_path)


def test_a_ledger_that_says_no_unit_is_refused_and_never_taken_for_one_of_records(
    tmp_path: Path,
) -> None:
    path, facts = tmp_path / "none.jsonl", PublicFacts((1, 1, 3), ("a", "b"), 20).to_dict()
    del facts["max_records_per_unit"]
    with pytest.raises(LedgerError, match="states no relation"):
        PrivacyLedger.open(path, adjacency="add_remove", facts=facts, limit=Budget(3.0, DELTA))
    first = {k: v for k, v in json.loads(OLD.split("\n")[0]).items() if k not in ("hash", "prev")}
    (line,) = chain([{**first, "facts": facts}], "0" * 64)
    path.write_text(canonical(line) + "\n")
    path.with_name("none.jsonl.head").write_text(canonical({"lines": 1, "hash": line["hash"]}))
    with pytest.raises(LedgerError, match="states no relation"):
        _ = PrivacyLedger(path).spent()
