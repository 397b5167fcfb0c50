"""The machine fails: the disk is full or read-only, a file stops growing, the data are gone."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fault_rounds.kills import as_undisturbed
from fault_rounds.processes import limit_files
from fault_rounds.rounds import Kind, Round, Skipped, phase
from fault_rounds.world import FORMATS, TRAININGS

DISK_BYTES = 2**26
SHORT = (0, 100, 2000, 100_000)  # bytes beyond which no file grows


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A disk of its own at ``path``."""
    _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(path))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Nobody, not even root, changes anything below ``path``."""
    path.mkdir(exist_ok=True)
    _mount("--bind", str(path), str(path))
    try:
        _mount("-o", "remount,ro,bind", str(path))
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skipped(f"this user cannot mount: {done.stderr.strip()}")


def fill(path: Path) -> Path:
    """Takes all the space that is left, and returns the file that holds it."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**16))
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(2**8))
    return filler


def full_disk(verb: str) -> Kind:
    """Somebody else takes the last byte at a random moment; later there is space again."""

    def round_(this: Round) -> None:
        command, arguments = _any(this, verb)
        reference = this.world.reference(command)
        with small_disk(this.place.path):
            process = this.place.start(arguments)
            process.wait(this.rng.uniform(0, reference.seconds))
            filler = fill(this.place.path)
            this.ended(process, process.finish())
            filler.unlink()
            _afterwards(this, command, arguments)

    return round_


def failing(fault: str, verb: str) -> Kind:
    """From a random operation on there is no space, or everything is read-only."""

    def round_(this: Round) -> None:
        command, arguments = _any(this, verb)
        at = this.rng.randrange(this.world.reference(command).operations)
        process = this.place.start(arguments, at=at, fault=fault)
        this.ended(process, process.finish())
        this.seen[-1] += f" (operation {at}, {phase(this.place)})"
        _afterwards(this, command, arguments)

    return round_


def short_files(verb: str) -> Kind:
    """From a random moment on every write beyond some bytes stops in the middle."""

    def round_(this: Round) -> None:
        command, arguments = _any(this, verb)
        process = this.place.start(arguments)
        process.wait(this.rng.uniform(0, this.world.reference(command).seconds))
        n_bytes = this.rng.choice(SHORT)
        with contextlib.suppress(ProcessLookupError):
            limit_files(process, n_bytes)
        this.ended(process, process.finish())
        this.seen[-1] += f" ({n_bytes} bytes, {phase(this.place)})"
        _afterwards(this, command, arguments)

    return round_


def read_only_folder(verb: str, which: str) -> Kind:
    """The folder that the command writes in, or the home of the ledgers, cannot be written."""

    def round_(this: Round) -> None:
        command, arguments = _any(this, verb)
        home = this.place.home
        with read_only(this.place.path if which == "place" else home):
            process = this.place.start(arguments)
            this.ended(process, process.finish())
        this.check("said so", ["finished without writing"] * (this.seen[-1] == "finished"))
        _afterwards(this, command, arguments)

    return round_


def vanished(kind: str) -> Kind:
    """The data are moved away at a random moment, stay away for a resume, and come back."""

    def round_(this: Round) -> None:
        data = this.world.pictures if kind == "pictures" else this.world.data
        command = "pictures dpdm" if kind == "pictures" else "train dpdm"
        arguments, lazily = this.world.train("dpdm", this.place, data=data), kind == "pictures"
        seconds, away = this.world.reference(command).seconds, data.with_name("away")
        process = this.place.start(arguments, lazily=lazily)
        process.wait(this.rng.uniform(0, seconds) * this.rng.choice((0.1, 1)))
        data.rename(away)
        try:
            this.ended(process, process.finish())
            this.look(1.0)
            process = this.place.start(arguments, lazily=lazily)
            this.ended(process, process.finish())
            this.look(1.0)
        finally:
            away.rename(data)
        this.again(command, arguments, lazily=lazily)

    return round_


def _any(this: Round, verb: str) -> tuple[str, list[str]]:
    """One of the commands of a verb."""
    if verb == "sample":
        layout = this.rng.choice(FORMATS)
        return f"sample {layout}", this.world.sample(layout, this.place)
    if verb == "train":
        name = this.rng.choice(list(TRAININGS))
        return f"train {name}", this.world.train(name, this.place)
    return "benchmark", this.world.benchmark(this.place)


def _afterwards(this: Round, command: str, arguments: list[str]) -> None:
    this.look(1.0)
    if command.startswith("sample ") and (this.place.path / "set").exists():
        this.check("as undisturbed", as_undisturbed(this, command))
    else:
        this.again(command, arguments)


def kinds() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for verb in ("train", "sample"):
        found[f"full disk, {verb}"] = full_disk(verb)
        found[f"full disk, {verb}, aimed"] = failing("full", verb)
        found[f"read-only disk, {verb}, aimed"] = failing("readonly", verb)
        found[f"short files, {verb}"] = short_files(verb)
        found[f"read-only folder, {verb}"] = read_only_folder(verb, "place")
    found["read-only home, train"] = read_only_folder("train", "home")
    found["full disk, benchmark"] = full_disk("benchmark")
    found["vanished archive"] = vanished("archive")
    found["vanished pictures"] = vanished("pictures")
    return found
