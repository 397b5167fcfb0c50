"""What a record contributes: by draw, class, pixel and place, and by its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.auditing import branches as shares
from dpgen.auditing.branches import Coded, branches, told
from dpgen.auditing.isolation import Asked, isolation, most_records
from dpgen.auditing.replay import record
from dpgen.images.images import PublicFacts
from dpgen.privacy.mechanisms import clipping, noisy_sum
from dpgen.privacy.mechanisms.clipping import MARGIN
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.stages.moments import ClassMeans

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant", "short_audits")

SHAPE = (1, 8, 8)
FACTS = PublicFacts(SHAPE, ("a", "b", "c"), 60_000)
STEPS = NoisySGD(0.3, 40, 1.0, 100, clip_norm=0.7)
RELEASE = NoisySum(ClassMeans(SHAPE, 3, 0.0, 8.0, 1.0), 1.7)


@dataclass(frozen=True)
class Drawing:
    """Draws of every kind; the loss is nobody's."""

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        return {
            "sigma": draws.normal(4).exp(),
            "drop": draws.uniform() < 0.01,
            "projection": draws.signs(4, *SHAPE),
        }

    def loss(self, *given: object) -> Tensor:
        raise AssertionError("nobody asks for it")


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 32, 32), (1, 1, 5)])
def test_records_are_told_apart_by_their_pixels_alone(shape: tuple[int, int, int]) -> None:
    records = Coded(shape, 3, seed=0)
    pixels, labels, _ = records.read(torch.arange(records.n_slots).numpy())
    assert torch.equal(told(records.codes, pixels), torch.eye(records.n_slots))
    assert pixels.abs().max() == 1 and set(labels.tolist()) == {0, 1, 2}
    if shape != (1, 1, 5):
        means = pixels.flatten(1).mean(1)
        assert means.min() < -0.7 and means.max() > 0.7


@pytest.mark.parametrize("mechanism", [STEPS, RELEASE], ids=["steps", "release"])
def test_every_share_is_the_bound_less_its_margin_to_the_last_digits(
    mechanism: NoisySGD | NoisySum,
) -> None:
    found = branches(mechanism, SHAPE, 3, Drawing())
    assert found.passed
    assert min(found.largest.values()) == pytest.approx(1 / MARGIN, abs=1e-12)
    assert found.largest[found.worst] == pytest.approx(1 / MARGIN, abs=1e-12)
    assert not replace(found, largest={"one": 1.0}).passed


def test_draws_are_forced_into_both_branches_and_far_out() -> None:
    source = shares.Summed(())
    forced = shares.Pulling(1.0, torch.eye(4), Drawing()).draw(
        source.draws(torch.arange(4000).numpy(), release=0)
    )
    assert 0.45 < forced["drop"].double().mean() < 0.55
    assert forced["sigma"].max() > 300 and forced["sigma"].min() < 1e-3
    natural = Drawing().draw(source.draws(torch.arange(4000).numpy(), release=0))
    kept = (forced["sigma"] == natural["sigma"]).all(1).double().mean()
    assert 0.33 < kept < 0.42, "three of eight records keep their own"


add = clipping.add_clipped


def _longer(which: Callable[[Any], Tensor], factor: float) -> Callable[..., None]:
    def longer(total: Any, loss_fn: Any, held: Any, batch: Any, valid: Any, norm: float) -> None:  # noqa: ANN401
        chosen = which(batch) & valid
        add(total, loss_fn, held, batch, valid & ~chosen, norm)
        add(total, loss_fn, held, batch, chosen, factor * norm)

    return longer


