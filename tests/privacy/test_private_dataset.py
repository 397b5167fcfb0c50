from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.data import account, identity
from dpgen.data.identity import fingerprint, installation_key
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts, to_float
from dpgen.privacy.accounting.accountant import Budget, epsilon_of
from dpgen.privacy.accounting.events import leaves
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger import charges
from dpgen.privacy.ledger import privacy_ledger as ledger_module
from dpgen.privacy.ledger.chain import LedgerError, parse_lines
from dpgen.privacy.ledger.charges import executed_releases
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded, PrivacyLedger
from dpgen.privacy.ledger.shared_ledger import OverlapError
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.question import Given, Question
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.notice import Claim, unbounded
from dpgen.runs.checkpoint import Checkpoints
from tests.relations import ADD_REMOVE, REPLACE_ONE

Kit = Any  # what conftest.py shares

N_STEPS = 6


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doors do not depend on how the accountant counts: steps / 100 stand for epsilon."""

    def price(event: Any, delta: float, adjacency: str) -> float:  # noqa: ANN401
        return sum(leaf.steps for leaf in leaves(event)) / 100

    for module in (charges, ledger_module):
        monkeypatch.setattr(module, "epsilon_of", price)


def sgd(**changes: Any) -> NoisySGD:  # noqa: ANN401
    numbers = {"rate": 0.5, "n_steps": N_STEPS, "noise_multiplier": 1.0, "n_records": 20}
    return NoisySGD(**(numbers | changes))


def plan(kit: Kit, **changes: Any) -> Plan:  # noqa: ANN401
    stages = (Stage("means", NoisySum(kit.Echo(), 4.0)), Stage("teacher", sgd(**changes)))
    return Plan(stages, ADD_REMOVE)


def begun(
    kit: Kit,
    folder: Path,
    *,
    source: Any = None,  # noqa: ANN401
    run: str = "run",
    **changes: Any,  # noqa: ANN401
) -> PrivateDataset:
    data = kit.dataset(source or kit.source(), folder)
    data.begin(run, StageKeys(folder / "keys"), plan(kit, **changes))
    return data


def descend(
    kit: Kit,
    data: PrivateDataset,
    *,
    start: int = 0,
    stop: int = N_STEPS,
    w: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Gradient descent from step ``start``, whose state is saved before step ``stop`` is asked for,
    when it is killed.
    """
    w = w or kit.parameters()
    if start == stop:
        return w
    for step in data.steps(sgd(), label="teacher", start=start, micro_batch=4):
        gradient = step.gradient(kit.Linear(), w)
        w = {name: value - 0.1 * gradient[name] for name, value in w.items()}
        if step.index + 1 == stop:
            break
    done = step.index + 1
    data.save_state(Checkpoints(data.ledger.path.parent / "state"), "teacher", w, step=done)
    return w


def question(kit: Kit, micro_batch: int) -> str:
    """The digest of what a step asks with the first parameters."""
    return Question.of(
        mechanism=sgd(), objective=kit.Linear(), parameters=Given(kit.parameters()), engine="vmap",
        micro_batch=micro_batch, device="cpu",
    ).digest  # fmt: skip


def release(data: PrivateDataset, kit: Kit) -> dict[str, Tensor]:  # noqa: ANN401
    return data.release(NoisySum(kit.Echo(), 4.0), label="means")


def test_there_is_no_way_in_but_the_doors(kit: Kit, tmp_path: Path) -> None:
    data = kit.dataset(kit.source(), tmp_path)
    for way_in in (len, iter, list, lambda d: d[0]):
        with pytest.raises(TypeError):
            way_in(data)


def test_no_record_is_read_before_the_run_is_charged(kit: Kit, tmp_path: Path) -> None:
    source = kit.source()
    data = kit.dataset(source, tmp_path)
    with pytest.raises(RuntimeError, match="no record is read before"):
        release(data, kit)
    with pytest.raises(RuntimeError, match="no record is read before"):
        descend(kit, data)
    assert source.reads == []


