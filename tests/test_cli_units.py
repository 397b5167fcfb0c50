"""People's records counted by the reader: from folders of people to a set whose page says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpgen.data.formats.pictures import encode_png
from dpgen.data.opening import open_images
from dpgen.data.sources import open_source
from dpgen.data.units import Units
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.ledger.charges import Charge
from dpgen.privacy.statements.certificate import CertificateError, statement_bytes
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import digest
from tests.commands import dpgen
from tests.data.test_units import pictures
from tests.test_cli_trust import BUDGET, TINY, statement, train

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

COUNTED = ["--unit", "folder", "--max-records-per-unit", 2]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Eight people with one to five pictures of 8x8 each, 24 in all."""
    rng, root = np.random.default_rng(0), tmp_path / "people"
    for who, n in enumerate((1, 1, 2, 2, 3, 5, 5, 5)):
        folder = root / ("sick" if who % 2 else "well") / f"p{who}"
        folder.mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)
            (folder / f"{i}.png").write_bytes(encode_png(pixels))
    return root


def resealed(run: Path, told: dict[str, Any]) -> list[str]:
    """The checks that fail on another statement, made to fit its own hash."""
    body = {key: value for key, value in told.items() if key != "sha256"}
    (run / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))
    try:
        return [check.name for check in verify(run) if check.failed]
    except CertificateError as error:
        return [str(error)]


def archive(path: Path) -> Path:
    """Thirty images of 8x8 in two classes, without ids."""
    pixels = np.random.default_rng(1).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(30) % 2, class_names=np.array(["0", "1"]))
    return path


