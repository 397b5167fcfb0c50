"""One student of teachers that silos have trained: the whole path, and what is refused on it."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpgen import (
    DPSD,
    Budget,
    BudgetExceeded,
    PupilSettings,
    TeachersSettings,
    UnverifiedClaim,
    load,
    open_images,
    save_classifier,
    transcribe_teachers,
)
from dpgen.data.teachers import open_teachers
from dpgen.methods.planned import planned_check
from dpgen.methods.teachers import Teachers
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.statements.certificate import CertificateError, read_statement, statement_bytes
from dpgen.privacy.statements.given_teachers import KEY
from dpgen.privacy.statements.public_start import start_told, weights_told
from dpgen.privacy.verification.verify import verify
from dpgen.runs.released import hashes
from dpgen.stages.asked_settings import AskedSettings
from dpgen.storage.canonical import digest
from dpgen.training.students import untrained
from dpgen.transcription import queries
from tests.commands import dpgen
from tests.methods.stopped import Stopped, assert_same_networks, stop_after
from tests.privacy.conftest import make_run, make_set

NAMES = ("x", "y", "z")
BUDGET = Budget(50.0, 1e-5)
SETTINGS = TeachersSettings(
    votes=AskedSettings(6), student=PupilSettings(n_steps=2, batch_size=4, width=8)
)
QUICK = (
    "--set", "votes.n_queries=6", "--set", "student.n_steps=2", "--set", "student.batch_size=4",
    "--set", "student.width=8", "-q",
)  # fmt: skip


def student(seed: int, n_classes: int = 3, side: int = 8) -> Student:
    return untrained(ClassifierConfig((1, side, side), n_classes, 8), seed)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """``silos``, eight of them; ``public.npz``, nine images without labels."""
    (tmp_path / "silos").mkdir()
    for seed in range(8):
        save_classifier(student(seed), tmp_path / "silos" / f"silo-{seed}.safetensors", NAMES)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "public.npz", images=pixels)
    return tmp_path


def made(place: Path, out: str = "run", **given: Any) -> Teachers:  # noqa: ANN401
    chosen = {"public": place / "public.npz", "budget": BUDGET, "settings": SETTINGS, "seed": 1}
    return transcribe_teachers(place / "silos", place / out, **(chosen | given))


def failed(folder: Path) -> set[str]:
    return {c.name for c in (*verify(folder), planned_check(folder)) if c.held is False}


def test_the_whole_path_on_the_command_line(place: Path) -> None:
    given = (
        "transcribe", "--teachers", place / "silos", "--public", place / "public.npz", "--epsilon",
        50, *QUICK,
    )  # fmt: skip
    told = dpgen(*given, "--plan")
    assert told.exit_code == 0 and "8 teachers of 1x8x8 images in 3 classes vote on 6 of 9" in (
        told.output
    )
    assert "No record is behind two of the 8 teachers" in told.output
    assert "nothing was charged" in told.output
    assert not list((place / "home").rglob("*.jsonl")), "a plan charges nothing"
    inside = dpgen(*given, "--out", place / "silos" / "run")
    assert inside.exit_code == 2 and "must not lie in" in inside.output
    ran = dpgen(*given, "--out", place / "run")
    assert ran.exit_code == 0, ran.output
    assert "nothing was charged" not in ran.output
    held = read_statement(place / "run")
    assert held["guarantee"]["epsilon"] == 50 and held["guarantee"]["unit"] == "teacher"
    assert "with respect to exchanging one teacher, with all records behind it" in ran.output
    assert held[KEY]["names"] == [f"silo-{k}" for k in range(8)]
    assert "'public.npz', which whoever ran the transcription declared public" in ran.output
    assert dpgen("verify", place / "run").exit_code == 0
    again = dpgen(*given, "--out", place / "run")
    assert again.exit_code == 0 and "finished already; nothing was charged" in again.output
    refused = dpgen("sample", place / "run", "-n", 4, "--out", place / "set")
    assert refused.exit_code == 2 and "no generator" in refused.output
    assert "8 teachers, 1x8x8" in dpgen("ledger").output
    refused = dpgen("audit", place / "run", "--quick")
    assert refused.exit_code == 2 and "no audit" in refused.output
    other = dpgen(*given, "--out", place / "run2")
    assert other.exit_code == 2 and "is spent, and with this run" in other.output
    assert not (place / "run2" / "privacy.json").exists()


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ((), "RUN is missing"),
        (("run", "--epsilon", 3), "--epsilon is of --teachers"),
        (("run", "--plan"), "--plan is of --teachers"),
        (("run", "--teachers", "silos"), "RUN and --teachers cannot be combined"),
        (("--teachers", "silos", "--facts", "f"), "--facts and --teachers cannot be combined"),
        (("--teachers", "silos", "--out", "o"), "--epsilon is missing"),
        (("--teachers", "silos", "--epsilon", 3), "--out is missing"),
        (("--teachers", "nowhere", "--epsilon", 3, "--plan"), "must be a folder of teachers"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(words: Any, seen: str) -> None:  # noqa: ANN401
    found = dpgen("transcribe", *words)
    assert found.exit_code == 2 and seen in found.output


def test_too_few_teachers_are_refused_with_the_number_that_it_takes(place: Path) -> None:
    """The rule of `votes_settings`: K >= 5.1 sqrt(Q) / (0.8 mu)."""
    mu = gaussian_mu(Budget(1.0, 1e-5))
    three, hundred = (math.ceil(5.1 * math.sqrt(q) / (0.8 * mu)) for q in (3, 100))
    assert hundred == 238
    with pytest.raises(ValueError, match=f"at least {three} teachers.*got 8.*100 queries need 238"):
        made(place, budget=Budget(1.0, 1e-5), settings=TeachersSettings())
    most = math.floor((0.8 * 8 * gaussian_mu(BUDGET) / 5.1) ** 2)
    with pytest.raises(ValueError, match=f"allow {most}"):
        AskedSettings(most + 1).affordable(open_teachers(place / "silos").facts, 10**6, BUDGET)
    with pytest.raises(ValueError, match="10 queries need as many images"):
        made(place, settings=TeachersSettings(votes=AskedSettings(10)))
    assert not (place / "run").exists()


def test_a_run_that_was_stopped_goes_on_and_one_with_other_images_or_names_does_not(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silos = place / "silos"
    with monkeypatch.context() as patch:
        stop_after(patch, lambda names: names == ["votes"])
        with pytest.raises(Stopped):
            made(place)
    held = load_file(place / "run" / "checkpoint" / "state" / "votes.safetensors")["answers"]
    monkeypatch.setattr("dpgen.privacy.lineage.witness._ANSWERED", {})
    other = np.random.default_rng(1).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
    np.savez(place / "other.npz", images=other)
    with pytest.raises(ValueError, match="another configuration: .*images.name"):
        made(place, public=place / "other.npz")
    (silos / "silo-0.safetensors").rename(silos / "first.safetensors")
    with pytest.raises(ValueError, match="another configuration: .*names"):
        made(place)
    (silos / "first.safetensors").rename(silos / "silo-0.safetensors")
    kept = (silos / "silo-3.safetensors").read_bytes()
    save_classifier(student(99), silos / "silo-3.safetensors", NAMES)
    with pytest.raises(LedgerError, match="share|begun on other data|different teachers"):
        made(place)
    (silos / "silo-3.safetensors").write_bytes(kept)
    with monkeypatch.context() as patch:  # after the stage is finished and its key is gone
        stop_after(patch, lambda names: names[-1:] == ["student"])
        with pytest.raises(Stopped):
            made(place)
    assert not list((place / "run" / "checkpoint" / "keys").glob("*.key"))
    found = made(place)
    assert not failed(place / "run") and not (place / "run" / "checkpoint").exists()
    assert held.shape == (6, 3)
    assert_same_networks(found, made(place))
    with pytest.raises(BudgetExceeded):
        made(place, "run2")


def test_the_student_learned_the_noised_votes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taught is the class of the most votes after the noise, and nothing else of them."""
    taught: list[Any] = []

    def teach(images: Any, rows: Any, labels: Any, *rest: Any) -> Student:  # noqa: ANN401
        taught.append((rows, labels))
        return student(0)

    saved: list[torch.Tensor] = []
    from dpgen.runs.checkpoint import Checkpoints

    real = Checkpoints.save

    def save(self: Checkpoints, name: str, tensors: Any, **rest: Any) -> None:  # noqa: ANN401
        saved.append(tensors["answers"].clone())
        real(self, name, tensors, **rest)

    monkeypatch.setattr("dpgen.methods.teachers.teach_pool", teach)
    monkeypatch.setattr(Checkpoints, "save", save)
    made(place)
    (rows, labels), (answers,) = taught[0], saved
    assert len(set(rows.tolist())) == 6 and torch.equal(labels, answers.argmax(1))
    assert not torch.equal(answers, answers.round()), "counts have noise on them"