def test_the_charge_is_on_disk_before_the_first_record_is_read(kit: Kit, tmp_path: Path) -> None:
    source = kit.source()
    data = kit.dataset(source, tmp_path)
    seen: list[set[str]] = []

    def look() -> None:
        text = data.ledger.path.read_text()
        lines = parse_lines(text, "ledger")
        seen.append({line["label"] for line in lines if line["kind"] == "charge"})

    source.on_read = look
    data.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
    assert seen == []
    release(data, kit)
    descend(kit, data)
    assert len(seen) > 3
    assert all(labels == {"means", "teacher"} for labels in seen)


def test_a_budget_without_room_reads_and_writes_nothing(kit: Kit, tmp_path: Path) -> None:
    source = kit.source()
    data = kit.dataset(source, tmp_path, limit=Budget(0.069, 1e-5))
    with pytest.raises(BudgetExceeded):
        data.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
    with pytest.raises(RuntimeError, match="no record is read before"):
        release(data, kit)
    assert source.reads == []
    assert not data.ledger.path.exists()


def test_releases_in_the_kernel_are_those_in_the_ledger_and_in_the_event(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T10: counted in the noise kernel and at the reader, not in the doors."""
    added: list[tuple[float, int, str]] = []
    real = KeyedNoise.add

    def add(self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        added.append((std, release, name))
        return real(self, total, std, release=release, name=name)

    monkeypatch.setattr(KeyedNoise, "add", add)
    source = kit.source()
    data = begun(kit, tmp_path, source=source)
    release(data, kit)
    reads_of_release = sum(map(len, source.reads))
    descend(kit, data)
    assert reads_of_release == len(source)
    lines = data.ledger.lines_of("run")
    assert executed_releases(lines) == {"means": 1, "teacher": N_STEPS}
    by_event = {leaf.rate: leaf for leaf in leaves(plan(kit).event)}
    assert by_event[1.0].steps == 1
    assert by_event[0.5].steps == N_STEPS
    means = [(4.0 * 2.0, 0, name) for name in ("own", "all")]
    teacher = [(1.0, i, name) for i in range(N_STEPS) for name in ("w", "table")]
    assert added == means + teacher


def test_the_step_reads_the_records_of_its_coins_and_no_other(kit: Kit, tmp_path: Path) -> None:
    source = kit.source()
    data = begun(kit, tmp_path, source=source)
    noise = StageKeys(tmp_path / "keys").noise(Stage("teacher", sgd()).charge.plan)
    noise = noise.for_question(question(kit, 3))
    for step in data.steps(sgd(), label="teacher", micro_batch=3):
        source.reads.clear()
        step.gradient(kit.Linear(), kit.parameters())
        expected = noise.coins(20, 0.5, release=step.index).tolist()
        assert [i for read in source.reads for i in read] == expected


@pytest.mark.parametrize("killed_at", range(N_STEPS + 1))
@pytest.mark.parametrize("lost", [0, 1])
def test_a_run_that_is_killed_and_resumed_gives_the_same_answer_and_pays_once(
    killed_at: int, lost: int, kit: Kit, tmp_path: Path
) -> None:
    """Killed after any step; the checkpoint is of that step or of the one before."""
    whole = descend(kit, begun(kit, tmp_path))
    held = max(killed_at - lost, 0)
    data = begun(kit, tmp_path)
    w = descend(kit, data, stop=held)
    if killed_at > held:
        data = begun(kit, tmp_path)
        descend(kit, data, start=held, stop=killed_at, w=w)
    resumed = begun(kit, tmp_path)
    w = descend(kit, resumed, start=held, w=w)
    for name, value in whole.items():
        assert torch.equal(w[name], value)
    lines = resumed.ledger.lines()
    assert [line["label"] for line in lines if line["kind"] == "charge"] == ["means", "teacher"]
    assert executed_releases(lines)["teacher"] == N_STEPS


def test_a_release_that_is_repeated_after_a_kill_is_the_same(kit: Kit, tmp_path: Path) -> None:
    first = release(begun(kit, tmp_path), kit)
    again = release(begun(kit, tmp_path), kit)
    for name, table in first.items():
        assert torch.equal(again[name], table)


def test_two_runs_of_one_plan_share_no_noise_under_one_public_seed(
    kit: Kit, tmp_path: Path
) -> None:
    found = []
    with torch.random.fork_rng():
        for run in ("one", "two"):
            torch.manual_seed(0)
            np.random.seed(0)
            data = begun(kit, tmp_path / run, run=run)
            found.append((release(data, kit)["own"], descend(kit, data)["w"]))
    for a, b in zip(*found, strict=True):
        assert not torch.isin(a, b).any()


@pytest.mark.parametrize("run", ["run", "another"])
def test_records_that_change_between_two_begins_are_not_charged_as_what_they_were(
    run: str, kit: Kit, tmp_path: Path
) -> None:
    source = kit.source()
    data = kit.dataset(source, tmp_path)
    data.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
    first, before = data.ledger.path, data.ledger.path.read_bytes()
    source.pixels[0, 0, 0, 0] ^= 1
    for _ in range(2):
        with pytest.raises(LedgerError, match="records changed .* call open_ledger again"):
            data.begin(run, StageKeys(tmp_path / run), plan(kit))
        with pytest.raises(RuntimeError, match="no record is read"):
            data.release(NoisySum(kit.Echo(), 4.0), label="means")
    assert first.read_bytes() == before and source.reads == []
    data.open_ledger(kit.LIMIT, tmp_path)
    assert data.ledger.path != first, "the records of the second ledger are other ones"
    with pytest.raises(OverlapError, match="of the 20 different images of these data, 19 "):
        data.begin("third", StageKeys(tmp_path / "third"), plan(kit))


def test_records_are_identified_when_a_ledger_is_opened_and_when_a_run_is_begun(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a pass over all of them; nothing else does."""
    real, seen = account.identify, []
    monkeypatch.setattr(account, "identify", lambda *given: (seen.append(1), real(*given))[1])
    data = kit.dataset(kit.source(), tmp_path)  # opens its ledger
    for n in (3, 5):
        data.open_ledger(kit.LIMIT, tmp_path)
        data.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
        data.account()
        assert len(seen) == n


def test_a_stage_answers_once_per_begin(kit: Kit, tmp_path: Path) -> None:
    """The same noise on another question: the difference of two answers would have none."""
    data = begun(kit, tmp_path)
    release(data, kit)
    with pytest.raises(RuntimeError, match="second answer is a second release"):
        release(data, kit)
    descend(kit, data, stop=2)
    with pytest.raises(RuntimeError, match="second answer is a second release"):
        descend(kit, data, start=2)


def test_a_step_that_was_handed_out_counts_as_made(kit: Kit, tmp_path: Path) -> None:
    """Whoever stops after an answer has it, whether or not the next step is asked for."""
    data = begun(kit, tmp_path)
    descend(kit, data, stop=2)
    assert executed_releases(data.ledger.lines())["teacher"] == 2


def test_a_note_that_cannot_be_written_is_told_unless_nobody_hears_it_and_a_resume_writes_it(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leaves a stage in the middle has its own failure to tell."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    data = begun(kit, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(PrivacyLedger, "executed", full)
        steps = data.steps(sgd(), label="teacher", micro_batch=4)
        next(steps)
        steps.close()
    assert "teacher" not in executed_releases(data.ledger.lines())
    w = descend(kit, begun(kit, tmp_path), stop=1)
    again = begun(kit, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(PrivacyLedger, "executed", full)
        with pytest.raises(OSError, match="no space"):
            descend(kit, again, stop=N_STEPS + 1)
    last = begun(kit, tmp_path)
    descend(kit, last, start=1, w=w)
    assert executed_releases(last.ledger.lines())["teacher"] == N_STEPS


def test_a_stage_whose_key_is_gone_is_refused_before_a_record_is_read(
    kit: Kit, tmp_path: Path
) -> None:
    data = begun(kit, tmp_path)
    descend(kit, data, stop=2)
    StageKeys(tmp_path / "keys").forget(Stage("teacher", sgd()).charge.plan)
    source = kit.source()
    resumed = begun(kit, tmp_path, source=source)
    with pytest.raises(LedgerError, match="key of this stage is gone"):
        descend(kit, resumed)
    assert source.reads == []


def test_a_finished_stage_was_executed_as_charged_though_a_kill_took_the_note(
    kit: Kit, tmp_path: Path
) -> None:
    data = begun(kit, tmp_path)
    data.finish("teacher", sgd())
    data.finish("teacher", sgd())
    lines = data.ledger.lines()
    assert executed_releases(lines) == {"teacher": N_STEPS}
    assert sum(line["kind"] == "executed" for line in lines) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.4},
        {"n_steps": 7},
        {"n_steps": 5},
        {"noise_multiplier": 0.9},
        {"clip_norm": 2.0},
        {"n_records": 21},
    ],
)
def test_a_resume_under_another_plan_is_refused_and_reads_nothing(
    change: dict[str, Any], kit: Kit, tmp_path: Path
) -> None:
    descend(kit, begun(kit, tmp_path), stop=2)
    source = kit.source()
    with pytest.raises(LedgerError, match="charged for another plan"):
        begun(kit, tmp_path, source=source, **change)
    data = begun(kit, tmp_path, source=source)
    with pytest.raises(LedgerError, match="not what was charged"):
        next(iter(data.steps(sgd(**change), label="teacher")))
    assert source.reads == []
    assert sum(line["kind"] == "charge" for line in data.ledger.lines()) == 2


