"""Every fact of a finished run that stands in two places is edited in one of them, and refused.

The forger is careful: ledger lines are chained and hashed again, hashes of files are made to fit in
the statement and in the ledger's copy, and the statement is sealed again. What is not edited is the
second place. A fact that stands once is listed with the reason why nothing can contradict it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dpgen.data.private import PrivateDataset
from dpgen.methods.dp_sad import DPSAD
from dpgen.methods.dpdm import DPDM
from dpgen.methods.planned import planned_check
from dpgen.privacy.accounting.events import event_from_json
from dpgen.privacy.ledger.chain import GENESIS
from dpgen.privacy.ledger.charges import plan_hash, relation_of
from dpgen.privacy.statements.certificate import CertificateError, read_statement, statement_bytes
from dpgen.privacy.statements.statement import statement_of
from dpgen.privacy.verification import verify as verification
from dpgen.privacy.verification.parentage import trace
from dpgen.privacy.verification.verify import reading
from dpgen.storage.canonical import canonical, digest

Path_ = tuple[Any, ...]
Lines = list[dict[str, Any]]

pytestmark = pytest.mark.usefixtures("remembering_accountant")

# By the end of a leaf's path; a number is a line of the ledger's copy.
STAND_ONCE = {
    "artifact.created": "when it was written is said nowhere else",
    "accounting.version": "another version of the accountant may have counted",
    "accounting.cross_check.version": "another version of the accountant may have counted",
    "time": "when a line was written is said nowhere else",
    "mark": "random: only a resume would name it again, and this run was not resumed",
    "question": "the digest of what the unfinished folder held, which is deleted",
    "commitment": "to a key that is deleted when its stage is finished",
    "seed": "of public randomness: no stage that is priced depends on it",
    "sampler.name": "of the default sampler: costs nothing and may be changed",
    "sampler.start": "of the default sampler: costs nothing and may be changed",
    "sampler.n_steps": "of the default sampler: costs nothing and may be changed",
    "sampler.sigma_min": "of the default sampler: costs nothing and may be changed",
    "sampler.sigma_max": "of the default sampler: costs nothing and may be changed",
    "teacher.blend": "what is made of the released moments costs nothing",
    "teacher.pretrain_steps": "what is made of the released moments costs nothing",
    "teacher.pretrain_batch": "what is made of the released moments costs nothing",
    "teacher.preset": "of the network: any loss of one record is clipped alike",
    "teacher.residual": "of the network: any loss of one record is clipped alike",
    "teacher.loss": "any loss of one record is clipped alike",
    "teacher.n_draws": "draws are averaged before the clip",
    "teacher.learning_rate": "of the optimiser, which sees noised gradients",
    "teacher.ema_decay": "of the optimiser, which sees noised gradients",
}
# Other words that a setting can have.
OTHER_WORDS = {"tiny": "small", "added": "fed", "denoising": "sliced"}
LISTED = {
    "statement": {"artifact.created", "accounting.version", "accounting.cross_check.version"},
    "lines": {"time", "mark", "question", "commitment"},
    "facts.json": set(),
}
LISTED["config.json"] = STAND_ONCE.keys() - LISTED["statement"] - LISTED["lines"]
# What contradicts nothing in the folder, and only the ledger of the installation.
NEED_THE_LEDGER = {"data_set.runs"}


@pytest.fixture(scope="module")
def genuine(
    tmp_path_factory: pytest.TempPathFactory,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    untrained: Callable[..., DPSAD | DPDM],
) -> Iterator[Path]:
    """``run`` and its installation ``home``: a warm start and a few steps of DP-SGD."""
    place = tmp_path_factory.mktemp("genuine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        untrained("dpdm").fit(dataset(records), out=place / "run", seed=1)
        yield place


class Folder:
    """A run folder as a forger sees it: texts to edit, and everything that covers them.

    Args:
        path: of a copy of a genuine run, which is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statement = read_statement(path)
        rows = (path / "ledger.jsonl").read_text().splitlines()
        self.lines: Lines = [json.loads(row) for row in rows]
        self.tables = {
            name: json.loads((path / name).read_text()) for name in ("config.json", "facts.json")
        }

    @property
    def stages(self) -> dict[str, Any]:
        stages: dict[str, Any] = self.statement["mechanism"]["stages"]
        return stages

    def of_kind(self, kind: str) -> Lines:
        return [line for line in self.lines if line["kind"] == kind]

    def restate(self) -> None:
        """Derives everything from the lines that follows from them, plans of the stages too."""
        plans, m = {}, relation_of(self.lines).max_records_per_unit
        for line in self.of_kind("charge"):
            event, label = event_from_json(line["event"]), line["label"]
            plans[label] = plan_hash(label, event, self.stages[label], m)
        for line in self.lines:
            if "plan" in line:
                line["plan"] = plans[line["label"]]
        opened, account = self.lines[0], self.statement["data_set"]
        again = statement_of(
            "model",
            lines=self.lines,
            delta=self.statement["guarantee"]["delta"],
            mechanism=self.statement["mechanism"],
            files=self.statement["artifact"]["files"],
            data_set={**account, "limit": opened["limit"], "name": opened["dataset"]},
        )
        self.statement = json.loads(json.dumps(again))

    def write(self, *, chained: bool = True) -> None:
        """Makes every hash fit.

        Args:
            chained: whether lines are chained again; else each has its own hash only.
        """
        files = self.statement["artifact"]["files"]
        for name, table in self.tables.items():
            files[name] = self._written(name, canonical(table))
        for line in self.lines:
            if line["kind"] == "released":
                line["files"] |= {name: files[name] for name in self.tables}
        hashes: dict[str, str] = {}
        for line in self.lines:
            was = line.pop("hash")
            if chained:  # what came before in the ledger and is not in the copy stays as it was
                line["prev"] = hashes.get(line["prev"], line["prev"])
            line["hash"] = hashes[was] = digest(line)
        text = "".join(canonical(line) + "\n" for line in self.lines)
        files["ledger.jsonl"] = self._written("ledger.jsonl", text)
        body = {key: value for key, value in self.statement.items() if key != "sha256"}
        whole = statement_bytes({**body, "sha256": digest(body)})
        (self.path / "privacy.json").write_bytes(whole)

    def _written(self, name: str, text: str) -> str:
        (self.path / name).write_text(text)
        return hashlib.sha256(text.encode()).hexdigest()