def sealed(folder: Path, statement: dict[str, Any], config: dict[str, Any] | None = None) -> None:
    """Writes a changed statement, or configuration, that agrees with itself again."""
    body = {k: v for k, v in statement.items() if k != "sha256"}
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, separators=(",", ":")))
        body["artifact"]["files"] |= {
            k: v for k, v in hashes(folder).items() if k in body["artifact"]["files"]
        }  # fmt: skip
    whole = {**body, "sha256": digest(body)}
    (folder / "privacy.json").write_bytes(statement_bytes(whole))


def less_noise(s: dict[str, Any]) -> None:
    s["mechanism"]["stages"]["votes"]["noise_multiplier"] *= 2


def half_the_diameter(s: dict[str, Any]) -> None:
    s["mechanism"]["stages"]["votes"]["bound"] /= 2


def of_records(s: dict[str, Any]) -> None:
    s["guarantee"] |= {"adjacency": "add_remove", "unit": "record"}


def another_silo(s: dict[str, Any]) -> None:
    s[KEY]["names"][0] = "elsewhere"


def one_silo_more(s: dict[str, Any]) -> None:
    s[KEY]["names"].append("ninth")


def checked(s: dict[str, Any]) -> None:
    s[KEY]["statement"] = s[KEY]["statement"].replace("Nobody checked", "Somebody checked")