def test_a_mechanism_that_is_not_in_the_plan_is_refused_and_charges_nothing(
    kit: Kit, tmp_path: Path
) -> None:
    source = kit.source()
    data = begun(kit, tmp_path, source=source)
    before = data.ledger.path.read_bytes()
    with pytest.raises(LedgerError, match="not what was charged"):
        data.release(NoisySum(kit.Echo(), 4.0), label="other")
    with pytest.raises(LedgerError, match="not what was charged"):
        data.release(NoisySum(kit.Echo(bound=3.0), 4.0), label="means")
    with pytest.raises(LedgerError, match="not what was charged"):
        next(iter(data.steps(sgd(), label="means")))
    assert source.reads == []
    assert data.ledger.path.read_bytes() == before


def changed(kit: Kit, how: str) -> Any:  # noqa: ANN401
    source = kit.source()
    if how == "pixel":
        source.pixels[3, 0, 0, 0] ^= 1
    elif how == "label":
        source.labels[3] = 1 - source.labels[3]
    elif how == "grown":
        return kit.source(21)
    elif how == "shrunk":
        source = kit.ArraySource(source.pixels[:-1], source.labels[:-1], source.class_names)
    return source


@pytest.mark.parametrize("how", ["pixel", "label", "grown", "shrunk"])
@pytest.mark.parametrize("own_ledger", [False, True])
def test_a_resume_on_other_data_is_refused_and_reads_nothing(
    how: str, own_ledger: bool, kit: Kit, tmp_path: Path
) -> None:
    """Also when --ledger gives the changed data the old ledger."""
    path = tmp_path / "own.jsonl" if own_ledger else None

    def begin(source: Any) -> PrivateDataset:  # noqa: ANN401
        facts = PublicFacts((1, 1, 3), ("a", "b"), 20, origin="stated")
        data = kit.dataset(source, tmp_path, facts=facts, ledger=path)
        data.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
        return data

    descend(kit, begin(kit.source()), stop=2)
    other = changed(kit, how)
    with pytest.raises(LedgerError, match="begun on other data"):
        begin(other)
    assert other.reads == []
    begin(kit.source())


