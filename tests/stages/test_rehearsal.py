"""A rehearsal counts this process's own work, and refuses what would learn nothing."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from dpgen.generator import drawing
from dpgen.images.facts import PublicFacts
from dpgen.methods import find, find_settings
from dpgen.networks.denoiser import Denoiser
from dpgen.runs.context import Hardware
from dpgen.stages import rehearsal
from dpgen.stages.rehearsal import rehearse
from dpgen.stages.teacher_settings import TeacherSettings
from dpgen.stages.timing import seconds_of
from samplers import make_sampler

FACTS = PublicFacts((1, 8, 8), ("a", "b"), 100)
SAMPLER = make_sampler("ddim", n_steps=4, sigma_min=0.1, sigma_max=2.0)
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def settings(n_steps: int = 10) -> Any:  # noqa: ANN401
    return TeacherSettings(n_steps=n_steps, batch=16, n_draws=1, preset="tiny").resolved(FACTS)


def test_a_run_takes_as_long_as_it_has_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "seconds_of", lambda step, device: (step(), 1.0)[1])
    hardware = Hardware("cpu", micro_batch=8)
    few, many = (rehearse(settings(n), FACTS, hardware, SAMPLER, 20) for n in (10, 40))
    assert many.seconds - few.seconds == 30 * math.ceil(16 / 8)
    assert few.device == "CPU" and few.n_parameters > 1000 and few.memory_bytes > 2**20


def test_the_preview_is_a_part_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty images at two or four evaluations each, eight images at once."""
    monkeypatch.setattr(rehearsal, "seconds_of", lambda step, device: (step(), 1.0)[1])
    longer = make_sampler("ddim", n_steps=8, sigma_min=0.1, sigma_max=2.0)
    hardware = Hardware("cpu", micro_batch=8)
    one, two = (rehearse(settings(), FACTS, hardware, x, 20).seconds for x in (SAMPLER, longer))
    more = longer.n_evaluations - SAMPLER.n_evaluations  # type: ignore[attr-defined]
    assert two - one == pytest.approx(20 * more / 8) and more > 0
    drawn = rehearse(settings(), FACTS, hardware, SAMPLER, 256).seconds
    assert drawn - one == pytest.approx((256 - 20) * SAMPLER.n_evaluations / 8)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["dp-sad", "dpdm", "pge", "pge sketch"])
def test_every_method_counts_the_images_that_its_preview_draws(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole block is drawn, of which the preview shows a few."""
    counted = []
    monkeypatch.setattr(rehearsal, "seconds_of", lambda step, device: (step(), 1.0)[1])
    monkeypatch.setattr(rehearsal, "_preview", lambda *given: counted.append(given[1]) or 1)
    method, _, mode = name.partition(" ")
    settings = find_settings(method)(**({"mode": mode} if mode else {}))
    find(method)(epsilon=1.0, settings=settings).rehearse(FACTS, Hardware("cpu", micro_batch=2))
    assert counted == [drawing.BLOCK]


def test_time_in_which_the_processor_was_others_does_not_count() -> None:
    assert seconds_of(lambda: time.sleep(0.2), CPU) < 0.1


def test_a_network_whose_loss_is_not_finite_is_refused_before_it_is_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = rehearsal.untrained

    def broken(*given: Any, **named: Any) -> Denoiser:  # noqa: ANN401
        denoiser = real(*given, **named)
        with torch.no_grad():
            next(denoiser.parameters()).fill_(math.nan)
        return denoiser

    monkeypatch.setattr(rehearsal, "untrained", broken)
    with pytest.raises(ValueError, match="must be finite, with preset tiny and precision no"):
        rehearse(settings(), FACTS, Hardware("cpu"), SAMPLER, 20)
