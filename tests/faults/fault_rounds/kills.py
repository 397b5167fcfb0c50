"""kill -9 at a random moment: of the clock, or on the way into a random change of the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fault_rounds import invariants
from fault_rounds.rounds import Kind, Round, phase
from fault_rounds.world import FORMATS, TRAININGS


def killed(
    this: Round, command: str, arguments: list[str], *, aimed: bool, at_files: tuple[str, ...] = ()
) -> bool:  # fmt: skip
    """Whether the command was killed before it had finished.

    Args:
        aimed: at an operation, each as likely as the other; else at a moment of the clock.
        at_files: words of the paths that are aimed at; none: all of them.
    """
    reference = this.world.reference(command)
    marked = [
        number for number, path in enumerate(reference.changes)
        if not at_files or any(word in path for word in at_files)
    ]  # fmt: skip
    at = this.rng.choice(marked) if aimed else None
    process = this.place.start(arguments, at=at)
    if aimed:
        status: int | None = process.finish()
    else:
        status = process.wait(this.rng.uniform(0, reference.seconds))
        if status is None:
            process.kill()
    if process.status == -9:
        where = f"operation {at}" if aimed else "moment"
        this.seen.append(f"killed at {phase(this.place)} ({where})")
        return True
    this.ended(process, process.status or 0)
    return False


def training(name: str, *, aimed: bool) -> Kind:
    """One to three kills in a row: of the training, and of what resumes it."""

    def round_(this: Round) -> None:
        command, arguments = f"train {name}", this.world.train(name, this.place)
        for _ in range(this.rng.choice((1, 1, 2, 3))):
            if not killed(this, command, arguments, aimed=aimed):
                break
            this.look(1.0)
        this.again(command, arguments)

    return round_


def sampling(layout: str, *, aimed: bool) -> Kind:
    def round_(this: Round) -> None:
        command, arguments = f"sample {layout}", this.world.sample(layout, this.place)
        for _ in range(this.rng.choice((1, 2))):
            if not killed(this, command, arguments, aimed=aimed):
                break
            this.look(1.0)
        if (this.place.path / "set").exists():
            this.check("as undisturbed", as_undisturbed(this, command))
            return
        this.again(command, arguments)

    return round_


def as_undisturbed(this: Round, command: str) -> Iterator[str]:
    """What is wrong with a set that is there after all."""
    files = this.world.reference(command).files
    return invariants.as_undisturbed(this.place.path / "set", files)


def benchmark(whom: str) -> Kind:
    """The command and its cells, the command alone, or one cell under it."""

    def round_(this: Round) -> None:
        arguments = this.world.benchmark(this.place)
        reference = this.world.reference("benchmark")
        process = this.place.start(arguments)
        if process.wait(this.rng.uniform(0, reference.seconds)) is None:
            this.seen.append(f"killed {whom}" if process.kill(whom=whom) else "nobody to kill")
        status = process.finish()
        if status >= 0:
            this.ended(process, status)
        if whom != "parent":  # else a cell may still be at work, and nothing is at rest
            this.look(1.0)
        this.again("benchmark", arguments)

    return round_


def cold(this: Round) -> None:
    """A training as typed into a shell, in a fresh interpreter, with keys of its own."""
    arguments = this.world.train("dpdm", this.place)
    reference = this.world.reference("train dpdm")
    process = this.place.start(arguments, warm=False)
    # Imports and prices take most of it; the clock begins when the run folder is there.
    while process.wait(0.02) is None and not this.run.exists():
        pass
    if process.wait(this.rng.uniform(0, reference.seconds)) is None:
        process.kill()
        this.seen.append(f"killed at {phase(this.place)} (cold)")
    this.look(1.0)
    this.again("train dpdm", arguments, warm=False)


def kinds() -> dict[str, Callable[[Round], None]]:
    found: dict[str, Kind] = {}
    for name in TRAININGS:
        found[f"kill train {name}"] = training(name, aimed=False)
        found[f"kill train {name}, aimed"] = training(name, aimed=True)
    for layout in FORMATS:
        found[f"kill sample {layout}"] = sampling(layout, aimed=False)
        found[f"kill sample {layout}, aimed"] = sampling(layout, aimed=True)
    for whom in ("group", "parent", "children"):
        found[f"kill benchmark, {whom}"] = benchmark(whom)
    found["kill train, cold"] = cold
    return found
