"""A training in several processes, of which some are killed, resumed by another number of them."""

from __future__ import annotations

import contextlib
import signal
import socket

from fault_rounds import invariants
from fault_rounds.processes import Process
from fault_rounds.rounds import Kind, Round, phase
from fault_rounds.world import MICRO_BATCH, TEACHER, Place, spent

TRAININGS = ("dp-sad", "dpdm")
ALONE = 60.0  # seconds in which the others must have ended by themselves
TOGETHER = 1.3  # times the seconds of one process, in which the others have joined as well


def launched(place: Place, arguments: list[str], n: int, at: int | None = None) -> list[Process]:
    """The command in n processes, with what a launcher sets; alone it is the command as it is.

    Args:
        at: the operation at which process 0 is killed; ``None``: never.
    """
    if n == 1:
        return [place.start(arguments, at=at)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = []
    for rank in range(n):
        more = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n),
            "LOCAL_WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        found.append(place.start(arguments, at=None if rank else at, more=more))
    return found


def killed(whom: str, *, aimed: bool = False) -> Kind:
    """One to three kills in a row, and the run resumed by one, two or three processes.

    Args:
        whom: "process 0", "a worker" or "all".
        aimed: process 0 is killed at a change of the disk; else at a moment of the clock, by
            SIGKILL or SIGTERM.
    """

    def round_(this: Round) -> None:
        name = this.rng.choice(TRAININGS)
        command = f"shared {name}"
        arguments = this.world.train(name, this.place, micro_batch=MICRO_BATCH)
        reference = this.world.reference(command)
        for _ in range(this.rng.choice((1, 1, 2, 3))):
            n = this.rng.choice((2, 2, 3))
            at = this.rng.randrange(reference.operations) if aimed else None
            touched = _n_touches(this.place)
            processes = launched(this.place, arguments, n, at)
            if aimed:
                if processes[0].finish() == -signal.SIGKILL:
                    this.seen.append(f"SIGKILL to process 0 of {n} at {phase(this.place)}")
            else:
                _kill(this, processes, whom, reference.seconds)
            _end(this, processes, joined=_n_touches(this.place) > touched)
            this.look(1.0)
            if processes[0].status == 0:
                break
        again(this, command, arguments, this.rng.choice((1, 2, 3)))

    return round_


def _kill(this: Round, processes: list[Process], whom: str, seconds: float) -> None:
    """Kills some of the processes at a random moment, unless process 0 has ended by then.

    Half of the moments are of the clock, the others after some of the steps that they share.

    Args:
        seconds: how long the training takes one process.
    """
    zero = processes[0]
    if this.rng.random() < 0.5:
        zero.wait(this.rng.uniform(0, TOGETHER * seconds))
    else:
        state, held = this.run / "checkpoint" / "state" / "teacher.safetensors", set[int]()
        wanted = this.rng.randint(1, int(TEACHER["teacher.n_steps"]))
        while len(held) < wanted and zero.wait(0.002) is None:
            with contextlib.suppress(FileNotFoundError):
                held.add(state.stat().st_mtime_ns)
    if zero.wait(this.rng.uniform(0, 0.02)) is not None:
        return
    number = this.rng.choice((signal.SIGKILL, signal.SIGTERM))
    chosen = {
        "process 0": processes[:1], "a worker": [this.rng.choice(processes[1:])], "all": processes,
    }[whom]  # fmt: skip
    at = phase(this.place)
    if any([process.signal(number) for process in chosen]):
        this.seen.append(f"{signal.Signals(number).name} to {whom} of {len(processes)} at {at}")


def _n_touches(place: Place) -> int:
    """How many commands have read records: what they do after all processes have joined."""
    return len(place.touches.read_text().split()) if place.touches.exists() else 0


def _end(this: Round, processes: list[Process], *, joined: bool) -> None:
    """Waits for all processes. Those that had joined end by themselves; others are ended as a
    launcher does, which waits for nobody when one has failed.
    """
    for process in processes:
        if process.wait(ALONE if joined else 1.0) is None:
            if joined:
                this.check("said so", ["a process goes on, and another one has ended"])
            process.signal(signal.SIGTERM)
            process.finish()
    if (status := processes[0].status or 0) >= 0:
        this.ended(processes[0], status)
    for process in processes[1:]:
        status, words = process.status or 0, process.words()
        if status > 0:
            this.check("said so", invariants.said_so(status, words))
        elif status == 0:
            quiet = [] if not words.strip() else [f"a worker says {words.strip()[-200:]!r}"]
            this.check("said so", quiet)


def again(this: Round, command: str, arguments: list[str], n: int) -> None:
    """The same command by n processes, undisturbed: the model of one that was never killed."""
    processes, place = launched(this.place, arguments, n), this.place
    for process in processes:
        this.check("finishes", invariants.finishes(process.finish(), process.words()))
    this.seen.append(f"finished by {n}")
    reference = this.world.reference(command)
    this.check("nothing left over", invariants.nothing_left_over(place.path, place.home))
    this.check("as undisturbed", invariants.as_undisturbed(this.run, reference.files))
    place.bury()
    this.look(1.0)
    under = invariants.never_under_counted(spent(place.home), reference.epsilon, equal=True)
    this.check("never under-counted", under)
    this.check("charged once", invariants.charged_once(place.home, 1))


def kinds() -> dict[str, Kind]:
    return {
        "kill of several, process 0": killed("process 0"),
        "kill of several, process 0, aimed": killed("process 0", aimed=True),
        "kill of several, a worker": killed("a worker"),
        "kill of several, all": killed("all"),
    }
