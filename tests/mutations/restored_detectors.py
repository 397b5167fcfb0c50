"""Detectors of a run folder in which a file was put back, edited, or lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.lineage import witness
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms import shares
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.plan import Plan, Stage
from dpgen.runs.checkpoint import Checkpoints
from tests.mutations.lineage_detectors import FACTS, N, Private, refused, source
from tests.relations import ADD_REMOVE

SGD = NoisySGD(0.5, 3, 20.0, N)
PLAN = Plan((Stage("steps", SGD),), ADD_REMOVE)


@dataclass(frozen=True)
class Pixel:
    """The parameter times the pixel."""

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        return {"unused": draws.normal(1)}

    def loss(
        self, parameters: Mapping[str, Tensor], pixels: Tensor, label: Tensor,
        draws: Mapping[str, Tensor],
    ) -> Tensor:  # fmt: skip
        return (parameters["w"] * pixels.flatten()).sum() + 0 * draws["unused"].sum()


def begun(place: Path, records: Private | None = None) -> PrivateDataset:
    """The run, begun as if in another process."""
    witness._ANSWERED.clear()
    data = PrivateDataset(records or source(), facts=FACTS, ledger=place / "own.jsonl")
    data.open_ledger(Budget(2.0, 1e-5), place)
    data.begin("run", StageKeys(place / "keys"), PLAN)
    return data


def lived(place: Path, start: int, stop: int, w: float) -> None:
    """The steps from ``start`` to before ``stop``, each of which is saved."""
    data = begun(place)
    for step in data.steps(SGD, label="steps", start=start):
        step.gradient(Pixel(), {"w": torch.tensor([w + step.index])})
        data.save_state(Checkpoints(place / "state"), "steps", {}, step=step.index + 1)
        if step.index + 1 == stop:
            break


def in_another_order(add_clipped: Callable[..., None]) -> Callable[..., None]:
    """Sums that end in other bits, as those that another number of threads has added up."""

    def add(total: dict[str, Tensor], *others: object) -> None:
        add_clipped(total, *others)
        for part in total.values():
            part *= 1 + 2**-51

    return add


def states(place: Path) -> str:
    """A step whose answer was saved is not asked with other parameters, nor answered in another
    way.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        lived(place, 0, 2, 0.0)
        if refused(lambda: lived(place, 1, 2, 0.0)):
            return "a checkpoint that is put back is refused"
        if not refused(lambda: lived(place, 1, 2, 0.5)):
            return "an edited checkpoint is answered"
        if not refused(lambda: lived(place, 3, 3, 0.0)):
            return "a state that says it holds more than was noted is taken"
        patch.setattr(shares, "add_clipped", in_another_order(shares.add_clipped))
        if not refused(lambda: lived(place, 0, 1, 0.0)):
            return "a checkpoint that is put back is answered in another way"
    return ""


def keys(place: Path) -> str:
    """A stage is not answered under another key, nor a run on other data without its owner."""
    wrong = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        lived(place, 0, 1, 0.0)
        (key,) = (place / "keys").glob("*.key")
        held = key.read_bytes()
        key.write_bytes(bytes(len(held)))
        # Of a step that no saved state holds: one that is known is compared with its answer, too.
        if not refused(lambda: lived(place, 1, 2, 0.0)):
            wrong.append("another key is taken")
        key.write_bytes(held)
        (place / "keys" / "owner").unlink()
        other = source()
        other.pixels[0] += 1
        if not refused(lambda: begun(place, other)):
            wrong.append("other records are taken")
    return "; ".join(wrong)


RESTORED: dict[str, Callable[[Path], str]] = {"states": states, "files": keys}