@pytest.mark.filterwarnings("ignore:.*records are not used")
def test_from_folders_of_people_to_a_page_that_says_enforced(people: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "set"
    done = train(people, run, *COUNTED)
    assert done.exit_code == 0, done.stderr
    assert "14 records" in done.stderr  # 1 + 1 + 6 * 2
    told = statement(run)
    assert told["facts"]["n_records"] == 14
    assert told["facts"]["unit_bound"] == told["guarantee"]["unit_bound"] == "enforced"
    assert "at most 2 were used: the bound is enforced" in told["statement"]
    assert "when those of each person had been counted" in told["declared"]
    assert not [one for one in told["implementation"]["caveats"] if "declared" in one]
    checked = dpgen("verify", run)
    assert checked.exit_code == 0 and "of one person; enforced" in checked.stdout

    drawn = dpgen("sample", run, "-n", 4, "--out", out, "-q", "--device", "cpu")
    assert drawn.exit_code == 0, drawn.stderr
    assert statement(out)["statement"].endswith("the bound is enforced.")
    assert "Enforced: the records of each person were counted" in (out / "RELEASE.md").read_text()
    assert dpgen("verify", out).exit_code == 0

    # The same command finds the run finished; without the ids these are other data.
    again = train(people, run, *COUNTED)
    assert again.exit_code == 0 and "nothing was charged" in again.stderr
    assert train(people, run, "--max-records-per-unit", 2).exit_code == 2


@pytest.mark.filterwarnings("ignore:.*records are not used")
def test_a_statement_says_enforced_in_every_place_or_in_none(people: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(people, run, *COUNTED).exit_code == 0
    told = statement(run)
    assert resealed(run, told) == []
    for part in ("facts", "guarantee"):
        less = {**told, part: {k: v for k, v in told[part].items() if k != "unit_bound"}}
        assert resealed(run, less)
        assert resealed(run, {**told, part: {**told[part], "unit_bound": "declared"}})
    # An earlier statement, or one of declared people, does not become one of counted people.
    plain = tmp_path / "plain"
    assert train(archive(tmp_path / "x.npz"), plain, "--max-records-per-unit", 2).exit_code == 0
    told = statement(plain)
    assert "unit_bound" not in told["facts"] and "unit_bound" not in told["guarantee"]
    assert "enforced" not in json.dumps(told)
    assert "2 records is declared and not checked" in " ".join(told["implementation"]["caveats"])
    assert resealed(plain, told) == []
    for part in ("facts", "guarantee"):
        assert resealed(plain, {**told, part: {**told[part], "unit_bound": "enforced"}})


def test_a_unit_without_a_bound_is_refused_with_the_cure(people: Path, tmp_path: Path) -> None:
    refused = train(people, tmp_path / "run", "--unit", "folder")
    assert refused.exit_code == 2 and "--unit needs --max-records-per-unit M" in refused.stderr
    assert not (tmp_path / "run").exists()
    facts = tmp_path / "facts.toml"
    facts.write_text('shape = [1, 8, 8]\nclass_names = ["sick", "well"]\nn_records = 14\n')
    refused = train(people, tmp_path / "run", "--unit", "folder", "--facts", facts)
    assert refused.exit_code == 2 and "--unit needs --max-records-per-unit M" in refused.stderr
    facts.write_text(facts.read_text() + 'unit_bound = "enforced"\n')
    refused = train(people, tmp_path / "run", "--facts", facts)
    assert refused.exit_code == 2 and "must not set unit_bound" in refused.stderr


@pytest.mark.filterwarnings("ignore:.*records are not used")
def test_stated_facts_with_people_are_of_the_bound_that_is_enforced(
    people: Path, tmp_path: Path
) -> None:
    """A count that is stated stays as it is, whatever is left out: rates are made of it."""
    facts = PublicFacts((1, 8, 8), ("sick", "well"), 20, max_records_per_unit=3, origin="stated")
    data = open_images(people, unit="folder", facts=facts)
    assert data.facts.unit_bound == "enforced" and data.facts.n_records == 20
    with pytest.raises(ValueError, match="counted for units of at most 2, the facts are for 3"):
        type(data)(open_source(people, units=Units("folder", 2)), facts=facts, counted=2)


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        ({"unit": "who"}, {}, "were counted, and these were not: give --unit and --max-records"),
        ({}, {"unit": "who"}, "whose size is declared.*drop --unit"),
    ],
)
def test_a_ledger_of_counted_people_takes_no_run_on_people_who_were_not(
    first: dict[str, str], then: dict[str, str], why: str, tmp_path: Path
) -> None:
    """Nobody has more than two pictures, so that the records are the same either way."""
    names = [f"{i}.png" for i in range(10)]
    pictures(tmp_path / "x", names)
    rows = [f"{name},{i // 2}" for i, name in enumerate(names)]
    (tmp_path / "x" / "metadata.csv").write_text("\n".join(["file_name,who", *rows]))
    limit = Budget(3.0, 1e-3)

    def opened(unit: dict[str, str]) -> Any:  # noqa: ANN401
        data = open_images(tmp_path / "x", max_records_per_unit=2, **unit)  # type: ignore[arg-type]
        data.open_ledger(limit, tmp_path)
        return data

    data = opened(first)
    data.ledger.path.parent.mkdir(parents=True)
    data.ledger.charge("one", [Charge("a", "0" * 64, GaussianLeaf(1.0, 30.0, 1).event)])
    with pytest.raises(ValueError, match=why):
        opened(then)
    assert opened(first).facts == data.facts
    assert data.facts.unit_bound == ("enforced" if first else "declared")


def test_a_plan_tells_the_price_of_a_record_and_of_a_person(people: Path, tmp_path: Path) -> None:
    plan = ["plan", "dpdm", *BUDGET[:4], *TINY, "--data"]
    npz = archive(tmp_path / "x.npz")
    said = dpgen(*plan, npz, "--max-records-per-unit", 2)
    assert said.exit_code == 0, said.stderr
    assert "of a person with 2 records 0.3 (group price; the bound is declared)" in said.stdout
    assert "clipped the sum of a person's records would cost 0." in said.stdout
    assert "group price" not in dpgen(*plan, npz).stdout
    said = dpgen(*plan, people, *COUNTED)
    assert "10 of 24 records are not used" in said.stderr
    assert "(group price; the bound is enforced)" in said.stdout