@pytest.mark.parametrize("door", ["create", "bind"])
def test_a_run_killed_before_it_was_bound_begins_again_and_pays_once(
    door: str, kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger's name is random until the first charge: only then are keys tied to it."""

    def killed(self: StageKeys, text: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StageKeys, door, killed)
        with pytest.raises(KeyboardInterrupt):
            begun(kit, tmp_path)
    data = begun(kit, tmp_path)
    descend(kit, data)
    assert sum(line["kind"] == "charge" for line in data.ledger.lines()) == 2


def test_other_data_are_not_charged_for_a_run_that_is_refused(kit: Kit, tmp_path: Path) -> None:
    begun(kit, tmp_path)
    other = kit.dataset(kit.source(21), tmp_path)
    with pytest.raises(LedgerError, match="begun on other data"):
        other.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
    assert not other.ledger.path.exists()


def test_keys_of_one_run_do_not_serve_another(kit: Kit, tmp_path: Path) -> None:
    begun(kit, tmp_path, run="one")
    with pytest.raises(LedgerError, match="begun on other data"):
        begun(kit, tmp_path, run="two")


def test_a_plan_of_the_other_relation_is_refused(kit: Kit, tmp_path: Path) -> None:
    data = kit.dataset(kit.source(), tmp_path)
    with pytest.raises(ValueError, match="the plan is for replacing one record, the ledger"):
        data.begin("run", StageKeys(tmp_path / "keys"), replace(plan(kit), relation=REPLACE_ONE))


def test_the_fingerprint_is_of_the_records_whatever_their_order(kit: Kit) -> None:
    key = bytes(32)
    source = kit.source()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    shuffled = kit.ArraySource(source.pixels[order], source.labels[order], source.class_names)
    assert fingerprint(shuffled, key) == fingerprint(source, key)
    marks = {fingerprint(changed(kit, how), key) for how in ("pixel", "label", "grown", "shrunk")}
    assert len({*marks, fingerprint(source, key), fingerprint(source, bytes(31) + b"1")}) == 6


def test_one_data_set_has_one_ledger_across_runs(kit: Kit, tmp_path: Path, home: Path) -> None:
    for run in ("one", "two"):
        begun(kit, tmp_path / run, run=run)
    (path,) = (home / "ledgers").glob("*.jsonl")
    assert kit.dataset(kit.source(), tmp_path).ledger.path == path
    assert kit.dataset(kit.source(21), tmp_path).ledger.path != path
    assert kit.dataset(kit.source(), tmp_path).account()["runs"] == 2
    assert kit.dataset(kit.source(), tmp_path).account()["total_epsilon"] == pytest.approx(
        0.14, rel=0.01
    )


def test_the_installation_key_is_drawn_once_and_for_its_owner_only(home: Path) -> None:
    key = installation_key()
    assert installation_key() == key
    assert len(key) == 32
    assert (home / "key").stat().st_mode & 0o077 == 0
    (home / "key").write_bytes(key[:5])
    with pytest.raises(LedgerError, match="damaged"):
        installation_key()


def test_a_secret_that_a_kill_left_half_written_does_not_stay(home: Path) -> None:
    (home / ".key.7.partial").parent.mkdir(exist_ok=True)
    (home / ".key.7.partial").write_bytes(b"half")
    key = installation_key()
    assert not list(home.glob("*partial*")) and (home / "key").read_bytes() == key
    (home / ".key.8.partial").write_bytes(b"half")
    assert installation_key() == key
    assert not list(home.glob("*partial*"))


def test_of_two_that_would_draw_the_installation_key_the_first_one_does(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_alone = identity.held_alone

    @contextmanager
    def after_another(path: Path) -> Iterator[None]:
        path.write_bytes(b"k" * 32)
        with held_alone(path):
            yield

    monkeypatch.setattr(identity, "held_alone", after_another)
    assert installation_key() == b"k" * 32 == (home / "key").read_bytes()


def test_released_lines_hold_neither_keys_nor_a_hash_of_the_records(
    kit: Kit, tmp_path: Path
) -> None:
    source = kit.source()
    data = begun(kit, tmp_path, source=source)
    release(data, kit)
    text = json.dumps([data.ledger.lines_of("run"), data.account(), data.facts.to_dict()])
    keys = [path.read_bytes().hex() for path in (tmp_path / "keys").glob("*.key")]
    assert len(keys) == 2
    for secret in (*keys, fingerprint(source, installation_key()), installation_key().hex()):
        assert secret not in text


def test_a_label_out_of_range_counts_as_nothing_and_says_nothing(kit: Kit, tmp_path: Path) -> None:
    source = kit.source()
    without = kit.ArraySource(source.pixels[:-2], source.labels[:-2], source.class_names)
    source.labels[-1], source.labels[-2] = 7, -3

    def total(records: Any) -> Tensor:  # noqa: ANN401
        from dpgen.data.slots import RecordSlots

        noise = kit.Silent()
        facts = PublicFacts((1, 1, 3), ("a", "b"), 20)
        NoisySum(kit.Echo(), 1.0).release(RecordSlots(records, facts), noise)
        return noise.sum()

    torch.testing.assert_close(total(source), total(without))


def test_rates_follow_the_stated_facts_and_not_the_number_of_records(
    kit: Kit, tmp_path: Path
) -> None:
    """T7: a record more or less changes no public number."""
    facts = PublicFacts((1, 1, 3), ("a", "b"), 20, origin="stated")
    seen = [kit.dataset(kit.source(n), tmp_path / str(n), facts=facts).facts for n in (19, 20, 21)]
    assert seen[0] == seen[1] == seen[2] == facts


def test_the_first_facts_of_a_data_set_stay(kit: Kit, tmp_path: Path) -> None:
    """Under one ledger a count that follows the data would publish it, run after run."""
    path = tmp_path / "own.jsonl"
    data = kit.dataset(kit.source(20), tmp_path, ledger=path)
    data.begin("run", StageKeys(tmp_path / "keys"), plan(kit))
    assert kit.dataset(kit.source(21), tmp_path, ledger=path).facts.n_records == 20
    stated = PublicFacts((1, 1, 3), ("a", "b"), 21, origin="stated")
    with pytest.raises(ValueError, match="holds other facts"):
        kit.dataset(kit.source(21), tmp_path, ledger=path, facts=stated)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (PublicFacts((1, 3, 1), ("a", "b"), 20), "shape"),
        (PublicFacts((1, 1, 3), ("a",), 20), "name 1 classes"),
    ],
)
def test_facts_that_the_data_contradict_are_refused(
    facts: PublicFacts, message: str, kit: Kit
) -> None:
    with pytest.raises(ValueError, match=message):
        PrivateDataset(kit.source(), facts=facts)


