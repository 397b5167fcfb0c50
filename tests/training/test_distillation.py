"""The student's ladder, the teacher's path, the two ways to ask, and a stage that can be cut
anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from dpgen import DPSADSettings, PublicFacts
from dpgen.networks.denoiser import Denoiser
from dpgen.runs.checkpoint import Checkpoints
from dpgen.settings import from_dict
from dpgen.training import distillation
from dpgen.training.distillation import Distillation, Pairs, distil, draw_pairs, side_by_side
from dpgen.training.distillation_settings import N_BOOT_ITERATIONS

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def settings(**changes: Any) -> Distillation:  # noqa: ANN401
    own = {"n_steps": 2, "n_iterations": 4, "batch_size": 6, "pool_size": 12}
    return Distillation(**(own | changes))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n_steps", [1, 2, 4, 8])
def test_the_ladder_has_a_rung_per_step_from_the_top_to_nothing(n_steps: int) -> None:
    levels = Distillation(n_steps=n_steps, sigma_min=0.3, sigma_max=12.0).levels()
    assert len(levels) == n_steps + 1
    assert levels[0].item() == pytest.approx(12.0) and levels[-1] == 0.0
    assert (levels[1:] < levels[:-1]).all()
    if n_steps > 1:
        assert levels[-2].item() == pytest.approx(0.3)


@pytest.mark.parametrize("n_steps", [1, 2, 4, 8])
@pytest.mark.parametrize("teacher_steps", [1, 3])
def test_the_teachers_path_passes_every_rung_of_the_students_ladder(
    n_steps: int, teacher_steps: int
) -> None:
    own = Distillation(n_steps=n_steps, teacher_steps=teacher_steps)
    ladder, path = own.levels(), own.path()
    assert (path[1:] < path[:-1]).all() and path[-1] == 0.0
    for rung in ladder:
        assert (path - rung).abs().min() < 1e-6 * max(1.0, rung.item())
    # One step of the student costs the teacher `teacher_steps`; a student of one step, four times
    # that.
    assert len(path) - 1 == (teacher_steps * n_steps if n_steps > 1 else 4 * teacher_steps)


def test_how_long_a_student_learns_follows_from_its_pairing_unless_given() -> None:
    boot = Distillation(n_steps=1, pairing="boot")
    assert (Distillation().iterations, boot.iterations) == (150, N_BOOT_ITERATIONS)
    assert replace(boot, n_iterations=7).iterations == 7
    for one in (Distillation(), boot):
        assert one.resolved().n_iterations == one.iterations
        assert one.resolved().resolved() == one.resolved()


def test_runs_that_wrote_down_150_steps_are_still_read() -> None:
    """Steps were a number before they could be left open, in both modes."""
    facts, earlier = PublicFacts((1, 8, 8), ("a", "b"), 900), {"student": {"n_iterations": 150}}
    for mode in ("sealed", "paper"):
        held = from_dict(DPSADSettings, {"mode": mode, **earlier}, held=True)
        assert held.resolved(facts) == DPSADSettings(mode=mode).resolved(facts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 3}, "n_steps of the student must be 1, 2, 4 or 8, got 3"),
        ({"pairing": "both"}, "pairing must be paired, fresh or boot, got 'both'"),
        ({"n_iterations": 0}, "n_iterations must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"pool_size": 0}, "pool_size must be at least 1, got 0"),
        ({"teacher_steps": 0}, "teacher_steps must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0, got 0"),
        ({"learning_rate": math.nan}, "learning_rate must be greater than 0, got nan"),
        ({"adversarial_weight": -0.1}, "adversarial_weight must be at least 0, got -0.1"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\), got 1"),
        ({"sigma_min": 20.0}, "sigma_m"),
        ({"sigma_max": -1.0}, "sigma_m"),
    ],
)
def test_what_cannot_be_distilled_cannot_be_configured(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Distillation(**change)


def test_side_by_side_puts_the_teacher_first_unless_swapped() -> None:
    teacher, student = torch.full((3, 2, 4, 4), 1.0), torch.full((3, 2, 4, 4), 2.0)
    pair = side_by_side(teacher, student, torch.tensor([False, True, False]))
    assert pair.shape == (3, 4, 4, 4)
    assert pair[:, 0, 0, 0].tolist() == [1, 2, 1]
    assert pair[:, 2, 0, 0].tolist() == [2, 1, 2]


def test_pairs_are_noise_and_what_the_teacher_makes_of_it(teacher: Denoiser) -> None:
    own = settings(pool_size=300)
    pairs = draw_pairs(teacher, own, generator=seeded(1), device=CPU, show=False)
    assert torch.equal(pairs.noise, torch.randn(300, 1, 8, 8, generator=seeded(1)))
    assert torch.equal(pairs.labels, torch.arange(300) % 3)
    # DDIM down the path, written out: x <- x_0 + (next / sigma) (x - x_0).
    path = own.path().tolist()
    x = path[0] * pairs.noise
    with torch.no_grad():
        for sigma, lower in zip(path[:-1], path[1:], strict=True):
            x0 = teacher(x, torch.full((300,), sigma), pairs.labels)
            x = x0 + lower / sigma * (x - x0)
    torch.testing.assert_close(pairs.images, x.clamp(-1, 1), atol=1e-4, rtol=0)
    again = draw_pairs(teacher, own, generator=seeded(1), device=CPU, show=False)
    assert torch.equal(again.images, pairs.images)


class Seen:
    """Catches what the student is asked: (x_r, sigma, labels)."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []
        forward = Denoiser.forward

        def watched(network: Denoiser, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
            if network.training:
                self.asked.append((x.detach().clone(), sigma, labels))
            return forward(network, x, sigma, labels)

        patch.setattr(Denoiser, "forward", watched)


def make(
    teacher: Denoiser, pool: Pairs, own: Distillation, folder: Path, seed: int = 2
) -> Denoiser:
    return distil(
        teacher, pool, own, generator=seeded(seed), checkpoints=Checkpoints(folder),
        accelerator=Accelerator(cpu=True), show=False,
    )  # fmt: skip


def pool_of(teacher: Denoiser, own: Distillation) -> Pairs:
    return draw_pairs(teacher, own, generator=seeded(1), device=CPU, show=False)


def test_paired_states_lie_on_the_line_from_the_image_to_its_own_noise(
    teacher: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(n_iterations=6, pairing="paired")
    pool, top = pool_of(teacher, own), own.sigma_max
    seen = Seen(monkeypatch)
    make(teacher, pool, own, tmp_path)
    tops = 0
    for x_r, sigma, labels in seen.asked:
        for x, s, y in zip(x_r, sigma, labels, strict=True):
            line = pool.images + s / top * (top * pool.noise - pool.images)
            distance = (line - x).flatten(1).norm(dim=1)
            assert distance.min() < 1e-3 and pool.labels[distance.argmin()] == y
            if s == top:
                # At the top it is the very noise that sampling starts from.
                tops += 1
                torch.testing.assert_close(
                    x, top * pool.noise[distance.argmin()], atol=1e-4, rtol=0
                )
    assert 0 < tops < 36


def test_fresh_states_are_images_under_noise_of_their_own(
    teacher: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(n_iterations=15, pairing="fresh", pool_size=1, batch_size=40)
    pool = pool_of(teacher, own)
    seen = Seen(monkeypatch)
    make(teacher, pool, own, tmp_path)
    z = torch.cat([(x - pool.images) / s[:, None, None, None] for x, s, _ in seen.asked])
    n = z.numel()
    assert n == 600 * 64 and abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert len(torch.unique(z[:, 0, 0, 0])) == 600


@pytest.mark.parametrize("pairing", ["paired", "fresh"])
@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_student_cut_off_anywhere_is_the_student_of_one_go(
    pairing: str, weight: float, teacher: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)
    own = settings(pairing=pairing, adversarial_weight=weight)
    pool = pool_of(teacher, own)
    whole = make(teacher, pool, own, tmp_path / "whole").state_dict()

    class Cut(Exception):
        pass

    save = Checkpoints.save

    def cut_at(last: int) -> Callable[..., None]:
        def cut(states: Checkpoints, name: str, tensors: Any, **numbers: Any) -> None:  # noqa: ANN401
            save(states, name, tensors, **numbers)
            if numbers["step"] == last:
                raise Cut

        return cut

    for step in (1, 3):
        folder = tmp_path / str(step)
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", cut_at(step))
            with pytest.raises(Cut):
                make(teacher, pool, own, folder)
        # Another seed: what goes on is the generator of the checkpoint, not the new one.
        resumed = make(teacher, pool, own, folder, seed=99).state_dict()
        assert all(torch.equal(resumed[key], whole[key]) for key in whole), step


def test_the_teacher_is_left_as_it_is_and_the_student_moves(
    teacher: Denoiser, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    student = make(teacher, pool_of(teacher, settings()), settings(), tmp_path)
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert any(not torch.equal(before[k], v) for k, v in student.state_dict().items())
    assert not student.training


def test_the_global_generator_is_neither_read_nor_moved(teacher: Denoiser, tmp_path: Path) -> None:
    own = settings()
    pool = pool_of(teacher, own)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one = make(teacher, pool, own, tmp_path / "a").state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    other = make(teacher, pool, own, tmp_path / "b").state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_student_learns_its_pairs(teacher: Denoiser, tmp_path: Path) -> None:
    """One pair, no adversary: the student's answer at the top comes to the image."""
    own = settings(
        n_steps=1, n_iterations=40, pool_size=1, adversarial_weight=0.0, ema_decay=0.5,
        learning_rate=1e-3, pairing="paired",
    )  # fmt: skip
    pool = pool_of(teacher, own)
    images = pool.images.clone().uniform_(-0.5, 0.5, generator=seeded(8))
    pool = pool._replace(images=images)
    student = make(teacher, pool, own, tmp_path)
    sigma = torch.tensor([own.sigma_max])

    def error(network: Denoiser) -> float:
        with torch.no_grad():
            answer = network(own.sigma_max * pool.noise, sigma, pool.labels)
        return (answer - images).square().mean().item()

    assert error(student) < 0.3 * error(teacher)


def test_an_adversary_changes_what_the_student_becomes(teacher: Denoiser, tmp_path: Path) -> None:
    pool = pool_of(teacher, settings())
    alone = make(teacher, pool, settings(adversarial_weight=0.0), tmp_path / "a").state_dict()
    judged = make(teacher, pool, settings(adversarial_weight=1.0), tmp_path / "b").state_dict()
    assert any(not torch.equal(alone[key], judged[key]) for key in alone)
    assert distillation.LABEL == "student"
