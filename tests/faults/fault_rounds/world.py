"""Where rounds take place: small private data, tiny trainings, and what they are undisturbed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from fault_rounds.arrangement import Arranged
from fault_rounds.processes import Process

N_RECORDS, N_IMAGES, EPSILON = 200, 300, 1.0
MICRO_BATCH = 4  # of a step whose micro-batches processes share
TEACHER = {
    "teacher.n_steps": "5", "teacher.n_draws": "2", "teacher.batch": "16", "teacher.bands": "4",
    "teacher.warm_start_share": "0.5",
}  # fmt: skip
SKETCH = {
    "mode": "sketch", "sketch.n_steps": "[2, 2]", "sketch.labeller_share": "0.2",
    "sketch.n_per_class": "4", "sketch.n_frequencies": "12", "sketch.n_hidden_frequencies": "6",
    "sketch.n_samples": "60", "sketch.classifier_steps": "2", "score.bands": "4",
    "score.n_samples": "40", "score.n_steps": "2", "score.batch_size": "8",
}  # fmt: skip
STUDENT = {
    "student.n_steps": "2", "student.n_iterations": "4", "student.pool_size": "20",
    "student.batch_size": "10",
}  # fmt: skip
TRAININGS: dict[str, tuple[str, dict[str, str]]] = {
    "dp-sad": ("dp-sad", {**TEACHER, **STUDENT}),
    "dpdm": ("dpdm", {**TEACHER, "sampling_steps": "2"}),
    "pge dpsgd": ("pge", {**TEACHER, "sampler.n_steps": "2"}),
    "pge sketch": ("pge", SKETCH),
}
FORMATS = ("folder", "npz", "parquet", "webdataset")
BENCHMARK = """data = {data!r}
delta = 1e-4
epsilons = [1]
seeds = 1
n_samples = 40
reference = "train"
networks = ["logistic"]
[[methods]]
label = "dp-sad"
method = "dp-sad"
[methods.settings]
{settings}
[[methods]]
label = "dpdm"
method = "dpdm"
teacher_of = "dp-sad"
"""


@dataclass(frozen=True)
class Reference:
    """What a command is when nothing happens to it.

    Args:
        seconds: how long it takes.
        changes: the paths below its place that it changes, in order.
        files: SHA-256 by name, of what depends on nothing but data, settings, seed and keys.
        epsilon: what its ledger then says is spent; 0 for one that charges nothing.
    """

    seconds: float
    changes: tuple[str, ...]
    files: dict[str, str]
    epsilon: float

    @property
    def operations(self) -> int:
        """How often it changes a file below its place."""
        return len(self.changes)


@dataclass
class Place:
    """The folder of one round."""

    path: Path
    processes: list[Process] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.path / "home"

    @property
    def touches(self) -> Path:
        return self.path.with_name(self.path.name + ".touches")

    def logs(self) -> list[Path]:
        """What its commands printed, in their order."""
        return [process.log for process in self.processes]

    def bury(self) -> None:
        """Ends whatever lives on of its commands: a cell outlives its killed benchmark."""
        for process in self.processes:
            process.bury()

    def start(
        self, arguments: Sequence[str], *, warm: bool = True, at: int | None = None,
        fault: str = "kill", lazily: bool = False, more: Mapping[str, str] = MappingProxyType({}),
    ) -> Process:  # fmt: skip
        """A command, its log beside the place: a full disk does not silence it."""
        log = self.path.with_name(f"{self.path.name}.{len(self.processes) + 1}.log")
        counted = self.path.with_name(self.path.name + ".counted")
        out = Path(arguments[list(arguments).index("--out") + 1])
        arranged = Arranged(self.touches, out, self.path, counted, at, fault, lazily)
        process = Process(arguments, log, self.home, arranged if warm else None, more)
        self.processes.append(process)
        return process


class World:
    """All rounds of one script.

    Args:
        path: an empty folder.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._references = path, dict[str, Reference]()
        self.data, self.pictures = path / "digits.npz", path / "pictures"
        self.features = path / "features"
        _write_data(self.data, self.pictures)

    def place(self, name: str) -> Place:
        found = Place(self.path / name)
        found.path.mkdir()
        return found

    def clear(self, place: Place) -> None:
        """A round that went well leaves nothing."""
        shutil.rmtree(place.path, ignore_errors=True)
        for beside in place.path.parent.glob(f"{place.path.name}.*"):
            beside.unlink()

    def train(
        self, training: str, place: Place, *, out: str = "run", data: Path | None = None,
        micro_batch: int | None = None,
    ) -> list[str]:  # fmt: skip
        method, settings = TRAININGS[training]
        words = [f"{name}={value}" for name, value in settings.items()]
        return [
            "train", method, "--data", str(data or self.data), "--epsilon", f"{EPSILON:g}",
            "--delta", "1e-4", "--seed", "1", "--device", "cpu", "-q",
            "--out", str(place.path / out), *(x for word in words for x in ("--set", word)),
            *([] if micro_batch is None else ["--micro-batch", str(micro_batch)]),
        ]  # fmt: skip

    def sample(self, layout: str, place: Place) -> list[str]:
        return [
            "sample", str(self.run()), "-n", str(N_IMAGES), "--format", layout, "--seed", "1",
            "--device", "cpu", "-q", "--out", str(place.path / "set"),
        ]  # fmt: skip

    def benchmark(self, place: Place) -> list[str]:
        file = self.path / "benchmark.toml"
        settings = "\n".join(f"{k} = {v}" for k, v in TRAININGS["dp-sad"][1].items())
        file.write_text(BENCHMARK.format(data=str(self.data), settings=settings))
        if self.features.exists():  # as another benchmark of these data has left them
            shutil.copytree(self.features, place.path / "benchmark" / "features")
        return ["benchmark", str(file), "--out", str(place.path / "benchmark"), "-q"]

    def run(self) -> Path:
        """A finished run to draw from."""
        self.reference("train dp-sad")
        return self.path / "undisturbed train dp-sad" / "run"

    def reference(self, command: str) -> Reference:
        """An undisturbed command, done once: in this very process, which thereby knows all modules
        and prices, then in a warm one that is measured.
        """
        if command not in self._references:
            self._references[command] = self._measured(command)
        return self._references[command]

    def _measured(self, command: str) -> Reference:
        verb, _, rest = command.partition(" ")
        make = {
            "train": lambda place: self.train(rest, place),
            "shared": lambda place: self.train(rest, place, micro_batch=MICRO_BATCH),
            "pictures": lambda place: self.train(rest, place, data=self.pictures),
            "sample": lambda place: self.sample(rest, place),
            "benchmark": self.benchmark,
        }[verb]
        place = self.place(f"undisturbed {command}")
        first = self.place(f"first {command}")
        if verb == "benchmark":
            self.reference("train dp-sad")  # what its cells do
            first.start(make(first)).finish()
            shutil.copytree(first.path / "benchmark" / "features", self.features)
        else:
            _do_here(make(first), first.home)
        process = place.start(make(place), lazily=verb == "pictures")
        if process.finish() != 0:
            raise SystemExit(f"undisturbed, {command} fails:\n{process.words()}")
        counted = place.path.with_name(place.path.name + ".counted").read_text()
        folder = place.path / {"sample": "set", "benchmark": "benchmark"}.get(verb, "run")
        return Reference(
            process.seconds, tuple(counted.splitlines()), contents(folder), spent(place.home)
        )


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of files without a name or a time of their run in them."""
    own = ("ledger.jsonl", "privacy.json", "results.json", "report.html", "cell.json", "results.md")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in own
        and "features" not in path.parts
        and ".partial" not in path.name
        and not path.name.startswith("claim.")
    }


def ledgers(home: Path) -> list[Path]:
    return sorted((home / "ledgers").glob("*.jsonl"))


def spent(home: Path) -> float:
    """Epsilon of everything charged in an installation; one data set in each of ours."""
    from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger

    return sum(PrivacyLedger(path).spent() for path in ledgers(home))


def _do_here(arguments: list[str], home: Path) -> None:
    import click

    from dpgen.commands.cli import main

    words, held = io.StringIO(), os.environ.get("DPGEN_HOME")
    os.environ["DPGEN_HOME"] = str(home)
    try:
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            main.main(arguments, prog_name="dpgen", standalone_mode=False)
    except click.exceptions.Exit as end:
        raise SystemExit(f"undisturbed, {arguments} fails: {words.getvalue()}") from end
    finally:
        if held is None:
            del os.environ["DPGEN_HOME"]
        else:
            os.environ["DPGEN_HOME"] = held


def _write_data(archive: Path, pictures: Path) -> None:
    """Digits of scikit-learn as private data: in an archive, and as pictures in folders."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images[:N_RECORDS] * (255 / 16)).astype(np.uint8)
    names = [str(digit) for digit in range(10)]
    np.savez(archive, images=pixels, labels=bunch.target[:N_RECORDS], class_names=names)
    for number, (image, label) in enumerate(zip(pixels, bunch.target, strict=False)):
        folder = pictures / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03d}.png")
