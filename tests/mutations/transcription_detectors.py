"""Detectors of what a transcription says of the run that it was made of, and of forged ones."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dpgen.configurations.transcription import TranscriptionSettings
from dpgen.data.private import PrivateDataset
from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.certificate import (
    CertificateError,
    read_statement,
    sha256_file,
    statement_bytes,
)
from dpgen.privacy.statements.mixture import account_of, mixed
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.privacy.statements.transcription import KEY, OWN, PARENT, told
from dpgen.privacy.verification.parentage import trace
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.stages import classifier
from dpgen.storage.canonical import digest
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from dpgen.transcription.transcribing import transcribe
from tests.mutations.data_free_detectors import untrained
from tests.mutations.fit_detectors import FACTS, quick, watched_silently

SETTINGS = TranscriptionSettings(
    refinement=RefinementSettings(n_steps=1, batch_size=4),
    student=StudentSettings(n_steps=1, batch_size=4, width=8, agreed=False),
)
BUDGETS = {"dear": 0.3, "cheap": 0.2, "twin": 0.3}  # by the folder of each run
LIMIT = Budget(9.0, 1e-3)
# A forger's change of a folder, of its statement, and of the statement that it keeps.
Forgery = Callable[[Path, dict[str, Any], dict[str, Any]], None]


@cache
def _trained() -> TemporaryDirectory[str]:
    """Trains three runs on one data set, once: no bug of a transcription changes a training."""
    place = TemporaryDirectory()
    with quick(Path(place.name)) as patch:
        patch.setattr(classifier, "features_for", partial(GaborFeatures, grid=2))
        for name, epsilon in BUDGETS.items():
            data, generator = PrivateDataset(watched_silently(), facts=FACTS), untrained()
            data.limit, generator.budget = LIMIT, Budget(epsilon, LIMIT.delta)
            generator.fit(
                data, out=Path(place.name) / name / "run", seed=0, hardware=Hardware("cpu")
            )
    return place


def runs(place: Path) -> Path:
    """Returns a copy of the three runs, to be changed."""
    return Path(shutil.copytree(_trained().name, place / "runs"))


def made(run: Path, name: str = "made") -> Path:
    """Transcribes a run into a folder beside it."""
    with quick(run.parent):
        transcribe(run, run.parent / name, settings=SETTINGS, seed=0, hardware=Hardware("cpu"))
    return run.parent / name


def failed(folder: Path) -> list[str]:
    """Returns the names of the checks of a folder, and of what lies beside it, that fail."""
    return [check.name for check in (*verify(folder), *trace(folder)) if check.failed]


def honest(place: Path) -> str:
    """A transcription says of privacy what its run says, word for word, names what it goes back to,
    and is verified.
    """
    folder = runs(place) / "dear/run"
    parent = read_statement(folder)
    chain = [digest(parent)]
    for name in ("made", "again"):
        folder = made(folder, name)
        own, wrong = read_statement(folder), failed(folder)
        if differing := [k for k in parent.keys() - set(OWN) if parent[k] != own.get(k)]:
            return f"says other things of {', '.join(sorted(differing))}"
        if [link["statement"] for link in own[KEY]["chain"]] != chain:
            return "not all runs are named that it goes back to"
        if wrong:
            return f"verify fails: {', '.join(wrong)}"
        chain.append(digest(own))
    return ""


def refusals(place: Path) -> str:
    """No transcription is made of a run that does not hold, and none with a certificate of a
    classifier that came alone.
    """
    here, wrong = runs(place), []
    cheaper, alone = here / "cheap/run", here / "twin/run"
    statement = read_statement(cheaper)
    statement["guarantee"]["epsilon"] /= 2
    seal(cheaper, statement)
    try:
        made(cheaper)
        wrong.append("a run that does not hold is transcribed")
    except CertificateError:
        pass
    # A classifier of unknown origin, put into the folder of a run.
    shutil.copyfile(here / "dear/run/student.safetensors", alone / "student.safetensors")
    facts = PublicFacts.from_dict(read_statement(alone)["facts"])
    out = place / "lone"
    try:
        transcribe(alone / "student.safetensors", out, settings=SETTINGS, seed=0)
        wrong.append("a classifier that came alone is taken without --allow-unverified")
    except UnverifiedClaim:
        transcribe(
            alone / "student.safetensors", out, seed=0, allow_unverified=True, facts=facts,
            settings=TranscriptionSettings(
                "alone", RefinementSettings(n_steps=1, batch_size=4, anchor_weight=0.0),
                SETTINGS.student,
            ),
        )  # fmt: skip
    if (out / "privacy.json").exists():
        wrong.append("a classifier that came alone gets a certificate")
    return "; ".join(wrong)


def seal(folder: Path, statement: dict[str, Any]) -> None:
    """Writes a statement of the files as they are, and its hash."""
    for name in statement["artifact"]["files"]:
        statement["artifact"]["files"][name] = sha256_file(folder / name)
    body = {key: value for key, value in statement.items() if key != "sha256"}
    text = statement_bytes({**body, "sha256": digest(body)})
    (folder / "privacy.json").write_bytes(text)


def another_promise(folder: Path, own: dict[str, Any], trained: dict[str, Any]) -> None:
    """The promise of a cheaper run, which is whole in itself."""
    cheap = read_statement(folder.parents[1] / "cheap/run")
    own.update({key: value for key, value in cheap.items() if key not in OWN})
    mechanism, held = own["mechanism"]["id"], own[KEY]
    own[KEY] = told(mechanism, held["chain"], held["version"])


def half_of_epsilon(folder: Path, own: dict[str, Any], trained: dict[str, Any]) -> None:
    """In the statement of the trained run, too, which is named by its new hash."""
    for one in (own, trained):
        one["guarantee"]["epsilon"] /= 2
    del trained["sha256"]
    trained["sha256"] = digest(trained)
    (folder / PARENT).write_bytes(statement_bytes(trained))
    _named(folder, own, digest(trained))


def another_run(folder: Path, own: dict[str, Any], trained: dict[str, Any]) -> None:
    """As if it were made of a run that is named by its hash alone."""
    _named(folder, own, "0" * 64)


def a_charge_less(folder: Path, own: dict[str, Any], trained: dict[str, Any]) -> None:
    """The copy of the ledger lacks a stage."""
    lines = (folder / "ledger.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line).get("label") != "sketch 1"]
    (folder / "ledger.jsonl").write_text("".join(kept))


def _named(folder: Path, own: dict[str, Any], trained: str) -> None:
    held = own[KEY]
    held["chain"][0]["statement"] = trained
    own["artifact"]["parents"] = [trained]
    own[KEY] = told(own["mechanism"]["id"], held["chain"], held["version"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"parent": trained}))


FORGERIES: Mapping[str, Forgery] = {
    "the promise of another run": another_promise,
    "half of epsilon": half_of_epsilon,
    "a run that it was not made of": another_run,
    "a ledger without a charge": a_charge_less,
}


def forged(place: Path) -> str:
    """Changed transcriptions are found, even if everything was sealed again: by what the folder
    holds, or by the run beside it.
    """
    here, wrong = runs(place), []
    original = made(here / "dear/run")
    for number, (name, change) in enumerate(FORGERIES.items()):
        # Alone: the run that it was made of does not lie beside it.
        folder = Path(shutil.copytree(original, here / str(number) / "made"))
        own, trained = copy.deepcopy(read_statement(folder)), read_statement(here / "dear/run")
        change(folder, own, trained)
        seal(folder, own)
        if not failed(folder):
            wrong.append(f"{name} is not found")
    other = made(here / "cheap/run")
    unsealed = Path(shutil.copytree(original, here / "dear/unsealed"))
    shutil.copyfile(other / "model.safetensors", unsealed / "model.safetensors")
    if not failed(unsealed):
        wrong.append("networks of another run are not found")
    # Everything in the folder agrees, but the run beside it is another one.
    shutil.copytree(other, here / "dear/made of cheap")
    if not failed(here / "dear/made of cheap"):
        wrong.append("the run beside it is not compared")
    return "; ".join(wrong)


def mixtures(place: Path) -> str:
    """Sets of one run and of its transcription cost what the run cost; those of two runs more."""
    here = runs(place)
    one, same, other = (
        _drawn(folder)
        for folder in (here / "dear/run", made(here / "dear/run"), made(here / "twin/run"))
    )
    epsilon, wrong = one["guarantee"]["epsilon"], []
    if len(_events(one, same)) != len(_events(one)):
        wrong.append("a transcription is charged again")
    both = mixed([same, other], disjoint=False, files={}, synthetic={})
    if not both["guarantee"]["epsilon"] > 1.2 * epsilon:
        wrong.append(f"two runs of epsilon {epsilon:.3g} cost no more than one together")
    return "; ".join(wrong)


def _events(*parts: Mapping[str, Any]) -> list[str]:
    (event,) = account_of(parts, disjoint=False).events.values()
    return repr(event).split("GaussianDpEvent")


def _drawn(run: Path) -> dict[str, Any]:
    """Returns the statement of a set of this run, but for its files."""
    model = read_statement(run)
    artifact = {"kind": "synthetic_dataset", "files": {}, "parents": [digest(model)]}
    return {**model, "artifact": artifact, "synthetic_dataset": {}}


TRANSCRIPTION: dict[str, Callable[[Path], str]] = {
    "transcription": honest,
    "transcription refusals": refusals,
    "transcription forged": forged,
    "transcription mixed": mixtures,
}