def refused(path: Path, ledgers: Path | None = None) -> str | None:
    """The first thing that `dpgen verify` finds wrong, and looks no further; None for nothing."""
    try:
        statement = read_statement(path)
        with reading(path):
            for check in verification._checks(path, statement):
                if check.failed:
                    return check.name
        if (planned := planned_check(path)).failed:
            return planned.name
        known = [] if ledgers is None else sorted(ledgers.glob("*.jsonl"))
        return next((c.name for c in trace(path, ledgers=known) if c.failed), None)
    except CertificateError as error:
        return str(error)


def leaves_of(value: Any, path: Path_ = ()) -> Iterator[Path_]:  # noqa: ANN401
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves_of(item, (*path, key))
    else:
        yield path


def at(value: Any, path: Path_) -> Any:  # noqa: ANN401
    for key in path:
        value = value[key]
    return value


def other_values(value: Any) -> list[Any]:  # noqa: ANN401
    """What a forger might write instead: numbers on both sides."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [2 * value + 1, value - 1]
    if isinstance(value, float):
        return [2 * value + 0.5, 0.5 * value]
    if not isinstance(value, str):
        return ["changed"]
    return [value + "x", OTHER_WORDS.get(value, "y")]


def standing_once(path: Path_) -> str | None:
    """The entry of the list that a leaf is."""
    name = ".".join(str(key) for key in path)
    return next((end for end in STAND_ONCE if f".{name}".endswith(f".{end}")), None)


def test_a_genuine_run_is_accepted(genuine: Path, tmp_path: Path) -> None:
    """Also by what the forger writes who changes nothing: the test edits what it says it does."""
    assert refused(genuine / "run", genuine / "home" / "ledgers") is None
    folder = Folder(Path(shutil.copytree(genuine / "run", tmp_path / "run")))
    folder.write()
    for name in ("privacy.json", "ledger.jsonl", "config.json", "facts.json"):
        assert (tmp_path / "run" / name).read_bytes() == (genuine / "run" / name).read_bytes()


@pytest.mark.parametrize("part", ["statement", "lines", "config.json", "facts.json"])
def test_a_fact_that_stands_twice_is_not_believed_once(
    part: str, genuine: Path, tmp_path: Path
) -> None:
    run, home = tmp_path / "run", genuine / "home" / "ledgers"
    shutil.copytree(genuine / "run", run)
    whole = Folder(genuine / "run")
    read: Callable[[Folder], Any] = lambda f: (  # noqa: E731
        f.tables[part] if part in f.tables else getattr(f, part)
    )
    believed, listed = [], set()
    for path in leaves_of(read(whole)):
        if path[-1] in ("sha256", "hash", "prev") or path[:2] == ("artifact", "files"):
            continue  # what the forger makes to fit; the tests below
        if path[-2:-1] == ("files",):
            continue
        for value in other_values(at(read(whole), path)):
            folder = Folder(genuine / "run")
            folder.path = run
            at(read(folder), path[:-1])[path[-1]] = value
            folder.write()
            found = refused(run)
            if found is None and ".".join(map(str, path)) in NEED_THE_LEDGER:
                found = refused(run, home)
            if found is None and (once := standing_once(path)) is not None:
                listed.add(once)
            elif found is None:
                believed.append((path, value))
    assert believed == []
    assert listed == LISTED[part]


@pytest.mark.parametrize("how", ["dropped", "doubled", "swapped", "unchained"])
def test_no_line_of_the_copy_is_dropped_doubled_or_moved(
    how: str, genuine: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(genuine / "run", run)
    for number in range(len(Folder(genuine / "run").lines)):
        folder = Folder(genuine / "run")
        folder.path, lines = run, folder.lines
        if how == "dropped":
            del lines[number]
        elif how == "doubled":
            lines.append(copy.deepcopy(lines[number]))
        elif how == "swapped":
            lines.insert(number - 1, lines.pop(number))
        else:
            lines[number]["prev"] = "0" * 63 + "1" if number == 0 else GENESIS
        folder.write(chained=how == "dropped")
        assert refused(run, genuine / "home" / "ledgers") is not None, (how, number)


def test_no_field_of_a_statement_is_dropped_or_added(genuine: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(genuine / "run", run)
    statement = read_statement(run)
    inner = [(key,) for key, value in statement.items() if isinstance(value, dict)]
    for path in [(), *inner]:
        for key in [*at(statement, path), "more"]:
            if (*path, key) in {("sha256",), ("artifact", "files")}:
                continue
            folder = Folder(genuine / "run")
            folder.path = run
            if key == "more":
                at(folder.statement, path)[key] = "another word"
            else:
                del at(folder.statement, path)[key]
            if "artifact" in folder.statement:
                folder.write()
                assert refused(run) is not None, (*path, key)


@pytest.mark.parametrize("name", ["model.safetensors", "preview.png"])
def test_other_weights_are_not_what_the_ledger_says_was_released(
    name: str, genuine: Path, tmp_path: Path
) -> None:
    """The hash in the statement made to fit, then that of the copy; the ledger keeps its own."""
    run, home = tmp_path / "run", genuine / "home" / "ledgers"
    shutil.copytree(genuine / "run", run)
    content = (run / name).read_bytes()[:-4] + bytes(4)
    (run / name).write_bytes(content)
    folder = Folder(run)
    folder.statement["artifact"]["files"][name] = hashlib.sha256(content).hexdigest()
    folder.write()
    assert refused(run) == "files in the ledger"
    folder = Folder(run)
    (line,) = [line for line in folder.lines if line["kind"] == "released"]
    line["files"][name] = hashlib.sha256(content).hexdigest()
    folder.write()
    assert refused(run) is None
    assert refused(run, home) == "data set"


def more_noise(folder: Folder) -> None:
    """Fifty times the noise in every event, none more in the settings of the stages."""
    for line in folder.of_kind("charge"):
        for row in line["event"]:
            row["noise_multiplier"] *= 50


def rarer_samples(folder: Folder) -> None:
    """Another rate in the event of DP-SGD."""
    for line in folder.of_kind("charge"):
        for row in line["event"]:
            row["rate"] = 1e-4 if row["rate"] < 1 else row["rate"]


def smaller_limit(folder: Folder) -> None:
    """Opened with less than was spent."""
    folder.lines[0]["limit"]["epsilon"] = 0.05


def more_records(folder: Folder) -> None:
    """Opened for more records than the stages divide by."""
    folder.lines[0]["facts"]["n_records"] = 9999


def other_origin(folder: Folder) -> None:
    """Said to be declared, where a facts file states it."""
    folder.lines[0]["facts"]["origin"] = "declared"


def without_the_teacher(folder: Folder) -> None:
    """A stage left out everywhere but in the configuration."""
    folder.lines[:] = [line for line in folder.lines if line.get("label") != "teacher"]
    del folder.stages["teacher"]


def nothing_executed(folder: Folder) -> None:
    """Charged, and no note of any release."""
    folder.lines[:] = [line for line in folder.lines if line["kind"] != "executed"]


def empty_notes(folder: Folder) -> None:
    """Notes of releases from 0 to 0."""
    for line in folder.of_kind("executed"):
        line["start"] = line["stop"] = 0


def longer_gradients(folder: Folder) -> None:
    """Another clip norm, in the settings and in the plan that was charged for them."""
    folder.stages["teacher"]["clip_norm"] = 1000.0


def hundred_thousand_steps(folder: Folder) -> None:
    """Other settings of a stage; what was charged for it stays."""
    folder.stages["teacher"] |= {"n_steps": 100_000, "rate": 1.0, "noise_multiplier": 0.01}


@pytest.mark.parametrize(
    "edit",
    [
        more_noise, rarer_samples, smaller_limit, more_records, other_origin, without_the_teacher,
        nothing_executed, empty_notes, longer_gradients, hundred_thousand_steps,
    ],
    ids=lambda edit: edit.__name__,
)  # fmt: skip
def test_what_follows_is_made_to_fit_and_still_contradicts(
    edit: Callable[[Folder], None], genuine: Path, tmp_path: Path
) -> None:
    """Plans, price, sentences, facts and account are derived anew from what was edited."""
    shutil.copytree(genuine / "run", tmp_path / "run")
    folder = Folder(tmp_path / "run")
    edit(folder)
    folder.restate()
    folder.write()
    assert refused(tmp_path / "run") is not None


@pytest.mark.parametrize("content", [b"x", bytes(63), bytes(65), b""])
def test_what_cannot_be_a_signature_is_refused_without_a_key(
    content: bytes, genuine: Path, tmp_path: Path
) -> None:
    shutil.copytree(genuine / "run", tmp_path / "run")
    (tmp_path / "run" / "privacy.sig").write_bytes(content)
    assert refused(tmp_path / "run") == "form of the signature"
    (tmp_path / "run" / "privacy.sig").write_bytes(bytes(64))
    assert refused(tmp_path / "run") is None
