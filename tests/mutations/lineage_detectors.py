"""Detectors of noise that serves two questions and of runs that go on twice."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from dpgen.auditing.stand_ins import StandIns
from dpgen.data.private import PrivateDataset
from dpgen.data.slots import RecordSlots
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.lineage import witness
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.contributions import Block
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.plan import Plan, Stage
from tests.relations import ADD_REMOVE

N, WIDTH = 10, 2000
FACTS = PublicFacts((1, 1, 1), ("a",), N, origin="stated")


@dataclass(frozen=True)
class Around:
    """The sum of all pixels around a released value, or of nothing: then sums are alike.

    Args:
        centre: the released value, ().
        weight: of a record in its sum.
    """

    centre: Tensor
    weight: float = 1.0
    bound: ClassVar[float] = 1.0
    tables: ClassVar[dict[str, tuple[int, int]]] = {"all": (1, WIDTH)}
    settings: ClassVar[dict[str, str]] = {"name": "Around"}

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        values = self.weight * (pixels.flatten(1).double() - self.centre) / WIDTH
        return {"all": Block(values.expand(-1, WIDTH), labels)}


def around(centre: float, weight: float = 1.0) -> NoisySum:
    return NoisySum(Around(torch.tensor(centre, dtype=torch.float64), weight), 20.0)


PLAN = Plan((Stage("one", around(0)),), ADD_REMOVE)


class Private(StandIns):
    """Records that are not public, so that their ledger lies in the installation."""

    public = False


def source() -> Private:
    pixels = torch.arange(N, dtype=torch.uint8).reshape(N, 1, 1, 1)
    return Private(pixels, torch.zeros(N, dtype=torch.int64), ("a",))


def begun(folder: Path) -> PrivateDataset:
    data = PrivateDataset(source(), facts=FACTS)
    data.open_ledger(Budget(2.0, 1e-5), folder)
    data.begin("run", StageKeys(folder / "keys"), PLAN)
    return data


def refused(action: Callable[[], Any]) -> bool:
    try:
        action()
    except LedgerError:
        return True
    return False


def questions(place: Path) -> str:
    """Two questions, and two sums where one question is taken for the other, share no noise; and
    one stage is not asked two.
    """
    records, wrong = RecordSlots(source(), FACTS), []

    def noise_of(mechanism: NoisySum, noise: KeyedNoise) -> Tensor:
        heard, add = [], KeyedNoise.add

        def adding(source: KeyedNoise, total: Tensor, std: float, **where: Any) -> Tensor:  # noqa: ANN401
            heard.append(add(source, total, std, **where) - total)
            return total

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KeyedNoise, "add", adding)
            mechanism.release(records, noise)
        return heard[0].flatten()

    key = KeyedNoise(bytes(32), "plan")
    first, other = (noise_of(around(centre, weight=0.0), key) for centre in (0.0, 0.5))
    if _alike(first, other):
        wrong.append("two questions share their noise")
    with pytest.MonkeyPatch.context() as patch:
        # What a question forgets stands in the sum.
        patch.setattr(KeyedNoise, "for_question", lambda noise, question: noise)
        first, other = (noise_of(around(centre), key) for centre in (0.0, 0.5))
    if _alike(first, other):
        wrong.append("two sums share their noise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        begun(place).release(around(0.0), label="one")
        patch.setattr(witness, "_ANSWERED", {})  # as in another process
        if not refused(lambda: begun(place).release(around(0.5), label="one")):
            wrong.append("a stage is asked two questions under one charge")
    return "; ".join(wrong)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two noises are correlated, beyond six standard errors."""
    return abs(float((one * other).sum() / (one.norm() * other.norm()))) * math.sqrt(len(one)) > 6


def copies(place: Path) -> str:
    """Of a run and its copy one is answered, and nobody answers what is finished."""
    wrong = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        begun(place / "run")
        shutil.copytree(place / "run", place / "old")
        original = begun(place / "run")
        if not refused(lambda: begun(place / "old")):
            wrong.append("a copy goes on beside the original")
        shutil.copytree(place / "run", place / "new")
        begun(place / "new")
        if not refused(lambda: original.release(around(0.0), label="one")):
            wrong.append("the original goes on beside a copy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "other home"))
        begun(place / "other")
        shutil.copytree(place / "other" / "keys", place / "keys")
        data = begun(place / "other")
        data.release(around(0.0), label="one")
        seen = {p: p.read_bytes() for p in (place / "other home").rglob("*.answers")}
        data.finish("one", around(0.0))
        # All that a backup may hold, but for the marks and the ledger itself.
        for file in (place / "keys").glob("*.key"):
            shutil.copy(file, place / "other" / "keys")
        for file, content in seen.items():
            file.write_bytes(content)
        if not refused(lambda: begun(place / "other").release(around(0.0), label="one")):
            wrong.append("a finished stage is answered again")
    return "; ".join(wrong)


class Stopped(BaseException):
    """The machine went down."""


def stops(place: Path) -> str:
    """A run that stops on either side of a line in its ledger goes on."""

    def stopping(real: Callable[..., None], *, before: bool) -> Callable[..., None]:
        def note(*given: Any) -> None:  # noqa: ANN401
            if not before:
                real(*given)
            raise Stopped

        return note

    for before in (True, False):
        folder = place / f"{before}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DPGEN_HOME", str(folder / "home"))
            for _ in range(2):
                with pytest.MonkeyPatch.context() as machine, pytest.raises(Stopped):
                    real = PrivacyLedger.note
                    machine.setattr(PrivacyLedger, "note", stopping(real, before=before))
                    begun(folder)
                if refused(lambda folder=folder: begun(folder)):  # type: ignore[misc]
                    return "an honest run is refused after a kill"
    return ""


LINEAGE: dict[str, Callable[[Path], str]] = {
    "questions": questions,
    "copies": copies,
    "stops": stops,
}
