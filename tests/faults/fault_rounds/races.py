"""Two trainings at once: on one ledger with room for both or for one, and in one folder."""

from __future__ import annotations

from fault_rounds import invariants
from fault_rounds.processes import Process
from fault_rounds.rounds import Kind, Round
from fault_rounds.world import ledgers, spent

WIDE = 4.0  # a limit with room for two runs at epsilon 1


def race(*, limit: float | None, same_folder: bool = False, kill: bool = False) -> Kind:
    """Args:
    limit: of the ledger; ``None``: the budget of one run.
    same_folder: both are given one run folder.
    kill: one of them is killed at a random moment.
    """

    def round_(this: Round) -> None:
        world, place, name = this.world, this.place, "train dpdm"
        seconds, most = world.reference(name).seconds, limit or 1.0
        outs = ("run", "run") if same_folder else ("run a", "run b")
        more = [] if limit is None else ["--limit", f"{limit:g}"]
        commands = [[*world.train("dpdm", place, out=out), *more] for out in outs]
        one = place.start(commands[0])
        # At once, or into the middle of the other.
        one.wait(this.rng.uniform(0, seconds) * this.rng.choice((0, 0.1, 1)))
        both = [one, place.start(commands[1])]
        if kill:
            both[1].wait(this.rng.uniform(0, 2 * seconds))
            this.rng.choice(both).kill()
        statuses = [process.finish() for process in both]
        this.seen.append(" and ".join(f"exit {status}" for status in sorted(statuses)))
        this.look(most)
        for process in both:
            if process.status not in (0, -9):
                this.check("said so", invariants.said_so(process.status or 0, process.words()))
        this.violations += _wrong(statuses, same_folder, limit, kill)
        if same_folder:
            this.again(name, commands[0])
            return
        _settle(this, commands, both, limit)

    return round_


def _wrong(
    statuses: list[int], same_folder: bool, limit: float | None, kill: bool
) -> list[str]:  # fmt: skip
    """What the two exit statuses must not be together."""
    if kill:
        return []
    if (limit is not None and not same_folder) and statuses != [0, 0]:
        return [f"finishes: there was room for both, and they ended with {statuses}"]
    if (limit is None and not same_folder) and sorted(statuses) != [0, 2]:
        return [f"finishes: there was room for one, and they ended with {statuses}"]
    if same_folder and 0 not in statuses:
        return [f"finishes: none of two in one folder got through: {statuses}"]
    return []


def _settle(
    this: Round, commands: list[list[str]], both: list[Process], limit: float | None
) -> None:
    """Both once more: who paid finishes, who was refused stays refused, nobody pays twice."""
    place, reference = this.place, this.world.reference("train dpdm")
    statuses = []
    for command in commands:
        process = place.start(command)
        statuses.append(process.finish())
        if process.status:
            this.check("said so", invariants.said_so(process.status, process.words()))
    n_runs = 1 if limit is None else 2
    fine = statuses.count(0) == n_runs
    this.check("finishes", [] if fine else [f"again they end with {statuses}"])
    this.look(limit or 1.0)
    this.check("charged once", invariants.charged_once(place.home, n_runs))
    epsilon = spent(place.home)
    under = invariants.never_under_counted(epsilon, reference.epsilon, equal=n_runs == 1)
    this.check("never under-counted", under)
    if n_runs == 2 and not epsilon > 1.2 * reference.epsilon:
        this.violations.append(f"never under-counted: two runs together spent {epsilon:g}")
    if len(ledgers(place.home)) != 1:
        this.violations.append("ledger whole: one data set has more than one ledger")
    for folder, status in zip(("run a", "run b"), statuses, strict=True):
        if status == 0:
            same = invariants.as_undisturbed(place.path / folder, reference.files)
            this.check("as undisturbed", same)
            left = invariants.nothing_left_over(place.path / folder, place.home)
            this.check("nothing left over", left)


def kinds() -> dict[str, Kind]:
    return {
        "two trainings, room for both": race(limit=WIDE),
        "two trainings, room for one": race(limit=None),
        "two trainings, one folder": race(limit=None, same_folder=True),
        "two trainings, one killed": race(limit=WIDE, kill=True),
        "two in one folder, one killed": race(limit=None, same_folder=True, kill=True),
    }