def no_teachers(s: dict[str, Any]) -> None:
    del s[KEY]


def other_images(s: dict[str, Any]) -> None:
    s[KEY]["images"]["sha256"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (less_noise, "events from the stages"), (half_the_diameter, "diameter"),
        (of_records, "no price for"), (another_silo, "configuration"), (one_silo_more, "teachers"),
        (checked, "teachers"), (no_teachers, "teachers"), (other_images, "teachers"),
    ],
)  # fmt: skip
def test_an_edited_certificate_is_found(
    change: Callable[[dict[str, Any]], None], seen: str, run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "forged"))
    statement = copy.deepcopy(read_statement(folder))
    sealed(folder, statement)
    assert not failed(folder), "sealing alone changes nothing"
    change(statement)
    sealed(folder, statement)
    try:
        assert seen in failed(folder)
    except CertificateError as error:
        assert seen in str(error)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    place = tmp_path_factory.mktemp("silos")
    (place / "silos").mkdir()
    for seed in range(8):
        save_classifier(student(seed), place / "silos" / f"silo-{seed}.safetensors", NAMES)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
    np.savez(place / "public.npz", images=pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        made(place)
    return place / "run"


def test_a_configuration_with_other_teachers_is_found(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "forged"))
    statement, config = read_statement(folder), json.loads((folder / "config.json").read_text())
    config["settings"]["names"][0] = "elsewhere"
    sealed(folder, statement, config)
    assert {"configuration", "files in the ledger"} <= failed(folder)
    assert load(run).student is not None


