"""Checks every question of a stage of a charged run, and refuses a second one.

A stage asks one question, which it may repeat after a kill. Its parameters change from release to
release. A release whose answer is in a saved state may have been seen by others: its question and
its answer must then be the same as before, or it is refused (`dpgen.privacy.lineage.answers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import Charge
from dpgen.privacy.lineage.answers import Entry, answer_digest
from dpgen.privacy.lineage.descent import Descent, noted
from dpgen.privacy.mechanisms.question import Question, differences
from dpgen.storage.canonical import digest

# Digests of the questions and answers of this process, by ledger, run, plan, release and part.
_ANSWERED: dict[tuple[str, str, str, int, str], str] = {}


def _first(question: Question, release: int) -> dict[str, Any]:
    """Describes a stage by its first question."""
    first = {"release": release, "moving": question.start}
    return {"stage": dict(question.stage), "first": first}


class StageWitness:
    """The Witness of one stage of a charged run.

    A stage may repeat its earlier question, and ask no other. The question is noted when the first
    sum is computed, before noise is added to it: a run that runs out of memory for a micro-batch
    has answered nothing yet, and may continue with a smaller one. A commitment to the stage's key
    is noted in the ledger with it: under another key the same question has another answer.
    """

    def __init__(self, descent: Descent, charge: Charge) -> None:
        self._descent, self._charge = descent, charge
        self._answers, self._asked = descent.answers(charge), dict[int, Entry]()
        # The question read from the folder, with its digest in the ledger; then the question that
        # was last compared with it.
        self._held: tuple[str, dict[str, Any]] | None = None
        self._alike: tuple[Question, int] | None = None

    @cached_property
    def _commitment(self) -> str:
        return self._descent.keys.commitment(self._charge.plan)

    def asked(self, question: Question, release: int) -> None:
        """Refuses any question but this stage's, before a record is read."""
        self._descent.require_last()
        self._compared(question, release)

    def answering(self, question: Question, release: int) -> None:
        """Notes the question of the stage, first in clear, then in the ledger."""
        descent, charge = self._descent, self._charge
        descent.require_last()
        held = self._compared(question, release)
        if held is None:
            held = _first(question, release)
            question_noted = descent.keys.lineage.note(charge.plan, held)
            descent.as_last(self._answers.create)
            descent.note("asked", charge, question=question_noted, commitment=self._commitment)
        if not self._is_first(release, "question", question.digest):
            raise LedgerError(
                f"release {release} of stage {charge.label!r} was answered in this process, with "
                "other parameters: resume the run in a new process"
            )
        self._asked[release] = Entry(question.digest)

    def answered(self, question: Question, release: int, answer: Mapping[str, Tensor]) -> None:
        """Refuses an answer that differs from the one in a saved state, or from the one that this
        process has given, before it is returned to the caller.
        """
        label, run = self._charge.label, self._descent.run[:12]
        entry = Entry(question.digest, answer_digest(answer))
        if self._answers.contradict(release, entry):
            raise LedgerError(
                f"release {release} of stage {label!r} of run {run} has come to another answer "
                f"than in a state of the run that was noted since, with {len(self._answers)} "
                "answers: its sum was added up in another order, by another number of threads or "
                "on another machine. A second answer would be a second release under one charge: "
                "resume from the last checkpoint, or as before (OMP_NUM_THREADS sets the number of "
                "threads), or start a new run folder, which is charged anew"
            )
        if not self._is_first(release, "answer", str(entry.answer)):
            raise LedgerError(
                f"release {release} of stage {label!r} of run {run} was answered in this process, "
                "and its sum was added up in another order now, by another number of threads: a "
                "second answer would be a second release under one charge. Resume the run in a new "
                "process"
            )
        self._asked[release] = entry

    @property
    def n_answered(self) -> int:
        """Returns the index of the last release that this process may have answered, plus one; 0
        for none.
        """
        return max(self._asked, default=-1) + 1

    def noted_micro_batch(self) -> int | None:
        """Returns the micro-batch of the stage's question; None if it has asked none."""
        descent, charge = self._descent, self._charge
        if noted(descent.lines(), "asked", descent.run, charge) is None:
            return None
        held = (descent.keys.lineage.question(charge.plan) or {}).get("stage", {})
        size = held.get("micro_batch") if isinstance(held, dict) else None
        return size if type(size) is int and size > 0 else None

    def starting(self, start: int) -> None:
        """Refuses a saved state that holds more answers than were noted before it was saved."""
        if start > 0:
            self._answers.require()
        if start > len(self._answers):
            raise LedgerError(
                f"a state of stage {self._charge.label!r} of run {self._descent.run[:12]} says "
                f"that it holds {start} answers, and {len(self._answers)} were noted in "
                f"{self._answers.path}: one of the two was changed. Put it back, or start a new "
                "run folder, which is charged anew"
            )

    def saving(self, stop: int) -> None:
        """Notes the questions and answers up to release ``stop - 1`` before a state that holds
        these answers is saved: from then on these releases are asked and answered as noted, or
        refused.
        """
        answers, asked = self._answers, self._asked
        missing = [n for n in range(len(answers), stop) if n not in asked]
        if missing:
            raise ValueError(
                f"a state of {stop} answers must hold answers that this process gave or noted, "
                f"that of release {missing[0]} was neither"
            )
        new = [asked[n] for n in range(len(answers), stop)]
        self._descent.as_last(lambda: answers.add(new))

    def _compared(self, question: Question, release: int) -> dict[str, Any] | None:
        """Returns the stage's earlier question, after checking that it asks the same now; None if
        it has asked nothing.
        """
        descent, charge = self._descent, self._charge
        descent.require_unfinished(descent.lines(), charge)
        line = noted(descent.lines(), "asked", descent.run, charge)
        if line is None:
            return None
        # Lines of earlier versions commit to no key.
        if line.get("commitment", self._commitment) != self._commitment:
            raise LedgerError(
                f"the secret key of stage {charge.label!r} of run {descent.run[:12]}, "
                f"{descent.keys.path(charge.plan)}, is not the one that the stage was begun with. "
                "Answers under two keys would be two releases under one charge: put back the file "
                "that it was begun with, or start a new run folder, which is charged anew"
            )
        if self._held is None or self._held[0] != line["question"]:
            self._held = (line["question"], self._read(line["question"], question, release))
        held = self._held[1]
        # An object that was just compared is frozen: nothing in it can have changed.
        if self._alike is None or self._alike[0] is not question or self._alike[1] != release:
            now = _first(question, release)
            if held["first"]["release"] != release:
                now["first"] = held["first"]
            if digest(now) != line["question"]:
                self._refuse(held, now)
            self._alike = (question, release)
        self._answers.require()
        if self._answers.contradict(release, Entry(question.digest)):
            raise LedgerError(
                f"release {release} of stage {charge.label!r} of run {descent.run[:12]} was asked "
                f"with other parameters, and a state of the run with {len(self._answers)} answers "
                "was noted since: its checkpoint was changed, or is an earlier one that does not "
                "come to the same answers here. A second answer would be a second release under "
                "one charge: resume from the last checkpoint, or with as many threads as before, "
                "or start a new run folder, which is charged anew"
            )
        return held

    def _read(self, wanted: str, question: Question, release: int) -> dict[str, Any]:
        """Reads the stage's question from this folder, and checks it against the digest in the
        ledger.
        """
        descent, charge = self._descent, self._charge
        held = descent.keys.lineage.question(charge.plan)
        if held is None:
            # A backup made before the question, if it is all that is left of a run, may ask it.
            held = _first(question, release)
            if digest(held) != wanted:
                raise LedgerError(
                    f"stage {charge.label!r} of run {descent.run[:12]} asks another question than "
                    "it was begun with, and this folder does not hold what that was: start a new "
                    "run folder, which is charged anew"
                )
            descent.keys.lineage.note(charge.plan, held)
        if digest(held) != wanted:
            raise LedgerError(
                f"what stage {charge.label!r} of run {descent.run[:12]} has asked is not what the "
                "ledger says: the run folder was changed. Start a new run folder, it will be "
                "charged anew"
            )
        return held

    def _refuse(self, held: dict[str, Any], now: dict[str, Any]) -> None:
        words = list(differences(held["stage"], now["stage"]))
        words = words or ["the parameters that the first step starts from were different"]
        more = f", and {len(words) - 3} more" if len(words) > 3 else ""
        before, size = (x["stage"].get("micro_batch") for x in (held, now))
        how = "" if before == size else f" (--micro-batch {before})"
        raise LedgerError(
            f"stage {self._charge.label!r} of run {self._descent.run[:12]} asks another question "
            f"than it was begun with: {'; '.join(words[:3])}{more}. Two questions would be two "
            f"releases under one charge: resume it as it was begun{how}, or start a new run "
            "folder, which is charged anew"
        )

    def _is_first(self, release: int, part: str, found: str) -> bool:
        """Returns whether this process has given no other answer (or question) for this part of
        the release than ``found``.
        """
        descent = self._descent
        key = (str(descent.ledger.path.resolve()), descent.run, self._charge.plan, release, part)
        return _ANSWERED.setdefault(key, found) == found
