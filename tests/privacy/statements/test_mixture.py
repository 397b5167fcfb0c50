"""Mixtures: runs add up, a run counts once, and only who declares data sets disjoint pays less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import epsilon_of, round_up
from dpgen.privacy.accounting.events import GaussianLeaf, compose
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.certificate import (
    CertificateError,
    read_statement,
    statement_bytes,
    tree_hash,
)
from dpgen.privacy.statements.mixture import _worst, account_of, mixed
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import digest
from tests.relations import ADD_REMOVE, REPLACE_ONE

Kit = Any  # what conftest.py shares

pytestmark = pytest.mark.usefixtures("remembering")

DELTA = 1e-5
FACTS = PublicFacts((1, 1, 3), ("a", "b"), 20)


@pytest.fixture
def part(kit: Kit, tmp_path: Path) -> Any:  # noqa: ANN401
    """The statement of a set of a run, by the names of ledger and run."""

    def make(ledger: str, run: str, *, multiplier: float = 6.0, seed: int = 0, **given: Any) -> Any:  # noqa: ANN401
        folder = tmp_path / ledger / run
        if not folder.exists():
            kit.run(folder, ledger=tmp_path / f"{ledger}.jsonl", multiplier=multiplier, **given)
        name = f"{ledger}-{run}-{seed}"
        return read_statement(kit.set(tmp_path / name, folder, seed=seed))

    return make


def price(*multipliers: float, relation: Relation = ADD_REMOVE) -> float:  # noqa: ANN401
    event = compose(GaussianLeaf(1.0, x, 1).event for x in multipliers)
    return round_up(epsilon_of(event, DELTA, relation))


def mixture(*parts: Any, disjoint: bool = False) -> dict[str, Any]:  # noqa: ANN401
    return mixed(parts, disjoint=disjoint, files={}, synthetic={"samples": 8})


def test_two_runs_on_one_data_set_compose_whatever_is_declared(part: Any) -> None:  # noqa: ANN401
    one, two = part("x", "one"), part("x", "two", multiplier=9.0)
    for disjoint in (False, True):
        made = mixture(one, two, disjoint=disjoint)
        assert made["mixture"]["rule"] == "composition"
        assert made["guarantee"]["epsilon"] == price(6.0, 9.0) > max(price(6.0), price(9.0))
        assert f"({price(6.0, 9.0):g}, " in made["statement"]


def test_sets_of_one_run_cost_what_it_cost(part: Any) -> None:  # noqa: ANN401
    one, again, other = part("x", "one"), part("x", "one", seed=1), part("x", "two")
    assert mixture(one, again)["guarantee"]["epsilon"] == price(6.0)
    assert mixture(one, other, again)["guarantee"]["epsilon"] == price(6.0, 6.0)


def test_other_names_of_ledgers_prove_nothing_and_without_a_word_runs_compose(part: Any) -> None:  # noqa: ANN401
    one, two = part("x", "one"), part("y", "one", multiplier=9.0)
    assert one["data_set"]["name"] != two["data_set"]["name"]
    made = mixture(one, two)
    assert made["mixture"]["rule"] == "composition" and "declared by" not in made["statement"]
    assert made["guarantee"]["epsilon"] == price(6.0, 9.0)


def test_of_disjoint_data_sets_the_costliest_counts_and_runs_on_each_compose(part: Any) -> None:  # noqa: ANN401
    parts = [part("x", "one"), part("y", "one", multiplier=9.0), part("y", "two", multiplier=7.0)]
    made = mixture(*parts, disjoint=True)
    assert made["mixture"]["rule"] == "maximum"
    assert made["guarantee"]["epsilon"] == max(price(6.0), price(9.0, 7.0)) == price(9.0, 7.0)
    assert "declared by whoever mixed the set" in made["statement"]
    assert "no record is in two of them" in made["statement"]
    # Names of ledgers are random: the costliest comes first in one of the two.
    for dear, cheap in (("x", "y"), ("y", "x")):
        two = part(dear, "dear", multiplier=5.0), part(cheap, "cheap", multiplier=50.0)
        assert mixture(*two, disjoint=True)["guarantee"]["epsilon"] == price(5.0)
    alone = mixture(parts[1], parts[2])["guarantee"]
    for name in ("mu_gdp", "group", "profile"):
        assert made["guarantee"][name] == alone[name]


def test_replaced_records_may_move_so_a_declaration_is_refused(part: Any) -> None:  # noqa: ANN401
    facts = PublicFacts((1, 1, 3), ("a", "b"), 20, "replace_one")
    parts = [part("x", "one", facts=facts), part("y", "one", facts=facts)]
    with pytest.raises(ValueError, match="possible under add_remove only"):
        mixture(*parts, disjoint=True)
    made = mixture(*parts)
    assert made["guarantee"]["epsilon"] == price(6.0, 6.0, relation=REPLACE_ONE)


def test_persons_compose_and_are_never_mixed_with_records(part: Any) -> None:  # noqa: ANN401
    facts = PublicFacts((1, 1, 3), ("a", "b"), 20, max_records_per_unit=3)
    persons = [part("x", "one", facts=facts), part("y", "one", facts=facts, multiplier=9.0)]
    made = mixture(*persons, disjoint=True)
    assert made["guarantee"]["epsilon"] == price(6.0, relation=Relation("add_remove", 3))
    assert made["guarantee"]["max_records_per_unit"] == 3
    assert "no person is in two" in made["statement"]
    with pytest.raises(ValueError, match="stated for one relation"):
        mixture(persons[0], part("z", "one"))


def test_the_smallest_delta_is_that_of_the_mixture(part: Any) -> None:  # noqa: ANN401
    made = mixture(part("x", "one", delta=1e-4), part("x", "two"))
    assert made["guarantee"]["delta"] == DELTA
    assert made["guarantee"]["epsilon"] == price(6.0, 6.0)


def test_a_mixture_is_of_counted_people_where_all_of_its_data_sets_are(part: Any) -> None:  # noqa: ANN401
    one, two = part("x", "one"), part("y", "one")
    counted = [{**p, "guarantee": {**p["guarantee"], "unit_bound": "enforced"}} for p in (one, two)]
    made = mixture(*counted)
    assert made["guarantee"]["unit_bound"] == "enforced" and "is enforced." in made["statement"]
    for parts in ((counted[0], two), (one, counted[1]), (one, two)):
        made = mixture(*parts)
        assert "unit_bound" not in made["guarantee"] and "enforced" not in made["statement"]


def test_a_mixture_of_a_mixture_is_refused(part: Any) -> None:  # noqa: ANN401
    made = mixture(part("x", "one"), part("x", "two"))
    with pytest.raises(ValueError, match="not mixed again"):
        account_of([made, part("x", "three")], disjoint=False)


def test_sets_of_one_run_that_say_different_things_of_it_are_refused(part: Any) -> None:  # noqa: ANN401
    """Else the cheaper word would be the one that counts."""
    dear, cheap = part("x", "one"), part("x", "one", seed=1)
    events = [{**row, "noise_multiplier": 60.0} for row in cheap["accounting"]["events"]]
    forgeries = (
        {**cheap, "accounting": {**cheap["accounting"], "events": events}},
        {**cheap, "data_set": {**cheap["data_set"], "name": "other"}},
    )
    for forged in forgeries:
        for parts in ([dear, forged], [forged, dear]):
            with pytest.raises(ValueError, match="must say the same of it"):
                account_of(parts, disjoint=False)


def written(folder: Path, statement: dict[str, Any], *, seal: bool = True) -> Path:
    """A set of one file with this statement, its seal made to fit."""
    folder.mkdir(exist_ok=True)
    (folder / "images.bin").write_bytes(b"images")
    body = {key: value for key, value in statement.items() if key != "sha256"}
    body["artifact"] = {**body["artifact"], "files": tree_hash(folder)}
    (folder / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))
    return folder


def holds(folder: Path) -> bool:
    try:
        return not any(check.failed for check in verify(folder))
    except CertificateError:
        return False


def test_a_mixture_is_verified_and_every_forgery_of_it_is_seen(part: Any, tmp_path: Path) -> None:  # noqa: ANN401
    parts = [part("x", "one"), part("y", "one", multiplier=9.0)]
    genuine = mixture(*parts)
    assert holds(written(tmp_path / "c", genuine))
    cheaper = mixture(*parts, disjoint=True)
    assert cheaper["guarantee"]["epsilon"] < genuine["guarantee"]["epsilon"]
    alone, whole = mixture(parts[0], part("x", "one", seed=1)), genuine["mixture"]
    resealed = {**parts[0], "guarantee": {**parts[0]["guarantee"], "epsilon": 0.1}}
    resealed["sha256"] = digest({k: v for k, v in resealed.items() if k != "sha256"})
    unsealed = {**parts[0], "verified": "by me"}
    forgeries = {
        "the guarantee of the maximum": {**genuine, "guarantee": cheaper["guarantee"]},
        "the sentence of the maximum": {**genuine, "statement": cheaper["statement"]},
        "its rule": {**genuine, "mixture": {**whole, "rule": "maximum"}},
        "its declaration": {**genuine, "mixture": {**whole, "disjoint": True}},
        "a part less": {**genuine, "mixture": {**whole, "parts": parts[:1]}},
        "no part": {**genuine, "mixture": {**whole, "parts": []}},
        "another part": {**genuine, "mixture": {**whole, "parts": alone["mixture"]["parts"]}},
        "a cheaper part": {**genuine, "mixture": {**whole, "parts": [resealed, parts[1]]}},
        "a changed part": {**genuine, "mixture": {**whole, "parts": [unsealed, parts[1]]}},
        "other parents": {**genuine, "artifact": {**genuine["artifact"], "parents": ["0" * 64]}},
        "other data sets": {**genuine, "data_sets": []},
        "accounting": {**genuine, "accounting": cheaper["accounting"]},
        "a mixture of nothing": {**genuine, "mixture": None},
        "an honest set": {k: v for k, v in genuine.items() if k != "mixture"},
    }
    for name, forged in forgeries.items():
        assert not holds(written(tmp_path / "c", forged)), name
    assert holds(written(tmp_path / "c", cheaper))


def test_what_is_not_known_of_one_data_set_is_not_known_of_the_mixture() -> None:
    assert _worst([1.0, 3.0, 2.0]) == 3.0
    assert _worst([1.0, "infinity", 2.0]) == "infinity"
    assert _worst([1.0, None, "infinity"]) is None