def test_a_certified_set_is_named_as_another_release(place: Path) -> None:
    parent = make_run(place / "parent", ledger=place / "parent.jsonl")
    images = make_set(place / "set", parent, n=12, side=8)
    made(place, images=images, public=None, limit=Budget(500.0, 1e-5))
    told = read_statement(place / "run")[KEY]
    assert told["images"]["source"] == "set" and told["images"]["n_images"] == 12
    assert told["images"]["origin"] == digest(read_statement(images))
    assert read_statement(images)["statement"] in told["statement"]
    assert "is another release" in told["statement"] and not failed(place / "run")
    begun = start_told({"weights": weights_told("hub", "0" * 64, [])})
    sealed(images, {**read_statement(images), "public_start": begun})
    made(place, "begun", images=images, public=None, limit=Budget(500.0, 1e-5))
    assert begun["statement"] in read_statement(place / "begun")[KEY]["statement"]
    assert not failed(place / "begun")
    (images / "images-00000.npz").write_bytes(b"changed")
    with pytest.raises(CertificateError, match="does not hold"):
        made(place, "run2", images=images, public=None)


def test_images_are_drawn_from_a_certified_run_the_same_at_every_resume(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int]] = []

    class Drawing:
        def sample(self, n: int, *, seed: int) -> SimpleNamespace:
            drawn.append((n, seed))
            generator = torch.Generator().manual_seed(seed)
            return SimpleNamespace(pixels=2 * torch.rand(n, 1, 8, 8, generator=generator) - 1)

    parent = make_run(place / "parent", ledger=place / "parent.jsonl")
    monkeypatch.setattr(queries, "load", lambda folder: Drawing())
    monkeypatch.setattr(queries, "planned_checks", lambda folder: [])  # its method is made up
    found = made(place, images=parent, public=None)
    told = read_statement(place / "run")[KEY]["images"]
    assert (told["source"], told["name"], told["n_images"]) == ("run", "parent", 2000)
    assert told["origin"] == digest(read_statement(parent)) and not failed(place / "run")
    assert_same_networks(found, made(place, images=parent, public=None))
    assert drawn == [(2000, 0), (2000, 0)]


def test_images_that_teachers_are_not_asked_about(place: Path) -> None:
    with pytest.raises(ValueError, match="one of the two"):
        made(place, public=None)
    with pytest.raises(ValueError, match="one of the two"):
        made(place, images=place / "set")
    with pytest.raises(ValueError, match="with a certificate, and has none"):
        made(place, images=place / "silos", public=None)
    (place / "noticed").mkdir()
    (place / "noticed" / "notice.json").write_text("{}")
    with pytest.raises(UnverifiedClaim, match="carries a notice"):
        made(place, images=place / "noticed", public=None)
    parent = make_run(place / "parent", ledger=place / "parent.jsonl")
    with pytest.raises(ValueError, match="must have the shape that the teachers take"):
        made(place, images=make_set(place / "set", parent, side=4), public=None)
    assert not (place / "run").exists()


def test_private_images_of_this_installation_are_no_public_ones(place: Path) -> None:
    data = open_images(place / "public.npz")
    from dpgen.privacy.lineage.keys import StageKeys
    from dpgen.privacy.mechanisms.declared import NoisySum
    from dpgen.privacy.plan import Plan, Stage
    from tests.privacy.conftest import Echo

    data.open_ledger(BUDGET, place)
    plan = Plan((Stage("means", NoisySum(Echo(), 6.0)),), data.facts.relation)
    data.begin("run", StageKeys(place / "keys"), plan)
    with pytest.raises(ValueError, match="must hold no private records of this installation"):
        made(place)


def test_teachers_and_records_do_not_take_each_others_place(place: Path) -> None:
    teachers = open_teachers(place / "silos")
    with pytest.raises(ValueError, match="DPSD learns from records, got PrivateTeachers"):
        DPSD(epsilon=3.0).fit(teachers)
    with pytest.raises(ValueError, match="Teachers learns from teachers"):
        Teachers(budget=BUDGET).fit(open_images(place / "public.npz"))
    listed = dpgen("settings", "teachers").output
    assert "votes.n_queries" in listed and "confidence" in listed and "images." not in listed
    found = dpgen("train", "teachers", "--data", "digits", "--epsilon", 3, "--out", place / "x")
    assert found.exit_code == 2 and "dpgen transcribe --teachers" in found.output


