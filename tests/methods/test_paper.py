"""The modes `paper` are negative controls: neighbour replay must FAIL on them, for the right
reason.

Forced to one noisy transcript, a single changed record moves nearly all of DP-SAD's queries, in no
batch of which it is; and the released model of PGE moves though no noise was ever added. The
certified modes are held to the opposite in `test_replay.py`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dpgen
from dpgen import (
    DFKD,
    DGD,
    DPDFD,
    DPSD,
    DFKDSettings,
    DGDSettings,
    DPDFDSettings,
    DPSDSettings,
)
from dpgen.data.private import PrivateDataset
from dpgen.methods.dp_sad import DPSAD, DPSADSettings
from dpgen.methods.dpdm import DPDM
from dpgen.methods.pge import PGE, PGESettings
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import event_to_json
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.ledger.shared_ledger import OverlapError
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.statements.certificate import CertificateError, sha256_file
from dpgen.privacy.statements.document import Certificate, Notice, read_document
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.privacy.verification.verify import verify
from dpgen.published import dp_sad as published_dp_sad
from dpgen.published import pge as published_pge
from dpgen.published.data_free_settings import PaperSettings as DataFree
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware
from dpgen.storage.canonical import digest

ROOT = Path(__file__).parents[2]
BUDGET = Budget(1.0, 1e-3)
WHITE, BLACK = np.full((8, 8), 255, np.uint8), np.zeros((8, 8), np.uint8)


def dp_sad(student_input: str = "noise", **changes: Any) -> DPSAD:  # noqa: ANN401
    own = {"teacher_steps": 25, "n_steps": 3, "batch": 12, "clip_norm": 1e-3, "n_levels": 20}
    paper = published_dp_sad.PaperSettings(student_input, **(own | changes))
    return DPSAD(budget=BUDGET, settings=DPSADSettings(mode="paper", paper=paper))


def pge() -> PGE:
    paper = published_pge.PaperSettings(n_steps=3, batch=24, n_projections=16)
    return PGE(budget=BUDGET, settings=PGESettings(mode="paper", paper=paper))


def data_free(kind: type[Any], settings: type[Any], **own: Any) -> Any:  # noqa: ANN401
    paper = DataFree(teacher_steps=6, n_steps=2, batch=8, width=8, **own)
    return kind(budget=BUDGET, settings=settings(mode="paper", paper=paper))


MAKE: dict[str, Callable[[], Any]] = {
    "dp-sad": dp_sad, "dp-sad real": lambda: dp_sad("real"), "pge": pge,
    "dpdfd": lambda: data_free(DPDFD, DPDFDSettings),
    "dpsd": lambda: data_free(DPSD, DPSDSettings),
    "dfkd": lambda: data_free(DFKD, DFKDSettings, generator_steps=2),
    "dgd": lambda: data_free(DGD, DGDSettings, generator_steps=2, n_shards=3),
}  # fmt: skip
BOUNDED = {"dp-sad", "dpdfd", "dpsd"}


_PRICES: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def priced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is calibrated and priced once in this file: the real price, once the patience."""

    def remembered(name: str, key: Callable[..., Any]) -> Callable[..., Any]:
        function = getattr(published_dp_sad, name)

        def ask(first: Any, *rest: Any) -> Any:  # noqa: ANN401
            question = f"{name} {key(first)} {rest}"
            if question not in _PRICES:
                _PRICES[question] = function(first, *rest)
            return _PRICES[question]

        return ask

    for name, key in (
        ("calibrate", lambda make_event: event_to_json(make_event(1.0))),
        ("epsilon_of", event_to_json),
        ("gaussian_worst_case", float),
    ):
        monkeypatch.setattr(published_dp_sad, name, remembered(name, key))


class World:
    """What one run asked before the noise, what it answered, and the model it released."""

    def __init__(self) -> None:
        self.before: dict[int, Tensor] = {}
        self.answers: dict[int, Tensor] = {}
        self.std = 0.0
        self.model: dict[str, Tensor] = {}


