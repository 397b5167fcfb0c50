from __future__ import annotations

import copy
import functools
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpgen.privacy import accounting, statement, verification
from dpgen.privacy.accounting import Adjacency, Budget, epsilon_of
from dpgen.privacy.certificate import (
    CertificateError,
    read_statement,
    sha256_file,
    tree_hash,
)
from dpgen.privacy.chain import canonical, digest
from dpgen.privacy.charges import executed_releases, releases_of
from dpgen.privacy.events import GaussianLeaf, compose, event_to_json
from dpgen.privacy.keys import StageKeys
from dpgen.privacy.mechanisms import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statement import (
    accounting_of,
    declaration,
    inherited,
    sentence,
    statement_of,
)
from dpgen.privacy.verification import verify

Kit = Any  # what conftest.py shares

DELTA = 1e-5


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is priced once: the real price, not the real patience."""
    for name in ("epsilon_of", "delta_of", "second_opinion"):
        priced = _remembering(name, getattr(accounting, name))
        for module in (statement, verification):
            monkeypatch.setattr(module, name, priced, raising=False)


PRICES: dict[str, Any] = {}


def _remembering(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def priced(event: Any, number: float, adjacency: str) -> Any:  # noqa: ANN401
        key = json.dumps([name, event_to_json(event), number, adjacency])
        if key not in PRICES:
            PRICES[key] = real(event, number, adjacency)
        return PRICES[key]

    return priced


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
        data.begin("run", StageKeys(place / "keys"), Plan(stages, "add_remove"))
    data.release(stages[0].mechanism, label="means")
    for step in data.steps(stages[1].mechanism, label="teacher"):
        step.gradient(kit.linear_loss, kit.no_draws, kit.parameters())
    lines = data.ledger.lines_of("run")
    (folder / "ledger.jsonl").write_text("".join(canonical(line) + "\n" for line in lines))
    (folder / "facts.json").write_text(canonical(data.facts.to_dict()))
    (folder / "model.safetensors").write_bytes(bytes(range(64)))
    settings = {stage.label: stage.mechanism.settings for stage in stages}
    statement = statement_of(
        "model",
        lines=lines,
        delta=DELTA,
        mechanism={"id": "x/y", "theorem": "B1", "stages": settings},
        files={p.name: sha256_file(p) for p in sorted(folder.iterdir())},
        data_set=data.account(),
    )
    (folder / "privacy.json").write_text(json.dumps(statement, indent=1))
    return folder


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
    return all(check.passed for check in checks)


def rewrite(folder: Path, statement: dict[str, Any], *, seal: bool) -> None:
    """Writes an edited statement; with ``seal`` its own hash is made to fit."""
    if seal:
        body = {key: value for key, value in statement.items() if key != "sha256"}
        statement = {**body, "sha256": digest(body)}
    (folder / "privacy.json").write_text(json.dumps(statement, indent=1))


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
    exact = epsilon_of(event, DELTA, "add_remove")
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
    assert len(paths) > 60
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
        (("schema",), "dpgen-privacy/2"),
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
    forged = read_statement(run) | accounting_of(compose(cheaper), DELTA, adjacency)
    forged["statement"] = sentence("model", forged["guarantee"]["epsilon"], DELTA, adjacency)
    rewrite(run, forged, seal=True)
    assert not holds(run)


def test_a_changed_epsilon_fails_the_check_of_epsilon(run: Path) -> None:
    for value in (0.1, 99.0):
        rewrite(run, edited(read_statement(run), ("guarantee", "epsilon"), value), seal=True)
        failed = {check.name for check in verify(run) if not check.passed}
        assert "epsilon from the events" in failed


def test_changing_leaving_out_or_adding_a_file_is_seen(run: Path) -> None:
    for name in ("model.safetensors", "facts.json", "ledger.jsonl"):
        path = run / name
        content = path.read_bytes()
        for at in range(0, len(content), max(1, len(content) // 25)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert not holds(run), (name, at)
        path.write_bytes(content[:-1])
        assert not holds(run)
        path.write_bytes(content + b"\n")
        assert not holds(run)
        path.unlink()
        assert not holds(run)
        path.write_bytes(content)
        assert holds(run)
    (run / "notes.txt").write_text("more")
    assert not holds(run)


def test_a_ledger_copy_that_charges_other_events_is_seen_though_its_hash_was_updated(
    run: Path,
) -> None:
    statement = read_statement(run)
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    for drop in (1, 2, 3, 4):
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
    (made / "privacy.json").write_text(json.dumps(statement))
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


def test_a_notice_is_never_a_certificate(run: Path) -> None:
    (run / "notice.json").write_text("{}")
    with pytest.raises(CertificateError, match="notice, not a certificate"):
        verify(run)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '{"schema": "dpgen-privacy/1"}'])
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
    words = sentence("model", 1.01, delta, "replace_one")
    stated = float(words.split(", ")[1].split(")")[0])
    assert delta <= stated <= delta * (1 + 1e-5)
    assert "(1.01, " in words
    assert "replacing one record" in words
    assert "adding or removing one record" in sentence("model", 1.0, 1e-5, "add_remove")


def test_mu_is_stated_for_unsampled_runs_only_and_doubles_under_replace_one() -> None:
    event = GaussianLeaf(1.0, 6.0, 4).event
    add = accounting_of(event, DELTA, "add_remove")["guarantee"]["mu_gdp"]
    assert add == pytest.approx(1 / 3, rel=1e-4)
    assert add >= 1 / 3
    other = accounting_of(event, DELTA, "replace_one")["guarantee"]["mu_gdp"]
    assert other == pytest.approx(2 / 3, rel=1e-4)
    sampled = compose([event, GaussianLeaf(0.25, 3.0, 4).event])
    assert accounting_of(sampled, DELTA, "add_remove")["guarantee"]["mu_gdp"] is None


def test_the_profile_is_an_upper_bound_at_the_epsilons_it_names() -> None:
    event = GaussianLeaf(1.0, 3.0, 1).event
    guarantee = accounting_of(event, DELTA, "add_remove")["guarantee"]
    for epsilon, delta in guarantee["profile"]:
        exact = accounting.delta_of(event, epsilon, "add_remove")
        assert exact <= delta <= exact * 1.02
        assert math.isfinite(epsilon)


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
