"""What must hold after a fault: a function each, which yields a line for whatever does not.

They look at the disk alone, with the package's own readers where those are the judges, and know
nothing of the fault that came before.
"""

from __future__ import annotations

import json
import math
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fault_rounds.world import contents, ledgers

NAMES = (
    "files whole", "statements verify", "set whole or absent", "nothing left over",
    "ledger whole", "charged before touched", "executed within charged", "charged once",
    "never under-counted", "as undisturbed", "finishes", "said so", "one lineage",
)  # fmt: skip
CURE = "run the same train command again"


def files_whole(folder: Path) -> Iterator[str]:
    """Every file under its final name parses; what a write was in the middle of has another."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".partial" not in str(path.relative_to(folder)):
            try:
                _parse(path)
            except Exception as error:  # whatever a reader makes of a torn file
                reason = f"{type(error).__name__}: {error}"
                yield f"{path.relative_to(folder)} is not whole: {reason:.200}"


def _parse(path: Path) -> None:
    import numpy as np
    from PIL import Image
    from safetensors import safe_open

    suffix = path.suffix
    if suffix in (".json", ".head"):
        json.loads(path.read_text())
    elif suffix == ".jsonl":
        # The last line of a ledger may be torn: it was not acknowledged.
        for row in path.read_text().split("\n")[:-1]:
            json.loads(row)
    elif suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                file.get_tensor(name)
    elif suffix == ".png":
        Image.open(path).load()
    elif suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                _ = archive[name]
    elif suffix == ".tar":
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is None or len(file.read()) != member.size:
                    raise ValueError(f"{member.name} is short")
    elif suffix == ".parquet":
        from pyarrow import parquet

        parquet.read_table(path)
    elif (suffix == ".key" or path.name == "key") and path.stat().st_size != 32:
        raise ValueError(f"a key has 32 bytes, this one {path.stat().st_size}")
    elif suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("the page has no end")


def statements_verify(folder: Path) -> Iterator[str]:
    """Whatever has a privacy.json verifies: epsilon, events, hashes of all files, ledger lines.

    A training that ends between its statement and the deletion of its secrets leaves a run that
    does not, and `verify` then says that training again cures it. That is promised and allowed
    here; that the cure works, `nothing_left_over` sees.
    """
    from dpgen.privacy.statements.certificate import CertificateError
    from dpgen.privacy.verification.verify import verify

    for statement in sorted(folder.rglob("privacy.json")):
        if ".partial" in str(statement.relative_to(folder)):
            continue
        where = statement.parent
        try:
            failed = [f"{c.name} ({c.seen})" for c in verify(where) if c.failed]
            if (where / "checkpoint").exists() and len(failed) == 1 and CURE in failed[0]:
                continue
        except CertificateError as error:
            failed = [str(error)]
        for words in failed:
            yield f"verify fails on {where.relative_to(folder.parent)}: {words:.200}"


def set_whole_or_absent(out: Path, n_images: int) -> Iterator[str]:
    """A synthetic set has its statement and all of its images, or there is none."""
    from dpgen.data.sources import open_source

    if not out.exists():
        return
    if not (out / "privacy.json").exists():
        yield f"{out.name} is there without a statement: {[p.name for p in out.iterdir()][:5]}"
        return
    try:
        n_found = len(open_source(out, split="all"))
    except (ValueError, OSError) as error:
        yield f"{out.name} cannot be read: {error!s:.200}"
        return
    if n_found != n_images:
        yield f"{out.name} holds {n_found} images of {n_images}"


def nothing_left_over(folder: Path, home: Path, out: Path | None = None) -> Iterator[str]:
    """After a command that finished: no half-written file, no secret, no lock of a writer."""
    for path in sorted(folder.rglob("*")):
        if ".partial" in path.name or (path.name == "checkpoint" and out is None):
            yield f"{path.relative_to(folder)} was left behind"
    for path in sorted(home.rglob("*.partial")):
        yield f"{path.relative_to(home.parent)} was left behind"


def ledger_whole(home: Path, limit: float) -> Iterator[str]:
    """Every ledger's chain verifies against its head, no more is spent than its limit, and the
    marks of its records are those that it names.
    """
    from dpgen.privacy.ledger.marks import MarksFile
    from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger

    for path in sorted({*ledgers(home), *_headed(home)}):
        try:
            ledger = PrivacyLedger(path)
            lines = ledger.lines()
            epsilon = ledger.spent()
            held = MarksFile(path.with_name(f"{ledger.dataset}.marks")).read()
        except ValueError as error:
            if str(error) != f"ledger {path} is missing":  # before its first line: only a head
                yield f"ledger: {error!s:.200}"
            continue
        if epsilon > limit:
            yield f"ledger: {epsilon:g} is spent of {limit:g}"
        named = {line["block"] for line in lines if line["kind"] == "marked"}
        charged = any(line["kind"] == "charge" for line in lines)
        if named - set(held.blocks if held else ()) or (charged and not named):
            yield f"ledger: {path.name} has lost the marks of its records"


def _headed(home: Path) -> list[Path]:
    return [path.with_suffix("") for path in (home / "ledgers").glob("*.jsonl.head")]


def lines_of(home: Path) -> list[dict[str, Any]]:
    """The whole lines of all ledgers, as they stand there."""
    rows = [row for path in ledgers(home) for row in path.read_text().split("\n")[:-1]]
    return [json.loads(row) for row in rows]


def charged_before_touched(touches: Path, home: Path, folder: Path) -> Iterator[str]:
    """No record was read, and nothing released that a checkpoint, a note or a file shows, without
    a charge of that run that stood in the data set's ledger before.
    """
    told = touches.read_text().split() if touches.exists() else []
    charged = {line["run"] for line in lines_of(home) if line["kind"] == "charge"}
    if "UNPAID" in told:
        yield "records were read before the charge of the run stood in the ledger"
    if told and not charged:
        yield "records were read, and nothing is charged"
    for state in folder.rglob("checkpoint/run.json"):
        number = json.loads(state.read_text())["id"]
        released = sorted(p.name for p in state.parent.rglob("*.safetensors"))
        if released and number not in charged:
            yield f"{', '.join(released)} of run {number[:12]} exist, which was not charged"
    for model in folder.rglob("model.safetensors"):
        copy, state = model.with_name("ledger.jsonl"), model.parent / "checkpoint" / "run.json"
        rows = copy.read_text().split("\n")[:-1] if copy.exists() else []
        runs = {line["run"] for line in map(json.loads, rows) if line["kind"] == "charge"}
        if not copy.exists() and state.exists():  # the copy is written after the networks
            runs = {json.loads(state.read_text())["id"]}
        if not runs or not runs <= charged:
            yield f"{model.relative_to(folder)} is released, and its run was not charged"


def executed_within_charged(home: Path) -> Iterator[str]:
    """Noted releases never exceed charged ones."""
    from dpgen.privacy.ledger.charges import releases_of

    lines = lines_of(home)
    for run in {line["run"] for line in lines if "run" in line}:
        own = [line for line in lines if line["kind"] == "open" or line.get("run") == run]
        for label, n in releases_of(own).items():
            if n["executed"] > n["charged"]:
                yield f"{label} of run {run[:12]} ran {n['executed']}, charged {n['charged']}"


def charged_once(home: Path, n_runs: int) -> Iterator[str]:
    """Every stage of every run stands in the ledger once, of as many runs as were begun."""
    charges = [line for line in lines_of(home) if line["kind"] == "charge"]
    counted = Counter((line["run"], line["label"]) for line in charges)
    for (run, label), n in counted.items():
        if n > 1:
            yield f"{label} of run {run[:12]} is charged {n} times"
    found = len({run for run, _ in counted})
    if found != n_runs:
        yield f"{found} runs are charged, {n_runs} were begun"


def one_lineage(home: Path) -> Iterator[str]:
    """The marks of every run are a chain, each stage has asked one question and was finished once,
    and nobody asks what is finished.
    """
    lines = lines_of(home)
    for run in {line["run"] for line in lines if line["kind"] == "lineage"}:
        own = [line for line in lines if line.get("run") == run]
        marks = [line for line in own if line["kind"] == "lineage"]
        if [x["previous"] for x in marks] != ["", *(x["mark"] for x in marks[:-1])]:
            yield f"the marks of run {run[:12]} are no chain"
        if len({x["mark"] for x in marks}) < len(marks):
            yield f"run {run[:12]} has one mark twice"
        order = [(line["kind"], line.get("label")) for line in own]
        for (kind, label), n in Counter(order).items():
            if kind in ("asked", "finished") and n > 1:
                yield f"{label} of run {run[:12]} has {n} lines {kind}"
        for label in {line["label"] for line in own if line["kind"] == "finished"}:
            if ("asked", label) not in order[: order.index(("finished", label))]:
                yield f"{label} of run {run[:12]} is finished and was not asked before"


def never_under_counted(epsilon: float, undisturbed: float, *, equal: bool) -> Iterator[str]:
    """What is spent is at least what the undisturbed run spent; a resume, exactly that."""
    same = math.isclose(epsilon, undisturbed, rel_tol=1e-9)
    if epsilon < undisturbed and not same:
        yield f"{epsilon:g} is spent, undisturbed it is {undisturbed:g}"
    if equal and not same:
        yield f"a resume spent {epsilon:g}, undisturbed it is {undisturbed:g}"


def as_undisturbed(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    """The same released bytes under the same keys."""
    found = contents(folder)
    for name in sorted({*found, *files}):
        if found.get(name) != files.get(name):
            word = "differs" if name in found and name in files else "is missing or new"
            yield f"{name} {word}, against the undisturbed run"


def finishes(status: int, words: str) -> Iterator[str]:
    """The same command again ends well."""
    if status != 0:
        yield f"the same command again ends with {status}: {words.strip()[-300:]}"


def said_so(status: int, words: str) -> Iterator[str]:
    """A fault of the machine or a refusal: an exit status and one line, never a traceback."""
    if "Traceback" in words:
        yield f"a traceback: {words.strip()[-300:]}"
    elif status == 0:
        yield "exit status 0 for a command that did not do its work"
    elif status < 0:
        yield f"died of signal {-status}, or hung"
    elif not any(row.startswith(("dpgen: ", "failed: ")) for row in words.splitlines()):
        yield f"status {status} without a line that says why: {words.strip()[-200:]!r}"
