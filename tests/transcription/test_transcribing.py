"""Transcriptions: the guarantee of the run that they were made of, what they say, what is found."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpgen import (
    DPDFD,
    Budget,
    PrivateDataset,
    RefinementSettings,
    StudentSettings,
    TranscriptionSettings,
    UnverifiedClaim,
    transcribe,
)
from dpgen.auditing import audit as auditor
from dpgen.auditing import replay
from dpgen.methods.loading import load, load_trained
from dpgen.methods.planned import planned_check
from dpgen.methods.transcription import Transcription
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.privacy.statements.certificate import (
    CertificateError,
    read_statement,
    sha256_file,
    statement_bytes,
)
from dpgen.privacy.statements.notice import read_notice
from dpgen.privacy.statements.transcription import KEY, LONGEST_CHAIN, OWN, check_chain, told
from dpgen.privacy.verification.parentage import trace
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.stages import classifier, sketch_plan
from dpgen.storage.canonical import digest
from dpgen.synthetic.mix import mix
from dpgen.synthetic.synthesise import synthesise
from dpgen.transcription.source import parts_of
from tests.commands import dpgen
from tests.methods.stopped import Stopped, assert_same_networks, stop_after
from tests.methods.test_dpdfd import tiny

SETTINGS = TranscriptionSettings(
    refinement=RefinementSettings(n_steps=2, batch_size=6),
    student=StudentSettings(n_steps=3, batch_size=8, width=16),
)
QUICK = (
    "--set", "refinement.n_steps=1", "--set", "refinement.batch_size=4", "--set",
    "student.n_steps=1", "--set", "student.batch_size=4", "--set", "student.width=8", "-q",
)  # fmt: skip
FACTS = 'shape = [1, 8, 8]\nclass_names = ["a", "b", "c"]\nn_records = 30\n'


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> Iterator[Path]:
    """``run``, a run of dpdfd; ``cheap``, another with more noise; ``run2``, made of ``run``."""
    place, n_threads = tmp_path_factory.mktemp("made"), torch.get_num_threads()
    torch.set_num_threads(1)  # before the fixture of each test, for one rounding in all of them
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        for module, name in ((classifier, "features_for"), (sketch_plan, "GaborFeatures")):
            patch.setattr(module, name, partial(GaborFeatures, grid=2))
        for name, epsilon in (("run", 3.0), ("cheap", 1.0)):
            generator = tiny("labeller")
            generator.budget = Budget(epsilon, 1e-3)
            data = dataset(records)
            data.limit = Budget(9.0, 1e-3)
            generator.fit(data, out=place / name, seed=1)
        transcribe(place / "run", place / "run2", settings=SETTINGS, seed=1)
        torch.set_num_threads(n_threads)
        yield place


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """A copy of all, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "here"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def checks(folder: Path) -> dict[str, bool | None]:
    """Of a folder and of what lies beside it."""
    return {check.name: check.held for check in (*verify(folder), *trace(folder))}


def failed(folder: Path) -> set[str]:
    return {name for name, held in checks(folder).items() if held is False}