@pytest.fixture
def live(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
) -> Callable[..., World]:
    """`fit` in one world; with ``forced``, on the noisy answers of another."""
    n_worlds = iter(range(100))

    def run(generator: Any, source: Any, forced: World | None = None) -> World:  # noqa: ANN401
        world, folder = World(), tmp_path / f"world {next(n_worlds)}"

        class Transcript(KeyedNoise):
            def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
                world.before[release], world.std = total.clone(), std
                answer = super().add(total, std, release=release, name=name)
                if forced is not None:
                    answer = forced.answers[release].clone()
                world.answers[release] = answer.clone()
                return answer

        with monkeypatch.context() as patch:
            patch.setenv("DPGEN_HOME", str(folder / "home"))
            patch.setattr(StageKeys, "noise", lambda keys, plan: Transcript(b"k" * 32, plan))
            data = dataset(source)
            generator.fit(
                data, out=folder / "run", seed=1, hardware=Hardware("cpu"), allow_unverified=True
            )
        network = generator.networks["model"]
        world.model = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        return world

    return run


def alike(one: World, other: World) -> bool:
    return all(torch.equal(tensor, other.model[name]) for name, tensor in one.model.items())


def neighbours(records: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The only record of its class, white or black; everything else is the same."""
    rows = [i for i, label in enumerate(records.labels) if label != 2]
    rest = type(records)(records.pixels[rows], [records.labels[i] for i in rows], ("a", "b", "c"))
    return rest.plus(WHITE, 2), rest.plus(BLACK, 2)


def test_replay_fails_on_dp_sad_because_one_record_moves_nearly_every_query(
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
) -> None:
    white, black = neighbours(records)
    one = live(dp_sad(), white)
    other = live(dp_sad(), black, forced=one)
    clip, batch = 1e-3, 12
    assert one.before.keys() == other.before.keys() == {0, 1, 2}
    moved = {t: (one.before[t] - other.before[t]).flatten(1).norm(dim=1) for t in one.before}
    # Claimed: only the row of the record itself, if it was sampled. Here it never is: no question
    # is made from a record. Yet nearly all rows move, and together by more than any one may.
    for rows in moved.values():
        assert (rows > 1e-6 * clip).float().mean() >= 0.9
    worst = max(float(rows.norm()) for rows in moved.values())
    assert worst > 2 * clip
    # The worst case of the notice is one: 2 C a row, 2 C sqrt(B) a step.
    assert all(float(rows.max()) <= 2 * clip for rows in moved.values())
    assert worst <= 2 * clip * batch**0.5
    # And it covers the rest: under one transcript the questions, so the student, are the same.
    assert alike(one, other)
    # The noise is the claimed one, in units of the clip.
    claim = dp_sad().claim(_facts())
    assert one.std == pytest.approx(claim.settings["noise_multiplier"] * clip, rel=1e-12)


def _facts() -> dpgen.PublicFacts:
    return dpgen.PublicFacts((1, 8, 8), ("a", "b", "c"), 30, "add_remove", origin="stated")


@pytest.mark.slow  # the test before has the same flow with drawn inputs
def test_replay_fails_on_dp_sad_with_real_inputs_in_what_is_released_too(
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
) -> None:
    """The Jacobian at a private image is a function of it that has no noise on it: the same noised
    answers make another student."""
    white, black = neighbours(records)
    generator = dp_sad("real")
    one = live(generator, white)
    other = live(dp_sad("real"), black, forced=one)
    assert all(torch.equal(one.answers[t], other.answers[t]) for t in one.answers)
    assert not alike(one, other)
    assert alike(one, live(dp_sad("real"), white, forced=one))
    assert generator.notice["worst_case"]["epsilon"] == "infinity"


def test_replay_fails_on_pge_because_the_record_shows_in_the_model_and_no_noise_was_added(
    live: Callable[..., World],
    records: Any,  # noqa: ANN401
) -> None:
    white, black = neighbours(records)
    one, other = live(pge(), white), live(pge(), black)
    assert one.before == other.before == {}
    assert not alike(one, other)
    assert alike(one, live(pge(), white)), "nothing else differs between two runs"


@pytest.mark.parametrize("method", MAKE)
def test_a_paper_mode_is_refused_before_anything_is_read_or_written(
    method: str,
    tmp_path: Path,
    home: Path,
) -> None:
    with pytest.raises(UnverifiedClaim, match=r"has no privacy guarantee.*allow_unverified=True"):
        # The data do not even exist.
        MAKE[method]().fit(tmp_path / "nowhere", out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnverifiedClaim, match="has no plan"):
        MAKE[method]().plan(_facts())


@pytest.mark.parametrize("method", MAKE)
def test_a_run_without_a_guarantee_has_a_notice_and_never_a_certificate(
    method: str,
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
) -> None:
    folder, generator, data = tmp_path / "run", MAKE[method](), dataset(records)
    generator.fit(data, out=folder, seed=1, hardware=Hardware("cpu"), allow_unverified=True)
    names = {path.name for path in folder.iterdir()}
    assert "notice.json" in names and "privacy.json" not in names and "checkpoint" not in names
    told = generator.notice
    assert told["mechanism"]["id"] == f"{generator.id}/paper"
    assert set(told["artifact"]["files"]) == names - {"notice.json"}
    assert (told["worst_case"]["epsilon"] == "infinity") == (method not in BOUNDED)
    assert told["claimed"]["epsilon"] <= BUDGET.epsilon
    assert data.ledger.spent() == float("inf")
    for attempt in (lambda: generator.privacy, lambda: verify(folder)):
        with pytest.raises(CertificateError, match="a notice, not a certificate"):
            attempt()
    with pytest.raises(UnverifiedClaim, match="allow_unverified=True"):
        dpgen.load(folder)
    loaded = dpgen.load(folder, allow_unverified=True)
    assert loaded.notice == told
    drawn = [g.sample(3, generator=torch.Generator().manual_seed(0)) for g in (generator, loaded)]
    assert torch.equal(drawn[0].pixels, drawn[1].pixels)
    with pytest.raises(CertificateError, match="a notice, not a certificate"):
        loaded.privacy  # noqa: B018
    # Finished is finished: nothing is noted twice.
    before = data.ledger.path.read_bytes()
    MAKE[method]().fit(
        dataset(records), out=folder, hardware=Hardware("cpu"), allow_unverified=True
    )
    assert data.ledger.path.read_bytes() == before
    (folder / "config.json").write_text("{}")
    with pytest.raises(CertificateError, match="config.json missing or changed"):
        dpgen.load(folder, allow_unverified=True)


def test_after_an_unverified_run_the_data_set_takes_no_certified_one_but_in_another_account(
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    untrained: Callable[..., Any],
) -> None:
    hardware = Hardware("cpu")
    pge().fit(dataset(records), out=tmp_path / "paper", hardware=hardware, allow_unverified=True)
    with pytest.raises(LedgerError, match="claim is not verified"):
        untrained("dpdm").fit(dataset(records), out=tmp_path / "dpdm", hardware=hardware)
    assert not (tmp_path / "dpdm").exists()
    facts = dataset(records).facts
    # Nor does another ledger take it unless somebody says that the accounts are to be separate.
    account: dict[str, Any] = {"facts": facts, "ledger": tmp_path / "own.jsonl"}
    with pytest.raises(OverlapError, match="has no bound.*overlap='separate'"):
        own = PrivateDataset(records, **account)
        untrained("dpdm").fit(own, out=tmp_path / "dpdm", hardware=hardware)
    own = PrivateDataset(records, **account, overlap="separate")
    untrained("dpdm").fit(own, out=tmp_path / "dpdm", hardware=hardware)
    with pytest.raises(LedgerError, match="holds certified runs"):
        again = PrivateDataset(records, **account, overlap="separate")
        pge().fit(again, out=tmp_path / "again", hardware=hardware, allow_unverified=True)
    assert not (tmp_path / "again").exists()


def test_an_interrupted_run_looks_unfinished_and_is_not_resumed(
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"

    def fit() -> None:
        pge().fit(
            dataset(records), out=folder, seed=1, hardware=Hardware("cpu"), allow_unverified=True
        )

    with monkeypatch.context() as patch:

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("dpgen.runs.released.save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit()
    names = {path.name for path in folder.iterdir()}
    assert "checkpoint" in names and not names & {"notice.json", "privacy.json"}
    for allow in (False, True):
        with pytest.raises(CertificateError, match="neither a finished run nor a synthetic set"):
            dpgen.load(folder, allow_unverified=allow)
    with pytest.raises(LedgerError, match="was interrupted"):
        fit()
    ledgers = list((tmp_path / "home" / "ledgers").glob("*.jsonl"))
    kinds = [line["kind"] for line in PrivacyLedger(ledgers[0]).lines()]
    assert kinds == ["open", "marked", "unverified"]


def test_a_folder_does_not_pass_for_what_its_mode_is_not(
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
) -> None:
    folder = tmp_path / "run"
    pge().fit(dataset(records), out=folder, hardware=Hardware("cpu"), allow_unverified=True)
    config = json.loads((folder / "config.json").read_text())
    config["settings"] |= {"mode": "dpsgd", "paper": None}
    (folder / "config.json").write_text(json.dumps(config))
    notice = json.loads((folder / "notice.json").read_text())
    notice["artifact"]["files"]["config.json"] = sha256_file(folder / "config.json")
    body = {key: value for key, value in notice.items() if key != "sha256"}
    (folder / "notice.json").write_text(json.dumps({**body, "sha256": digest(body)}))
    with pytest.raises(CertificateError, match="does not hold what mode 'dpsgd' releases"):
        dpgen.load(folder, allow_unverified=True)


@pytest.mark.parametrize("method", ["dp-sad", "dpdm", "pge"])
def test_certified_modes_neither_open_the_door_nor_note_an_unverified_run(
    method: str,
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    untrained: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def caught(*_: object, **__: object) -> None:
        raise AssertionError("a certified mode asked for raw records")

    monkeypatch.setattr(Checkpoints, "due", lambda states: True)
    for door in ("unprotected_records", "begin_unverified"):
        monkeypatch.setattr(PrivateDataset, door, caught)
    monkeypatch.setattr(PrivacyLedger, "unverified", caught)
    # The flag allows; it does not ask.
    generator = untrained(method).fit(
        dataset(records), out=tmp_path / "run", hardware=Hardware("cpu"), allow_unverified=True
    )
    assert generator.certified and not (tmp_path / "run" / "notice.json").exists()
    assert not any(check.failed for check in verify(tmp_path / "run"))
    with pytest.raises(ValueError, match="has a guarantee"):
        generator.claim(dataset(records).facts)


def test_only_the_published_flows_name_the_door_and_only_unverified_branches_name_them() -> None:
    """Every name in the package, read as code: no certified module says any of these words."""
    allowed = {
        "unprotected_records": {"data/private.py", "published/data_free.py",
                                "published/dp_sad.py", "published/pge.py"},
        "begin_unverified": {"data/charged.py", "generator/interface.py"},
        "unprotected": {"published/data_free.py", "published/dp_sad.py", "published/pge.py"},
        "published_dp_sad": {"methods/dp_sad.py"},
        "published_pge": {"methods/pge.py"},
        "published_data_free": {
            "methods/dfkd.py", "methods/dgd.py", "methods/dpdfd.py", "methods/dpsd.py",
        },
    }  # fmt: skip
    found: dict[str, set[str]] = {name: set() for name in allowed}
    for path in (ROOT / "dpgen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, "id", None), getattr(node, "attr", None)]
            names += [getattr(node, "name", None), getattr(node, "module", None)]
            for name in names:
                for part in str(name).split("."):
                    if part in found:
                        found[part].add(path.relative_to(ROOT / "dpgen").as_posix())
    assert found == allowed


class Mislabelled(PGE):
    """Declares that mode `paper` has a guarantee, and promises what it is: a claim."""

    unverified_modes = frozenset()


class Disowned(DPDM):
    """Declares that mode `dpsgd` has no guarantee, and promises a plan."""

    unverified_modes = frozenset({"dpsgd"})


@pytest.mark.parametrize("kind", [Mislabelled, Disowned])
def test_a_promise_of_another_type_than_the_mode_declares_is_refused_before_anything_is_charged(
    kind: type[Any],
    tmp_path: Path,
    home: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    untrained: Callable[..., Any],
) -> None:
    honest = pge() if kind is Mislabelled else untrained("dpdm")
    generator, data = kind(budget=BUDGET, settings=honest.settings), dataset(records)
    for ask in (
        lambda: generator.fit(data, out=tmp_path / "run", allow_unverified=True),
        lambda: generator.promise(_facts()),
    ):
        with pytest.raises(TypeError, match="must promise a (Plan, got a Claim|Claim, got a Plan)"):
            ask()
    assert not (tmp_path / "run").exists()
    assert [line["kind"] for line in data.ledger.lines()] in ([], ["open"])


def test_a_folder_with_a_document_of_the_other_type_is_not_loaded_as_finished(
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
) -> None:
    folder = tmp_path / "run"
    pge().fit(
        dataset(records), out=folder, seed=1, hardware=Hardware("cpu"), allow_unverified=True
    )
    assert isinstance(read_document(folder), Notice)
    with pytest.raises(CertificateError, match="does not hold what mode 'paper' releases"):
        pge()._restore(folder, Certificate(read_document(folder).content))
