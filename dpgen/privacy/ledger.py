"""The append-only account of one data set: what may be spent, what was charged, what ran.

A line is written and on disk (fsync) before the touch it pays for, so a crash can over-count and
never under-count. Lines are chained by SHA-256: an edited, reordered or dropped line breaks the
chain. A head file beside the ledger remembers how long it was, so a ledger rolled back to an
earlier state is refused too. This is integrity, not authenticity: whoever rewrites all of it, head
included, is not caught.

Charges take a file lock: of two trainings that race for the last of a budget, one is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting import Adjacency, Budget, check_adjacency, epsilon_of, round_up
from dpgen.privacy.chain import (
    GENESIS,
    SCHEMA,
    LedgerError,
    canonical,
    chain,
    check_chain,
    digest,
    parse_lines,
    replace_durably,
)
from dpgen.privacy.events import compose, event_from_json, event_to_json, leaves


class BudgetExceeded(ValueError):
    """The charge would exceed the limit of the data set. Nothing was recorded, no record was
    touched.
    """


def plan_hash(label: str, event: DpEvent, settings: dict[str, Any]) -> str:
    """Identity of one priced stage: its name, its event and every number that shapes what it
    computes.
    """
    return digest({"label": label, "event": event_to_json(event), "settings": settings})


@dataclass(frozen=True)
class Charge:
    """One stage of one run, as it stands in the ledger."""

    label: str
    plan: str
    event: DpEvent


class PrivacyLedger:
    """The ledger of one data set, a JSON Lines file.

    Args:
        path: the file. It is created with its first line by `open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_name(path.name + ".head")
        self._opening: dict[str, Any] | None = None

    @classmethod
    def open(
        cls, path: Path, *, adjacency: Adjacency, facts: dict[str, Any], limit: Budget
    ) -> PrivacyLedger:
        """The ledger at ``path``; where there is none, one that the first charge will begin with
        these facts and this limit.

        An existing ledger keeps its own facts and limit. A new one gets a random name, which is
        what released files call the data set by: a hash of records would tell something about them.
        Raises LedgerError when the ledger was kept under the
        other neighbouring relation: the two cannot be added up.
        """
        check_adjacency(adjacency)
        ledger = cls(path)
        ledger._opening = {
            "kind": "open",
            "dataset": secrets.token_hex(8),
            "adjacency": adjacency,
            "facts": facts,
            "limit": {"epsilon": limit.epsilon, "delta": limit.delta},
        }
        if ledger.adjacency != adjacency:
            raise LedgerError(
                f"ledger {path} was opened with adjacency {ledger.adjacency!r}, this run asks "
                f"for {adjacency!r}: "
                f"the two do not add up; use --adjacency {ledger.adjacency}"
            )
        return ledger

    @contextlib.contextmanager
    def _locked(self) -> Iterator[list[dict[str, Any]]]:
        """Holds the ledger alone and yields its verified lines."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(
            self.path.with_name(self.path.name + ".lock"),
            os.O_CREAT | os.O_RDWR | os.O_CLOEXEC,
            0o600,
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._read()
        finally:
            os.close(lock)

    def _read(self) -> list[dict[str, Any]]:
        text = self.path.read_bytes() if self.path.exists() else b""
        # A torn last line was never acknowledged, so nothing was touched on its account; `_append`
        # overwrites it. It may end inside a character: cut before decoding.
        lines = parse_lines(text[: text.rfind(b"\n") + 1].decode(errors="replace"), str(self.path))
        check_chain(lines, str(self.path))
        if self._head.exists():
            n_lines, last = self._read_head()
            hashes = [GENESIS, *(line["hash"] for line in lines)]
            if len(lines) < n_lines or hashes[n_lines] != last:
                raise LedgerError(
                    f"ledger {self.path} has {len(lines)} lines but once had {n_lines}: "
                    "it was truncated or rolled back. Restore it from a backup; what it no "
                    "longer shows was spent all the same"
                )
        elif lines:
            raise LedgerError(
                f"ledger {self.path} has lost its head file {self._head.name}: "
                "restore it from a backup"
            )
        if lines and lines[0]["kind"] != "open":
            raise LedgerError(f"ledger {self.path} does not begin with an open line")
        return lines

    def _read_head(self) -> tuple[int, str]:
        try:
            head = json.loads(self._head.read_text())
            return int(head["lines"]), str(head["hash"])
        except (ValueError, KeyError, TypeError):
            raise LedgerError(
                f"the head file {self._head} is damaged: restore it from a backup"
            ) from None

    def _append(self, lines: list[dict[str, Any]], bodies: Sequence[dict[str, Any]]) -> None:
        """Writes, flushes, and only then returns. The caller holds the lock."""
        if not lines:
            # From its first line on, a ledger without a head is one that lost it.
            self._write_head(0, GENESIS)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        previous = lines[-1]["hash"] if lines else GENESIS
        new = chain([{"schema": SCHEMA, "time": now, **body} for body in bodies], previous)
        text = "".join(canonical(line) + "\n" for line in new).encode()
        whole = sum(len((canonical(line) + "\n").encode()) for line in lines)
        with open(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b") as file:
            file.truncate(whole)
            file.seek(whole)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        lines.extend(new)
        self._write_head(len(lines), lines[-1]["hash"])

    def _write_head(self, lines: int, last: str) -> None:
        replace_durably(self._head, canonical({"lines": lines, "hash": last}).encode(), mode=0o600)

    def lines(self) -> list[dict[str, Any]]:
        """Every line, verified; before the first charge, the opening line that it will write."""
        if self.path.exists() or self._head.exists():
            with self._locked() as lines:
                if lines:
                    return lines
        return [self._first_line()]

    def _first_line(self) -> dict[str, Any]:
        if self._opening is None:
            raise LedgerError(f"ledger {self.path} is missing")
        return self._opening

    @property
    def dataset(self) -> str:
        return str(self.lines()[0]["dataset"])

    @property
    def facts(self) -> dict[str, Any]:
        return dict(self.lines()[0]["facts"])

    @property
    def limit(self) -> Budget:
        return _limit(self.lines())

    def holds(self, run: str, charge: Charge) -> bool:
        """Whether this stage of this run is charged already."""
        key = (run, charge.label, charge.plan)
        return any(
            line["kind"] == "charge" and (line["run"], line["label"], line["plan"]) == key
            for line in self.lines()
        )

    @property
    def adjacency(self) -> Adjacency:
        return self.lines()[0]["adjacency"]  # type: ignore[no-any-return]

    def spent(self) -> float:
        """Epsilon of everything ever charged, at the delta of the limit."""
        lines = self.lines()
        return epsilon_of(charged_event(lines), _limit(lines).delta, lines[0]["adjacency"])

    def charge(self, run: str, charges: Sequence[Charge]) -> None:
        """Charges stages of a run, all or none, before their first touch.

        A stage that stands there already under the same run and plan is not charged again: a resume
        pays nothing. The same
        run and label under another plan is refused: what was paid for is not what would run.
        Raises BudgetExceeded, and writes nothing, when the total would exceed the limit.
        """
        with self._locked() as lines:
            opening = [] if lines else [self._first_line()]
            held = {
                line["label"]: line["plan"]
                for line in lines
                if line["kind"] == "charge" and line["run"] == run
            }
            for charge in charges:
                if held.get(charge.label, charge.plan) != charge.plan:
                    raise LedgerError(
                        f"stage {charge.label!r} of run {run[:12]} was charged for another plan: "
                        "the configuration changed since. Start a new run folder"
                    )
            new = [charge for charge in charges if charge.label not in held]
            if not new:
                return
            limit, adjacency = _limit([*opening, *lines]), [*opening, *lines][0]["adjacency"]
            total = compose([charged_event(lines), *(charge.event for charge in new)])
            epsilon = epsilon_of(total, limit.delta, adjacency)
            if epsilon > limit.epsilon:
                before = epsilon_of(charged_event(lines), limit.delta, adjacency)
                raise BudgetExceeded(
                    f"this data set has a limit of epsilon = {limit.epsilon:g} at delta = "
                    f"{limit.delta:g}; "
                    f"{round_up(before):g} is spent, and with this run it would be "
                    f"{round_up(epsilon):g}. "
                    "Nothing was read. The limit is raised, on record, by: dpgen ledger "
                    f"--raise EPSILON --ledger {self.path}"
                )
            self._append(
                lines,
                [
                    *opening,
                    *(
                        {
                            "kind": "charge",
                            "run": run,
                            "label": c.label,
                            "plan": c.plan,
                            "event": event_to_json(c.event),
                        }
                        for c in new
                    ),
                ],
            )

    def executed(self, run: str, label: str, plan: str, start: int, stop: int) -> None:
        """Notes that releases ``start`` to ``stop - 1`` of a charged stage were made. A replayed
        span is noted again as it ran.
        """
        with self._locked() as lines:
            charged = [
                leaf.steps
                for line in lines
                if line["kind"] == "charge"
                and (line["run"], line["label"], line["plan"]) == (run, label, plan)
                for leaf in leaves(event_from_json(line["event"]))
            ]
            if not 0 <= start < stop:
                raise ValueError(f"start must lie in [0, stop = {stop}), got {start}")
            if stop > sum(charged):
                raise LedgerError(
                    f"stage {label!r} ran {stop} releases but {sum(charged)} were charged"
                )
            body = {
                "kind": "executed",
                "run": run,
                "label": label,
                "plan": plan,
                "start": start,
                "stop": stop,
            }
            self._append(lines, [body])

    def raise_limit(self, limit: Budget) -> None:
        """Sets a higher limit, on record. A limit is never lowered below what was spent."""
        with self._locked() as lines:
            if not lines:
                raise LedgerError(f"ledger {self.path} is missing")
            current = _limit(lines)
            if limit.epsilon < current.epsilon or limit.delta != current.delta:
                raise ValueError(
                    f"the limit must rise and keep its delta = {current.delta:g}: it is "
                    f"epsilon = {current.epsilon:g}, "
                    f"got epsilon = {limit.epsilon:g}, delta = {limit.delta:g}"
                )
            self._append(
                lines,
                [{"kind": "limit", "limit": {"epsilon": limit.epsilon, "delta": limit.delta}}],
            )

    def lines_of(self, run: str) -> list[dict[str, Any]]:
        """The lines of one run, the open line first: the copy that a run folder holds."""
        return [line for line in self.lines() if line["kind"] == "open" or line.get("run") == run]


def _limit(lines: Sequence[dict[str, Any]]) -> Budget:
    latest = [line["limit"] for line in lines if line["kind"] in ("open", "limit")][-1]
    return Budget(latest["epsilon"], latest["delta"])


def charged_event(lines: Sequence[Mapping[str, Any]]) -> DpEvent:
    """All that these ledger lines charge, composed."""
    return compose(event_from_json(line["event"]) for line in lines if line["kind"] == "charge")