def sealed(statement: dict[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in statement.items() if key != "sha256"}
    return {**body, "sha256": digest(body)}


def test_it_says_what_its_parent_says_of_privacy_charges_nothing_and_changes_nothing(
    here: Path,
) -> None:
    before = {name: content(here / name) for name in ("run", "home")}
    found = transcribe(here / "run", here / "new", settings=SETTINGS, seed=1)
    assert before == {name: content(here / name) for name in ("run", "home")}
    parent, own = read_statement(here / "run"), read_statement(here / "new")
    assert parent.keys() - set(OWN) == own.keys() - set(OWN)
    assert all(parent[key] == own[key] for key in parent.keys() - set(OWN))
    assert own["guarantee"]["epsilon"] == parent["guarantee"]["epsilon"] > 0
    assert own["artifact"]["parents"] == [digest(parent)]
    assert own[KEY]["chain"] == [{"statement": digest(parent), "folder": "run"}]
    assert (here / "new" / "ledger.jsonl").read_bytes() == before["run"]["ledger.jsonl"]
    assert found.student is not None and found.student.config.width == 16
    assert planned_check(here / "new").held is True


def test_it_is_verified_beside_its_parent_and_without_it(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "run2", tmp_path / "x")
    for path, here in ((made / "run2", True), (tmp_path / "x", None)):
        held = checks(path)
        assert False not in held.values()
        assert held["run 'run'"] is here and held["epsilon from the events"] is True


def test_the_generator_is_refined_and_the_student_learned_from_what_was_released(
    made: Path,
) -> None:
    parent, found = load(made / "run"), load(made / "run2")
    left, right = (one.networks["model"].state_dict() for one in (parent, found))
    moved = {name for name in left if not torch.equal(left[name], right[name])}
    assert moved and all(name.startswith("decoder.") for name in moved)
    left, right = (one.networks["classifier"].state_dict() for one in (parent, found))
    assert all(torch.equal(left[name], right[name]) for name in left), "the teacher is handed on"


def test_a_seed_gives_the_same_networks_and_a_run_that_was_stopped_goes_on_to_them(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = load(made / "run2")
    saved = stop_after(monkeypatch, lambda names: names == ["refinement"])
    with pytest.raises(Stopped):
        transcribe(made / "run", tmp_path / "new", settings=SETTINGS, seed=1)
    assert not list((tmp_path / "new").glob("*.json")), "nothing is half-written"
    torch.manual_seed(5)
    assert_same_networks(
        oracle, transcribe(made / "run", tmp_path / "new", settings=SETTINGS)
    )
    assert saved == ["refinement", "student"]
    assert not (tmp_path / "new" / "checkpoint").exists()
    again = transcribe(made / "run", tmp_path / "new", settings=SETTINGS)
    assert saved == ["refinement", "student"] and again.folder == tmp_path / "new"
    with pytest.raises(ValueError, match="another finished run"):
        transcribe(made / "run", tmp_path / "new", settings=SETTINGS, seed=2)
    with pytest.raises(ValueError, match="another finished run"):
        transcribe(made / "cheap", tmp_path / "new", settings=SETTINGS, seed=1)
    other = transcribe(made / "run", tmp_path / "other", settings=SETTINGS, seed=2)
    assert not torch.equal(
        *(one.student.network.head.weight for one in (oracle, other))  # type: ignore[union-attr]
    )


def test_a_transcription_is_transcribed_again_and_names_all_that_it_goes_back_to(
    here: Path,
) -> None:
    transcribe(here / "run2", here / "run3", settings=SETTINGS, seed=4)
    statement = read_statement(here / "run3")
    assert [link["folder"] for link in statement[KEY]["chain"]] == ["run", "run2"]
    assert statement["artifact"]["parents"] == [digest(read_statement(here / "run2"))]
    assert statement["guarantee"] == read_statement(here / "run")["guarantee"]
    held = checks(here / "run3")
    assert False not in held.values() and held["run 'run'"] and held["run 'run2'"]
    # The one in the middle is made again, with another seed: it is another run of the same name.
    shutil.rmtree(here / "run2")
    transcribe(here / "run", here / "run2", settings=SETTINGS, seed=5)
    assert failed(here / "run3") == {"run 'run2'"}


def test_sets_of_a_run_and_of_what_was_made_of_it_cost_as_much_as_the_run(here: Path) -> None:
    for name in ("run", "run2", "cheap"):
        synthesise(here / name, 4, here / f"{name}-set", layout="npz", seed=1)
        assert not failed(here / f"{name}-set")
    price = read_statement(here / "run")["guarantee"]["epsilon"]
    both = mix([here / "run-set", here / "run2-set"], here / "both", layout="npz")
    assert both["guarantee"]["epsilon"] == price
    assert not failed(here / "both")
    other = mix([here / "cheap-set", here / "run2-set"], here / "other", layout="npz")
    assert other["guarantee"]["epsilon"] > price
    page = (here / "run2-set" / "RELEASE.md").read_text()
    assert read_statement(here / "run2")[KEY]["statement"].replace("'", "") in page.replace("'", "")


class Forged:
    """A transcription that somebody changes, and makes to agree with itself again.

    Args:
        path: of its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.statement = path, copy.deepcopy(read_statement(path))
        self.trained = json.loads((path / "parent.json").read_text())

    def seal(self) -> None:
        """Writes the trained run's statement, the hashes that cover it, and its own statement."""
        trained = sealed(self.trained)
        (self.path / "parent.json").write_bytes(statement_bytes(trained))
        files = self.statement["artifact"]["files"]
        for name in files:
            files[name] = sha256_file(self.path / name)
        (self.path / "privacy.json").write_bytes(statement_bytes(sealed(self.statement)))

    def name(self, statement: str) -> None:
        """Names another statement as that of the run which was trained."""
        held = self.statement[KEY]
        held["chain"][0]["statement"] = statement
        self.statement["artifact"]["parents"] = [held["chain"][-1]["statement"]]
        mechanism = self.statement["mechanism"]["id"]
        self.statement[KEY] = told(mechanism, held["chain"], held["version"])
        config = json.loads((self.path / "config.json").read_text())
        config["parent"] = held["chain"][-1]["statement"]
        (self.path / "config.json").write_text(json.dumps(config))


def another_event(forged: Forged) -> None:
    """Less noise was added than is stated, in its own statement alone."""
    forged.statement["mechanism"]["stages"]["sketch 1"]["noise_multiplier"] *= 2


def another_event_twice(forged: Forged) -> None:
    """The same in the parent's statement, too, which is named by its new hash."""
    for one in (forged.statement, forged.trained):
        one["mechanism"]["stages"]["sketch 1"]["noise_multiplier"] *= 2
    forged.name(digest(sealed(forged.trained)))


def another_epsilon(forged: Forged) -> None:
    for one in (forged.statement, forged.trained):
        one["guarantee"]["epsilon"] /= 2
    forged.name(digest(sealed(forged.trained)))


def another_parent(forged: Forged) -> None:
    forged.statement["artifact"]["parents"] = ["0" * 64]


def another_chain(forged: Forged) -> None:
    forged.name("0" * 64)


def no_transcription(forged: Forged) -> None:
    """As if it had been trained."""
    del forged.statement[KEY]
    forged.statement["artifact"]["parents"] = []


def another_seed_of_the_trained_run(forged: Forged) -> None:
    """What is free of charge in its configuration stands in its own statement's hash alone."""
    path = forged.path / "parent_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 99}))


def other_words(forged: Forged) -> None:
    forged.statement[KEY]["statement"] += " It is anonymous."


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (another_event, "parents"),
        (another_event_twice, "settings of the stages"),
        (another_epsilon, "epsilon from the events"),
        (another_parent, "parents"),
        (another_chain, "parents"),
        (no_transcription, "configuration"),
        (another_seed_of_the_trained_run, "files of the trained run"),
        (other_words, "transcription"),
    ],
)
def test_a_forger_who_seals_everything_again_is_found_without_the_parent(
    change: Callable[[Forged], None], seen: str, made: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(made / "run2", tmp_path / "forged"))
    untouched = Forged(path)
    untouched.seal()
    assert not failed(path), "sealing alone changes nothing"
    change(forged := Forged(path))
    forged.seal()
    assert seen in failed(path)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        yield (*path, key)
        if isinstance(one, dict | list):
            yield from leaves(one, (*path, key))


