"""Bootstrapping: an exact path is kept, one step draws the student, and a cut run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from dpgen.networks.denoiser import Denoiser
from dpgen.runs.checkpoint import Checkpoints
from dpgen.training.bootstrapping import N_LEVELS, bootstrap, bootstrap_loss, path_of
from dpgen.training.distillation_settings import Distillation
from samplers import DDIM, Annealed, Explicit

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = Distillation(n_steps=1, pairing="boot", n_iterations=4, batch_size=6)
DATA_STD = 0.7


class Gaussian:
    """The exact denoiser of data from N(0, DATA_STD^2 I), and the signal of its path."""

    def __init__(self, sigma_max: float) -> None:
        self.sigma_max = sigma_max

    def teacher(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        return x * (DATA_STD**2 / (DATA_STD**2 + sigma**2))[:, None, None, None]

    def student(self, x: Tensor, sigma: Tensor, labels: Tensor, level: Tensor) -> Tensor:
        """x_t = x_top sqrt((std^2 + t^2) / (std^2 + top^2)), by the probability flow of a
        Gaussian.
        """
        top = self.sigma_max
        grown = ((DATA_STD**2 + level**2) / (DATA_STD**2 + top**2)).sqrt()[:, None, None, None]
        return x * grown - level[:, None, None, None] / top * x


def test_the_exact_path_of_a_gaussian_has_a_loss_that_falls_with_the_square_of_the_step() -> None:
    """The steps of DDIM are of first order, so the residual over 1 - s/t falls as t - s does; at
    the top nothing is wrong but what the path has already travelled.
    """
    exact, n = Gaussian(10.0), 64
    noise = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    labels, t = torch.zeros(n, dtype=torch.int64), torch.linspace(0.3, 9.0, n).double()

    def loss(ratio: float) -> float:
        found = bootstrap_loss(
            exact.teacher, exact.student, noise, labels, t, ratio * t, 10.0  # type: ignore[arg-type]
        )
        return float(found) - begins

    def at_the_top() -> float:
        top = torch.full_like(t, 10.0)
        said = exact.student(10.0 * noise, top, labels, top)
        return 0.3 * float((said - exact.teacher(10.0 * noise, top, labels)).square().mean())

    begins = at_the_top()
    coarse, fine = loss(0.9), loss(0.95)
    assert 0 < fine < coarse and coarse / fine == pytest.approx(4.0, rel=0.2)


def trained(teacher: Denoiser, folder: Path, n_iterations: int = 4) -> Denoiser:
    return bootstrap(
        teacher,
        replace(SETTINGS, n_iterations=n_iterations),
        generator=torch.Generator().manual_seed(3),
        checkpoints=Checkpoints(folder),
        accelerator=Accelerator(cpu=True),
        show=False,
    )


def test_the_levels_fall_from_the_top_to_sigma_min() -> None:
    levels = path_of(SETTINGS)
    assert len(levels) == N_LEVELS and (levels[1:] < levels[:-1]).all()
    assert levels[0] == pytest.approx(10.0) and levels[-1] == pytest.approx(0.2)


def test_the_student_is_drawn_by_one_step_of_ddim_and_says_its_last_level(
    teacher: Denoiser, tmp_path: Path
) -> None:
    student = trained(teacher, tmp_path)
    assert student.config.level == 0.2 and teacher.config.level is None
    noise, labels = torch.randn(5, 1, 8, 8), torch.arange(5) % 3
    sampler = Annealed(Explicit((10.0, 0.0)), DDIM())
    with torch.no_grad():
        drawn = sampler(student.score_fn(labels), noise, generator=torch.Generator())
        top, last = torch.full((5,), 10.0), torch.full((5,), 0.2)
        said = student(10.0 * noise, top, labels, last)
    torch.testing.assert_close(drawn, said, rtol=1e-4, atol=1e-4)
    assert not torch.equal(said, student(10.0 * noise, top, labels, top))


def test_it_goes_on_to_the_weights_of_an_uninterrupted_one(
    teacher: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)
    whole = trained(teacher, tmp_path / "whole").state_dict()
    calls, save = [], Checkpoints.save

    def stopped(states: Checkpoints, *given: object, **numbers: object) -> None:
        save(states, *given, **numbers)  # type: ignore[arg-type]
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(teacher, tmp_path / "cut")
    resumed = trained(teacher, tmp_path / "cut").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_step_costs_what_a_plan_says(
    teacher: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in forward passes, of which a backward pass is worth two."""
    passes, forward = [0], Denoiser.forward

    def counted(network: Denoiser, x: Tensor, *given: Tensor) -> Tensor:
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in network.parameters())
        passes[0] += len(x) * (3 if learns else 1)
        return forward(network, x, *given)

    monkeypatch.setattr(Denoiser, "forward", counted)
    trained(teacher, tmp_path)
    assert passes[0] == SETTINGS.evaluations


def test_more_than_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="pairing boot makes a student of one step, got n_steps 4"):
        Distillation(pairing="boot")