def test_a_ledger_of_other_slots_or_of_records_is_refused_before_anything_is_charged(
    place: Path,
) -> None:
    ledger = place / "slots.jsonl"
    made(place, ledger=ledger, limit=Budget(500.0, 1e-5))
    held = ledger.read_bytes()
    save_classifier(student(9), place / "silos" / "nine.safetensors", NAMES)
    with pytest.raises(ValueError, match="holds other facts.*folder of the 8 teachers in the slot"):
        made(place, "run9", ledger=ledger)
    with pytest.raises(LedgerError, match="If these are those slots, and some of their teachers"):
        made(place, "run9")
    make_run(place / "parent", ledger=place / "records.jsonl")
    with pytest.raises(LedgerError, match="the two do not add up; name another ledger"):
        made(place, "run9", ledger=place / "records.jsonl")
    assert ledger.read_bytes() == held and not (place / "run9").exists()


def rewritten(path: Path, **metadata: str) -> None:
    """Writes a file again with other metadata."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        held = dict(file.metadata())
    save_file(load_file(path), path, metadata={k: v for k, v in (held | metadata).items() if v})


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda p: save_classifier(student(9, 4), p / "nine.safetensors", "wxyz"),
         "must name the same classes"),
        (lambda p: save_classifier(student(9, side=16), p / "nine.safetensors", NAMES),
         "in 3, .*nine.safetensors of .1, 16, 16."),
        (lambda p: save_classifier(student(9), p / "nine.safetensors", ("y", "x", "z")),
         "same classes in the same order"),
        (lambda p: shutil.copy(p / "silo-0.safetensors", p / "nine.safetensors"),
         "hold the same teacher"),
        (lambda p: rewritten(p / "silo-0.safetensors", class_names="[1]"), "list of names"),
        (lambda p: (p / "README.md").write_text("x"), "README.md is no teacher"),
        (lambda p: (p / "nine.safetensors").write_text("x"), "must be a safetensors file"),
        (lambda p: (p / "nine").mkdir(), "must hold one file of a classifier"),
        (lambda p: [one.unlink() for one in p.iterdir()], "is empty"),
    ],
)  # fmt: skip
def test_teachers_that_do_not_fit_together_are_refused(
    change: Callable[[Path], Any], seen: str, place: Path
) -> None:
    change(place / "silos")
    with pytest.raises(ValueError, match=seen):
        open_teachers(place / "silos")


def test_classes_are_declared_where_no_file_states_them(place: Path) -> None:
    for path in (place / "silos").iterdir():
        rewritten(path, class_names="")
    with pytest.raises(ValueError, match="declare them.*--classes"):
        open_teachers(place / "silos")
    found = open_teachers(place / "silos", classes=["a", "b", "c"])
    assert found.facts.class_names == ("a", "b", "c")
    with pytest.raises(ValueError, match="in 3.*there are 2 classes"):
        open_teachers(place / "silos", classes=["a", "b"])


def test_a_silo_may_hand_over_a_folder_and_its_names_are_those_of_its_facts(
    place: Path, run: Path
) -> None:
    inner = place / "silos" / "folder"
    inner.mkdir()
    for name in ("student.safetensors", "facts.json"):
        shutil.copy(run / name, inner / name)
    found = open_teachers(place / "silos")
    assert found.names[0] == "folder" and found.facts.n_records == 9
    facts = json.loads((inner / "facts.json").read_text())
    (inner / "facts.json").write_text(json.dumps(facts | {"class_names": ["x", "y", "w"]}))
    with pytest.raises(ValueError, match="must name the same classes"):
        open_teachers(place / "silos")


def test_only_classifiers_with_a_name_for_each_class_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 different names"):
        save_classifier(student(0), tmp_path / "a.safetensors", ("x", "y"))
    with pytest.raises(ValueError, match="must end in .safetensors"):
        save_classifier(student(0), tmp_path / "a.pt", NAMES)
    broken = student(0)
    torch.nn.init.constant_(broken.network.head.weight, math.nan)
    with pytest.raises(ValueError, match="must be finite"):
        save_classifier(broken, tmp_path / "a.safetensors", NAMES)
    assert not list(tmp_path.glob("*.safetensors"))