def test_whatever_is_changed_in_what_is_said_of_a_transcription_is_found(
    made: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(made / "run2", tmp_path / "forged"))
    genuine = Forged(path).statement[KEY]
    places = list(leaves(genuine))
    assert (("chain", 0, "folder") in places) and len(places) == 6
    for place in places:
        for value in (None, 7, "x", [], {}, "gone"):
            forged = Forged(path)
            forged.statement[KEY] = held = copy.deepcopy(genuine)
            for key in place[:-1]:
                held = held[key]
            if value == "gone":
                del held[place[-1]]
            else:
                held[place[-1]] = value
            forged.seal()
            try:
                found = failed(path)
            except CertificateError:
                continue
            assert found, (place, value)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "student.safetensors", "parent.json", "ledger.jsonl"]
)
def test_a_file_of_another_run_is_found(name: str, here: Path) -> None:
    transcribe(here / "cheap", here / "other", settings=SETTINGS, seed=2)
    shutil.copyfile(here / "other" / name, here / "run2" / name)
    assert "files" in failed(here / "run2")
    with pytest.raises(CertificateError, match=f"{name} missing or changed"):
        load(here / "run2")


def test_networks_of_one_run_under_the_events_of_another_are_found_where_the_run_is(
    here: Path,
) -> None:
    """The forger makes a transcription of a cheap run and says that it is of the dear one, of which
    the networks are: everything in the folder agrees.
    """
    (here / "elsewhere").mkdir()
    shutil.copytree(here / "cheap", here / "elsewhere" / "run")
    transcribe(here / "elsewhere" / "run", here / "elsewhere" / "forged", settings=SETTINGS, seed=1)
    forged = here / "elsewhere" / "forged"
    for name in ("model.safetensors", "student.safetensors", "classifier.safetensors"):
        shutil.copyfile(here / "run2" / name, forged / name)
    Forged(forged).seal()
    shutil.move(forged, here / "forged")
    assert failed(here / "forged") == {"run 'run'"}