@pytest.mark.parametrize(
    "which",
    [
        lambda batch: batch[2]["drop"],
        lambda batch: batch[2]["sigma"][:, 2] > 200,
        lambda batch: ((batch[2]["sigma"] > 1) & (batch[2]["sigma"] < 1.4)).all(1),
        lambda batch: (batch[1] == 1) & ~batch[2]["drop"],
        lambda batch: batch[0].flatten(1).amax(1) < 0.3,
        lambda batch: batch[0][:, 0, 3, 4] > 0,
        lambda batch: torch.arange(len(batch[1])) == 4,
        lambda batch: batch[2]["projection"][:, 1, 0, 0, 0] > 0,
    ],
    ids=["dropped", "one draw of four is large", "all draws near one", "kept in one class", "faint",
         "one pixel", "fifth row", "one sign"],
)  # fmt: skip
@pytest.mark.parametrize("factor", [1.00002, 3.0])
def test_a_branch_in_which_records_are_scaled_after_the_clip_shows(
    which: Callable[[Any], Tensor], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpgen.privacy.mechanisms.shares.add_clipped", _longer(which, factor))
    found = branches(STEPS, SHAPE, 3, Drawing())
    assert not found.passed
    assert found.largest[found.worst] == pytest.approx(factor / MARGIN, rel=1e-9)


def test_a_clip_without_its_margin_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = clipping.clip_factors
    for module in (clipping, noisy_sum):
        monkeypatch.setattr(
            module, "clip_factors", lambda norms, bound: factors(norms, bound * MARGIN)
        )
    for mechanism in (STEPS, RELEASE):
        assert not branches(mechanism, SHAPE, 3, Drawing()).passed


@pytest.fixture
def asked(untrained: Callable[..., Any]) -> dict[str, Asked]:
    """What the stages of a run ask, on this machine."""
    return record(lambda: untrained("dpdm"), replace(FACTS, n_records=500)).asked


def test_what_a_record_contributes_depends_on_no_row_and_no_neighbour(
    asked: dict[str, Asked],
) -> None:
    assert set(asked) == {"class means", "class spread", "teacher"}
    for label, one in asked.items():
        found = isolation(one, FACTS)
        assert found.passed, (label, found)
        assert found.moved < 1e-13, "the rounding of float64 sums"
        assert found.n_places >= 3 and found.device == "cpu"
    assert isolation(asked["teacher"], FACTS).share == pytest.approx(1 / MARGIN, rel=1e-9)


def _by_row(size: float) -> Callable[..., Tensor]:
    """A kernel that rounds the second half of its rows in another way."""

    def factors(norms: Tensor, bound: float) -> Tensor:
        last = (torch.arange(len(norms)) >= len(norms) // 2).double()
        return right(norms, bound) * (1 - size * last)

    right = clipping.clip_factors
    return factors


def test_a_kernel_that_rounds_rows_differently_is_accused_where_a_sum_passes_its_margin(
    asked: dict[str, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    n = most_records(asked["teacher"].mechanism, FACTS)
    for size, passed in ((0.9e-5 / n, True), (1.1e-5 / n, False)):
        with monkeypatch.context() as patch:
            patch.setattr(clipping, "clip_factors", _by_row(size))
            found = isolation(asked["teacher"], FACTS)
        assert found.passed is passed
        assert found.moved == pytest.approx(size, rel=0.01)
        assert found.of_a_sum == pytest.approx(n * size, rel=0.01)


def test_neighbours_that_change_what_a_record_contributes_are_accused(
    asked: dict[str, Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a direction of its own: as an activation that is normalised over the batch."""
    gradients = clipping.per_record_gradients

    def mixed(loss: Any, parameters: Any, batch: Any) -> dict[str, Tensor]:  # noqa: ANN401
        found = gradients(loss, parameters, batch)
        return {name: g + 1e-6 * g.mean(0, keepdim=True) for name, g in found.items()}

    monkeypatch.setattr(clipping, "per_record_gradients", mixed)
    assert isolation(asked["teacher"], FACTS).moved_too_far


def test_most_records_of_a_sum_are_those_of_a_large_batch_or_all() -> None:
    assert most_records(RELEASE, FACTS) == 60_000
    assert most_records(NoisySGD(1.0, 3, 1.0, 60_000), FACTS) == 60_000
    assert most_records(NoisySGD(0.01, 3, 1.0, 60_000), FACTS) == 795