PERSONS = PublicFacts((1, 1, 3), ("a", "b"), 20, max_records_per_unit=3)


def test_a_plan_for_records_is_refused_where_the_unit_is_a_person(
    kit: Kit, tmp_path: Path
) -> None:
    source = kit.source()
    data = kit.dataset(source, tmp_path, facts=PERSONS, limit=Budget(900.0, 1e-5))
    before = len(source.reads)
    for wrong in (ADD_REMOVE, Relation("add_remove", 2), Relation("replace_one", 3)):
        with pytest.raises(ValueError, match="the plan is for .*, the ledger of the data set for"):
            data.begin("run", StageKeys(tmp_path / "keys"), replace(plan(kit), relation=wrong))
    assert len(source.reads) == before and not data.ledger.path.exists()
    data.begin("run", StageKeys(tmp_path / "keys"), replace(plan(kit), relation=PERSONS.relation))
    assert set(release(data, kit)) == {"own", "all"}


def test_the_ledger_charges_a_person_what_a_person_costs(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the plan was calibrated for, the limit is of a whole person."""
    for module in (charges, ledger_module):
        monkeypatch.setattr(module, "epsilon_of", epsilon_of)
    whole = replace(plan(kit), relation=PERSONS.relation)
    exact = whole.epsilon(1e-5)
    assert exact > 3 * plan(kit).epsilon(1e-5)
    tight = kit.dataset(
        kit.source(), tmp_path / "a", facts=PERSONS, limit=Budget(0.99 * exact, 1e-5)
    )
    with pytest.raises(BudgetExceeded):
        tight.begin("run", StageKeys(tmp_path / "a"), whole)
    assert not tight.ledger.path.exists()
    data = kit.dataset(
        kit.source(), tmp_path / "b", facts=PERSONS, limit=Budget(1.01 * exact, 1e-5)
    )
    data.begin("run", StageKeys(tmp_path / "b"), whole)
    assert data.ledger.spent() == pytest.approx(exact)
    assert data.ledger.relation == Relation("add_remove", 3)
    assert data.account()["total_epsilon"] >= exact


def test_a_charge_for_a_record_is_never_taken_for_that_of_a_person(kit: Kit) -> None:
    stage = plan(kit).stages[0]
    person = replace(plan(kit), relation=PERSONS.relation).stages[0]
    assert person.max_records_per_unit == 3
    assert stage.charge.plan != person.charge.plan


def test_the_records_of_a_person_are_those_of_the_ledger_and_never_others(
    kit: Kit, tmp_path: Path
) -> None:
    def opened(**given: Any) -> PrivateDataset:  # noqa: ANN401
        data = PrivateDataset(kit.source(), ledger=tmp_path / "own.jsonl", **given)
        data.open_ledger(Budget(900.0, 1e-5), tmp_path)
        return data

    assert opened(max_records_per_unit=3).facts.relation == Relation("add_remove", 3)
    data = opened(max_records_per_unit=3)
    whole = replace(plan(kit), relation=data.facts.relation)
    data.begin("run", StageKeys(tmp_path / "keys"), whole)
    assert opened().facts.max_records_per_unit == 3  # what the ledger says, where nobody asks
    assert opened(max_records_per_unit=3).facts.max_records_per_unit == 3
    for m in (1, 2, 4):
        with pytest.raises(ValueError, match="kept for units of at most 3 records.*per-unit 3$"):
            opened(max_records_per_unit=m)
    with pytest.raises(ValueError, match="must be the one that the facts state, 3, got 2"):
        opened(facts=PERSONS, max_records_per_unit=2)


def test_a_relation_is_never_replaced_in_silence_by_that_of_the_facts(kit: Kit) -> None:
    facts = PublicFacts((1, 1, 3), ("a", "b"), 20)
    with pytest.raises(ValueError, match="adjacency must be"):
        PrivateDataset(kit.source(), facts=facts, adjacency="replace_one")
    assert PrivateDataset(kit.source(), facts=facts).facts.adjacency == "add_remove"
    declared = PrivateDataset(kit.source(), adjacency="replace_one").facts
    assert declared.adjacency == "replace_one"


def test_public_data_keep_their_ledger_in_the_run_folder(
    kit: Kit, tmp_path: Path, home: Path
) -> None:
    class Public(kit.ArraySource):  # type: ignore[misc, name-defined]
        public = True

    s = kit.source()
    for folder in ("one", "two"):
        source = Public(s.pixels, s.labels, s.class_names)
        data = begun(kit, tmp_path / folder, source=source, run=folder)
        assert data.ledger.path.parent == tmp_path / folder
        assert data.account()["ledger"] == "run folder (public data)"
        assert data.account()["runs"] == 1
    assert not home.exists()


def test_data_that_are_said_to_be_public_do_not_add_up_and_the_account_says_who_says_so(
    kit: Kit, tmp_path: Path, home: Path
) -> None:
    said = PrivateDataset(kit.source(), public=True)
    said.open_ledger(Budget(1.0, 1e-3), tmp_path / "one")
    said.begin("one", StageKeys(tmp_path / "one"), plan(kit))
    assert said.ledger.path.parent == tmp_path / "one"
    stated = "run folder (declared public data by whoever ran the training)"
    assert said.account()["ledger"] == stated
    silent = begun(kit, tmp_path / "two", run="two")
    assert silent.account()["ledger"] == "installation"
    assert silent.ledger.path.parent == home / "ledgers"


def test_the_noised_answer_is_the_sum_plus_the_noise_of_the_stage_key_and_the_question(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An independent reading of the whole path: records, coins, clip, noise, denominator."""
    source = kit.source()
    data = begun(kit, tmp_path, source=source)
    noise = StageKeys(tmp_path / "keys").noise(Stage("teacher", sgd()).charge.plan)
    noise = noise.for_question(question(kit, 4))
    # The noise is keyed by the sum to the last bit: taken down where it is added.
    heard: list[tuple[Tensor, Tensor]] = []
    real = KeyedNoise.add

    def add(self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        heard.append((total.clone(), real(noise, total, std, release=release, name=name)))
        return real(self, total, std, release=release, name=name)

    monkeypatch.setattr(KeyedNoise, "add", add)
    compute: Callable[[Tensor], Tensor] = lambda x: x * (1 / x.norm()).clamp(max=1)  # noqa: E731
    for step in data.steps(sgd(), label="teacher", micro_batch=4):
        out = step.gradient(kit.Linear(), kit.parameters())
        expected = torch.zeros(9, dtype=torch.float64)
        for slot in noise.coins(20, 0.5, release=step.index):
            x = source.pixels[slot].flatten().double() / 127.5 - 1
            g = torch.zeros(3, 3, dtype=torch.float64)
            g[0], g[1 + int(source.labels[slot])] = x, 10 * x
            expected += compute(g.flatten())
        parts = {"w": expected[:3], "table": expected[3:].reshape(2, 3)}
        for (name, part), (total, noised) in zip(parts.items(), heard, strict=True):
            torch.testing.assert_close(total, part, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(out[name].double(), noised / 10, rtol=1e-6, atol=1e-7)
        heard.clear()


def paper(name: str = "x/paper") -> Claim:
    return Claim(name, 1.0, "words", unbounded(1e-5), "Why. How.", "section 0", {"n_steps": 3})


def test_raw_records_are_locked_until_the_ledger_says_that_the_run_is_unverified(
    kit: Kit, tmp_path: Path
) -> None:
    source = kit.source()
    data = kit.dataset(source, tmp_path)
    with pytest.raises(RuntimeError, match="raw records are given to no run but"):
        data.unprotected_records(paper())
    seen: list[list[str]] = []
    source.on_read = lambda: seen.append([line["kind"] for line in data.ledger.lines()])
    data.begin_unverified("run", StageKeys(tmp_path / "keys"), paper())
    assert source.reads == []
    with pytest.raises(RuntimeError, match="raw records are given to no run but"):
        data.unprotected_records(paper("y/paper"))
    records, noise = data.unprotected_records(paper())
    pixels, labels, valid = records.read(np.arange(records.n_slots))
    assert torch.equal(pixels, to_float(source.pixels)) and torch.equal(labels, source.labels)
    assert valid.all() and seen == [["open", "marked", "unverified"]]
    # Once: the same noise on a second question would be none on their difference.
    with pytest.raises(RuntimeError, match="and once"):
        data.unprotected_records(paper())
    answer = noise.add(torch.zeros(1000), 2.0, release=0, name="a")
    assert abs(float(answer.std()) - 2) < 0.2


def test_a_certified_run_never_reaches_the_raw_records(kit: Kit, tmp_path: Path) -> None:
    mechanism = NoisySum(kit.Echo(), 6.0)
    plan = Plan((Stage("means", mechanism),), ADD_REMOVE)
    data = kit.dataset(kit.source(), tmp_path)
    data.begin("run", StageKeys(tmp_path / "keys"), plan)
    for attempt in (paper(), paper("means")):
        with pytest.raises(RuntimeError, match="raw records are given to no run but"):
            data.unprotected_records(attempt)
    # Refused by the ledger, and the certified doors are then shut as well.
    with pytest.raises(LedgerError, match="holds certified runs"):
        data.begin_unverified("other", StageKeys(tmp_path / "others"), paper())
    with pytest.raises(RuntimeError, match="raw records are given to no run but"):
        data.unprotected_records(paper())
    with pytest.raises(RuntimeError, match="no record is read before"):
        data.release(mechanism, label="means")


def test_an_unverified_run_has_no_certified_door(kit: Kit, tmp_path: Path) -> None:
    mechanism = NoisySum(kit.Echo(), 6.0)
    data = kit.dataset(kit.source(), tmp_path)
    data.begin_unverified("run", StageKeys(tmp_path / "keys"), paper())
    with pytest.raises(RuntimeError, match="no record is read before"):
        data.release(mechanism, label="means")
    plan = Plan((Stage("means", mechanism),), ADD_REMOVE)
    with pytest.raises(LedgerError, match="claim is not verified"):
        data.begin("run", StageKeys(tmp_path / "keys"), plan)
    assert data.account()["total_epsilon"] == float("inf") and data.account()["runs"] == 1


def test_a_certified_run_shuts_the_door_that_an_unverified_one_opened(
    kit: Kit, tmp_path: Path
) -> None:
    plan = Plan((Stage("means", NoisySum(kit.Echo(), 6.0)),), ADD_REMOVE)
    data = kit.dataset(kit.source(), tmp_path)
    data.begin_unverified("run", StageKeys(tmp_path / "keys"), paper())
    data._ledger_path, data._overlap = tmp_path / "own.jsonl", "separate"
    data.open_ledger(kit.LIMIT, tmp_path)
    data.begin("certified", StageKeys(tmp_path / "others"), plan)
    with pytest.raises(RuntimeError, match="raw records are given to no run but"):
        data.unprotected_records(paper())


def test_keys_of_a_certified_run_do_not_serve_an_unverified_one(kit: Kit, tmp_path: Path) -> None:
    plan = Plan((Stage("means", NoisySum(kit.Echo(), 6.0)),), ADD_REMOVE)
    data = kit.dataset(kit.source(), tmp_path)
    data.begin("run", StageKeys(tmp_path / "keys"), plan)
    other = kit.dataset(kit.source(), tmp_path, ledger=tmp_path / "own.jsonl")
    with pytest.raises(LedgerError, match="begun on other data"):
        other.begin_unverified("run", StageKeys(tmp_path / "keys"), paper())
    assert not (tmp_path / "own.jsonl").exists()