def test_a_run_that_does_not_hold_or_lacks_something_is_refused_and_nothing_is_written(
    here: Path,
) -> None:
    (here / "cheap" / "stray.txt").write_text("x")
    with pytest.raises(CertificateError, match="does not hold"):
        transcribe(here / "cheap", here / "out")
    with pytest.raises(CertificateError, match="neither a finished run"):
        transcribe(here / "home", here / "out")
    with pytest.raises(ValueError, match="lies in .*run, a run or a set"):
        transcribe(here / "run", here / "run" / "out", settings=SETTINGS)
    with pytest.raises(ValueError, match="mode of this transcription must be 'certified'"):
        transcribe(here / "run", here / "out", settings=TranscriptionSettings.alone())
    weights = here / "run2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x00\x01")
    with pytest.raises(CertificateError, match="missing or changed"):
        transcribe(here / "run2", here / "out")
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("networks", "words"),
    [({}, "a generator that draws"), ({"model": "proposer"}, "a classifier, and")],
)
def test_a_run_without_a_generator_or_a_classifier_is_refused_with_the_cure(
    networks: dict[str, str], words: str, made: Path
) -> None:
    held = {name: load(made / "run").networks["model"] for name in networks}
    run = SimpleNamespace(
        networks=held, classifier=None, student=None, folder=made, mechanism_id="dpdm/dpsgd"
    )
    with pytest.raises(ValueError, match=f"released {words}.*transcribe a run of dpdfd or dpsd"):
        parts_of(run)  # type: ignore[arg-type]


def test_a_chain_has_an_end_and_a_form() -> None:
    link = {"statement": "0" * 64, "folder": "run"}
    check_chain([link] * LONGEST_CHAIN)
    for chain in ([], [link] * (LONGEST_CHAIN + 1), [{"statement": "0"}], [link | {"x": ""}], None,
                  [link | {"folder": "x" * 256}], [link | {"statement": 7}]):  # fmt: skip
        with pytest.raises(CertificateError, match="goes back to 1 to"):
            check_chain(chain)


def test_a_lone_classifier_gets_a_notice_and_no_epsilon(made: Path, tmp_path: Path) -> None:
    alone, facts = tmp_path / "t.safetensors", tmp_path / "facts.toml"
    shutil.copyfile(made / "run" / "student.safetensors", alone)
    facts.write_text(FACTS)
    out = tmp_path / "run3"
    refused = dpgen("transcribe", alone, "--out", out, "--facts", facts, *QUICK)
    assert refused.exit_code == 1 and "gets no certificate" in refused.stderr
    whole = dpgen("transcribe", made / "run" / "student.safetensors", "--out", out, *QUICK)
    assert f"name that, {made / 'run'}" in whole.stderr
    nameless = dpgen("transcribe", alone, "--out", out, "--allow-unverified", *QUICK)
    assert nameless.exit_code == 2 and "shape = [1, 8, 8], class_names = [3 names]" in (
        nameless.stderr
    )
    assert not out.exists()
    words = ("transcribe", alone, "--out", out, "--facts", facts, "--allow-unverified")
    stay = dpgen(*words, "--set", "refinement.anchor_weight=1", *QUICK)
    assert stay.exit_code == 2 and "no released generator to stay near" in stay.stderr
    result = dpgen(*words, *QUICK)
    assert result.exit_code == 0, result.stderr
    notice = read_notice(out)
    assert "epsilon" not in json.dumps(notice) and "epsilon" not in result.stdout
    assert notice[KEY]["classifier"] == sha256_file(alone)
    assert dpgen("verify", out).exit_code == 1
    assert dpgen("sample", out, "-n", 3, "--out", tmp_path / "set", "-q").exit_code == 1
    drawn = dpgen("sample", out, "-n", 3, "--out", tmp_path / "set", "--allow-unverified", "-q")
    assert drawn.exit_code == 0 and "epsilon" not in drawn.stdout
    assert read_notice(tmp_path / "set")[KEY] == notice[KEY]
    facts.write_text(FACTS.replace('"c"', '"d"'))
    assert "another finished run" in dpgen(*words, *QUICK).stderr


