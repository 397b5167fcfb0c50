"""A run folder is copied, as backups do, and both go on; or a resume asks something else."""

from __future__ import annotations

import shutil
from pathlib import Path

from fault_rounds import invariants
from fault_rounds.kills import killed
from fault_rounds.processes import Process
from fault_rounds.rounds import Kind, Round
from fault_rounds.world import Place

# What the line of descent is written in; a kill at any of these lies between two of them.
MARKS = ("lineage.json", ".asked.json", ".jsonl", ".key", "checkpoint/state/")
ELSEWHERE = "goes on elsewhere"


def at_the_marks(name: str) -> Kind:
    """Kills between ledger, marks, questions, states and keys, of the training and of what resumes
    it.
    """

    def round_(this: Round) -> None:
        command, arguments = f"train {name}", this.world.train(name, this.place)
        for _ in range(this.rng.choice((1, 2, 3))):
            if not killed(this, command, arguments, aimed=True, at_files=MARKS):
                break
            this.look(1.0)
        this.again(command, arguments)

    return round_


def continued_twice(name: str) -> Kind:
    """Killed, copied, and both continued, one after the other: the second is refused, or loads what
    is finished.
    """

    def round_(this: Round) -> None:
        command = f"train {name}"
        own, other = this.world.train(name, this.place), _of_copy(this, name)
        killed(this, command, own, aimed=True, at_files=MARKS)
        if not this.run.exists():
            this.again(command, own)
            return
        shutil.copytree(this.run, _copy(this.place))
        finished = (this.run / "privacy.json").exists()
        if not finished and this.rng.random() < 0.5:
            this.seen.append("the copy first")
            own, other = other, own
        this.look(1.0)
        this.again(command, own)
        second = this.place.start(other)
        _refused(this, second, second.finish(), finished=finished)
        this.look(1.0)
        this.check("charged once", invariants.charged_once(this.place.home, 1))

    return round_


def copied_while_running(name: str) -> Kind:
    """A snapshot of a training is continued while that goes on: one of both is answered."""

    def round_(this: Round) -> None:
        reference = this.world.reference(f"train {name}")
        commands = [this.world.train(name, this.place), _of_copy(this, name)]
        one = this.place.start(commands[0])
        one.wait(this.rng.uniform(0, reference.seconds))
        with one.held():
            if this.run.exists():
                shutil.copytree(this.run, _copy(this.place))
        both = [one, this.place.start(commands[1])]
        if this.rng.random() < 0.3:
            one.wait(this.rng.uniform(0, reference.seconds))
            one.kill()
        statuses = [process.finish() for process in both]
        this.seen.append(" and ".join(f"exit {status}" for status in sorted(statuses)))
        for process in both:
            if process.status not in (0, -9):
                this.check("said so", invariants.said_so(process.status or 0, process.words()))
        this.look(1.0)
        _settled(this, name, commands)

    return round_


def another_question(name: str) -> Kind:
    """Killed in its DP-SGD stage and resumed with another micro-batch, which is refused; then as it
    was begun.
    """

    def round_(this: Round) -> None:
        command, arguments = f"train {name}", this.world.train(name, this.place)
        killed(this, command, arguments, aimed=True, at_files=(".teacher.safetensors",))
        this.look(1.0)
        kinds = [(x["kind"], x.get("label")) for x in invariants.lines_of(this.place.home)]
        if ("asked", "teacher") in kinds and ("finished", "teacher") not in kinds:
            process = this.place.start([*arguments, "--micro-batch", "7"])
            status, words = process.finish(), process.words()
            this.check("said so", invariants.said_so(status, words))
            told = status == 2 and "micro_batch was " in words and ", now it is 7" in words
            # All steps may be in the checkpoint: then nothing is asked any more.
            fine = told or status == 0
            this.check("one lineage", [] if fine else [f"status {status}: {words[-200:]}"])
            this.seen.append("refused" if told else f"exit {status}")
            this.look(1.0)
            if status == 0:
                return
        this.again(command, arguments)

    return round_


def _copy(place: Place) -> Path:
    return place.path / "copy"


def _of_copy(this: Round, name: str) -> list[str]:
    return this.world.train(name, this.place, out="copy")


def _refused(this: Round, process: Process, status: int, *, finished: bool) -> None:
    """Who comes second is told why, unless there is nothing to answer any more."""
    words = process.words()
    this.seen.append(f"second: exit {status}")
    if finished:
        this.check("finishes", invariants.finishes(status, words))
        return
    this.check("said so", invariants.said_so(status, words))
    # Copied before it had an identity, it is another run, for which there is no room.
    known = ELSEWHERE in words or "this data set has a limit of epsilon" in words
    fine = status == 2 and known
    this.check("one lineage", [] if fine else [f"a second descendant: {status}, {words[-200:]}"])


def _settled(this: Round, name: str, commands: list[list[str]]) -> None:
    """Both once more: who holds the last mark goes on to the end, and no third answer is given."""
    reference, statuses = this.world.reference(f"train {name}"), []
    for command in commands:
        process = this.place.start(command)
        statuses.append(process.finish())
        if process.status:
            this.check("said so", invariants.said_so(process.status, process.words()))
    fine = 0 in statuses and set(statuses) <= {0, 2}
    this.check("finishes", [] if fine else [f"again they end with {statuses}"])
    this.look(1.0)
    this.check("charged once", invariants.charged_once(this.place.home, 1))
    for folder, status in zip((this.run, _copy(this.place)), statuses, strict=True):
        if status == 0:
            this.check("as undisturbed", invariants.as_undisturbed(folder, reference.files))


def kinds() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for name in ("dpdm", "pge sketch"):
        found[f"kill train {name}, at the marks"] = at_the_marks(name)
        found[f"copied train {name}, continued twice"] = continued_twice(name)
        found[f"copied train {name}, while it runs"] = copied_while_running(name)
    found["other micro-batch after a kill"] = another_question("dpdm")
    return found