def test_a_transcription_of_a_run_with_a_notice_has_that_notice(
    made: Path, tmp_path: Path
) -> None:
    facts = load(made / "run").facts
    settings = TranscriptionSettings(
        "alone", RefinementSettings(n_steps=1, batch_size=4, anchor_weight=0.0), SETTINGS.student
    )
    first = transcribe(
        made / "run" / "classifier.safetensors", tmp_path / "one", settings=settings, seed=1,
        allow_unverified=True, facts=facts,
    )  # fmt: skip
    assert not first.certified and "epsilon" not in repr(first)
    with pytest.raises(UnverifiedClaim):
        transcribe(tmp_path / "one", tmp_path / "two", settings=SETTINGS, seed=1)
    transcribe(
        tmp_path / "one", tmp_path / "two", settings=SETTINGS, seed=1, allow_unverified=True
    )
    one, two = read_notice(tmp_path / "one"), read_notice(tmp_path / "two")
    assert [link["folder"] for link in two[KEY]["chain"]] == ["one"]
    assert all(one[key] == two[key] for key in one.keys() - set(OWN))
    assert not (tmp_path / "two" / "privacy.json").exists()
    assert isinstance(load(tmp_path / "two", allow_unverified=True), Transcription)


@pytest.fixture
def short_audit(short_audits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit of a replay with one neighbour, and of the certificate."""
    every = replay.neighbours

    def one(facts: Any, seed: int) -> Any:  # noqa: ANN401
        first, others = every(facts, seed)
        return first, {"copy of another record": others["copy of another record"]}

    monkeypatch.setattr(replay, "neighbours", one)
    monkeypatch.setattr(auditor, "neighbours", one)
    monkeypatch.setattr(auditor, "of_stage", lambda *given: [])


@pytest.mark.usefixtures("short_audit")
def test_the_plan_of_the_trained_run_is_audited_beside_that_run_and_without_it(
    made: Path, tmp_path: Path
) -> None:
    generator, trained = load_trained(made / "run2"), load(made / "run")
    assert isinstance(generator, DPDFD) and generator.settings == trained.settings
    assert trained.facts is not None
    assert generator.plan(trained.facts) == trained.plan(trained.facts)
    assert repr(load_trained(made / "run")) == repr(trained)
    found = auditor.audit(generator, games=False, hardware=Hardware("cpu"))
    assert found.passed and found.certificate == read_statement(made / "run2")["sha256"]
    told = {finding.name: finding.seen for finding in found.findings}
    assert f"run 'run': {made / 'run'} has statement" in told["post-processing"]
    assert "of dpdfd/sealed" in told["post-processing"]
    assert "sketch 1: neighbours before the noise" in told
    shutil.copytree(made / "run2", tmp_path / "alone")
    (alone,) = auditor._transcription(tmp_path / "alone", read_statement(tmp_path / "alone"))
    assert alone.passed and "run 'run': not beside this one, not compared" in alone.seen
    with pytest.raises(ValueError, match=r"planned and audited by .*load_trained or `dpgen audit"):
        auditor.audit(load(made / "run2"))


@pytest.mark.usefixtures("short_audit")
def test_another_run_in_the_place_of_the_one_that_it_was_made_of_is_a_violation(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "of_replay", lambda found: [])
    monkeypatch.setattr(auditor, "_replayed", lambda *given: SimpleNamespace(base=None))
    words = ("audit", here / "run2", "--quick", "-q", "--device", "cpu")
    assert dpgen(*words).exit_code == 0
    shutil.rmtree(here / "run")
    (here / "cheap").rename(here / "run")
    found = dpgen(*words)
    assert found.exit_code == 1 and "VIOLATION: post-processing" in found.stdout


def test_a_transcription_without_a_guarantee_says_what_to_audit(
    made: Path, tmp_path: Path
) -> None:
    settings = TranscriptionSettings(
        "alone", RefinementSettings(n_steps=1, batch_size=4, anchor_weight=0.0), SETTINGS.student
    )
    common: dict[str, Any] = {"seed": 1, "allow_unverified": True}
    transcribe(
        made / "run" / "student.safetensors", tmp_path / "one", settings=settings,
        facts=load(made / "run").facts, **common,
    )  # fmt: skip
    transcribe(tmp_path / "one", tmp_path / "two", settings=SETTINGS, **common)
    for name, words in (("one", "nobody claims anything of it"), ("two", "audit the run 'one'")):
        refused = dpgen("audit", tmp_path / name, "--allow-unverified", "-q")
        assert refused.exit_code == 2 and words in refused.stderr
