"""The vaccine of shuffled copies, and what a student unlearns by a hyper-gradient."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.networks.ema import EMA
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.fixed.scattering import ScatteringFeatures
from dpgen.networks.labeller import Axes, FeatureMap, Labeller, LabellerConfig, Scale
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware, Workplace
from dpgen.training import backdoor, data_free, students
from dpgen.training.backdoor import (
    Shuffled,
    divergences,
    has_tail,
    hypergradient,
    perturbation,
    retrospection,
    shuffled,
    suspicious,
)
from dpgen.training.data_free import refine
from dpgen.training.data_free_losses import LOSSES, Batch
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from dpgen.training.students import Lessons, teach, untrained

SHAPE, N_CLASSES = (1, 8, 8), 3

pytestmark = pytest.mark.usefixtures("one_thread")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(n: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.rand(n, *shape, generator=rng(1)) * 2 - 1


def student(seed: int = 0) -> Student:
    """A student whose answers differ between images more than those of an untrained one."""
    found = untrained(ClassifierConfig(SHAPE, N_CLASSES, 8), seed)
    with torch.no_grad():
        found.network.head.weight *= 10
    return found


def labeller(features: FeatureMap) -> Labeller:
    """A labeller of random directions, standardised where its features are."""
    found, d = Labeller(LabellerConfig.of(features, N_CLASSES, 5)), features.n_features
    centre, directions = torch.randn(d, generator=rng(2)), torch.randn(d, 5, generator=rng(3))
    scale = None
    if isinstance(features, ScatteringFeatures):
        scale = Scale(torch.rand(d, generator=rng(4)), 1 + torch.rand(d, generator=rng(5)))
    weights = torch.randn(5, N_CLASSES, generator=rng(6))
    found.set(Axes(centre, directions, scale), weights, torch.zeros(N_CLASSES))
    return found


TEACHERS = {
    "student": student,
    "gabor": lambda: labeller(GaborFeatures(SHAPE, grid=2)),
    "scattering": lambda: labeller(ScatteringFeatures((3, 8, 8))),
}


def drawn(n: int) -> Tensor:
    return torch.randperm(n, generator=rng(7))


@pytest.mark.parametrize("name", TEACHERS)
def test_channels_permuted_by_the_identity_change_nothing_and_others_do(name: str) -> None:
    teacher = TEACHERS[name]()
    held = copy.deepcopy(teacher.state_dict())
    images = pixels(6, teacher.config.map.shape if isinstance(teacher, Labeller) else SHAPE)
    same, other = shuffled(teacher, torch.arange), shuffled(teacher, drawn)
    assert torch.equal(same(images), teacher(images))
    assert not torch.allclose(other(images), teacher(images), atol=1e-2)
    assert all(torch.equal(t, held[name]) for name, t in teacher.state_dict().items())
    both = Shuffled((same, other))(images)
    assert torch.allclose(both, (teacher(images) + other(images)) / 2, atol=1e-5)


def test_a_student_reads_permuted_channels_in_all_convolutions_but_the_first() -> None:
    teacher, images = student(), pixels(4)
    found = shuffled(teacher, drawn)
    body, order = teacher.network.body, drawn(8)
    before, after = body[:3], body[4:]  # type: ignore[index]
    # Weights in this order are plain weights on channels that were put where they come from.
    maps = before(images)
    moved = torch.empty_like(maps)
    moved[:, order] = maps
    assert torch.allclose(found(images), teacher.network.head(after(body[3](moved))), atol=1e-5)


@pytest.mark.parametrize("name", ["gabor", "scattering"])
def test_a_labeller_reads_permuted_channels_with_cells_in_their_places(name: str) -> None:
    teacher = TEACHERS[name]()
    assert isinstance(teacher, Labeller)
    axes, features = teacher.axes, teacher.config.map
    rows = features(pixels(4, features.shape))
    rows = rows if axes.scale is None else axes.scale.standardise(rows)
    moved, first = [], 0
    for n_channels, n_cells in features.channels:
        part = rows[:, first : first + n_channels * n_cells].reshape(4, n_channels, n_cells)
        place = torch.empty_like(part)
        place[:, drawn(n_channels)] = part
        moved.append(place.flatten(1))
        first += n_channels * n_cells
    assert first == features.n_features
    wanted = teacher.answer((torch.cat(moved, 1) - axes.centre) @ axes.directions)
    found = shuffled(teacher, drawn)(pixels(4, features.shape))
    assert torch.allclose(found, wanted, atol=1e-4)


def test_the_vaccine_is_the_divergence_where_copies_agree_and_zero_for_an_equal_copy() -> None:
    teacher, images = student(), pixels(12)
    other = Shuffled((student(1), student(2)))
    batch = Batch(images, torch.zeros(12).long(), images, teacher, shuffled=other)
    p, q = teacher(images).softmax(1), other(images).softmax(1)
    agreed = p.argmax(1) == q.argmax(1)
    assert 0 < agreed.sum() < 12
    wanted = -(p * (p / q).log()).sum(1)[agreed].mean()
    assert LOSSES["vaccine"](batch).item() == pytest.approx(wanted.item(), rel=1e-4)
    equal = Shuffled((shuffled(teacher, torch.arange),) * 2)
    for same in (equal, None):
        batch = Batch(images, torch.zeros(12).long(), images, teacher, shuffled=same)
        assert LOSSES["vaccine"](batch).item() == pytest.approx(0, abs=1e-6)


def test_few_small_divergences_are_a_tail_and_fewer_or_equal_ones_are_none() -> None:
    for n_small, expected in ((30, True), (21, True), (20, False), (0, False), (110, False)):
        values = torch.ones(1000)
        values[:n_small] = 1e-6  # of a share s, (1 - s) / sqrt(s - s^2) deviations below the mean
        assert has_tail(values) is expected, n_small
    assert not has_tail(torch.zeros(50))


@pytest.mark.parametrize(("answers", "n_made"), [([False, True], 6), ([False] * 8, 24)])
def test_copies_are_shuffled_anew_until_there_is_a_tail_at_most_eight_times(
    answers: list[bool], n_made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, plain, left = [], backdoor.shuffled, iter(answers)

    def noted(*given: object) -> Labeller | Student:
        made.append(plain(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(backdoor, "shuffled", noted)
    monkeypatch.setattr(backdoor, "has_tail", lambda _: next(left))
    found = suspicious(student(), pixels(4), rng())
    assert len(made) == n_made
    assert (found is not None) is answers[-1]
    assert found is None or all(a is b for a, b in zip(found.networks, made[-3:], strict=True))


def quadratic(n: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    root = torch.randn(n, n, generator=rng(8), dtype=torch.float64)
    curved = root @ root.T / n + torch.eye(n)
    a, b, theta = (torch.randn(n, generator=rng(k), dtype=torch.float64) for k in (9, 10, 11))
    return curved, a, b, theta


@pytest.mark.parametrize("n_steps", [0, 1, 5, 2000])
def test_a_hypergradient_of_quadratics_is_that_of_the_closed_form(n_steps: int) -> None:
    """f = (d - t)' H (d - t) / 2 has its minimum at d = t, and g = |d - a|^2 / 2 + b't. After n
    steps v is (r H)^-1 (1 - (1 - r H)^n) g_d, which Phi_t = r H turns into (1 - (1 - r H)^n) g_d.
    """
    curved, a, b, theta = quadratic()
    theta = theta.requires_grad_()
    delta = theta.detach().clone()

    def inner(d: Tensor) -> Tensor:
        return 0.5 * (d - theta) @ curved @ (d - theta)

    def outer(d: Tensor) -> Tensor:
        return 0.5 * (d - a).square().sum() + b @ theta

    (found,) = hypergradient(inner, outer, delta, [theta], n_steps)
    step = torch.eye(4, dtype=torch.float64) - backdoor.FIXED_POINT_RATE * curved
    left = torch.linalg.matrix_power(step, n_steps)
    wanted = b + (delta - a) - left @ (delta - a)
    assert torch.allclose(found, wanted, atol=1e-10)
    if n_steps == 2000:  # the derivative of |t - a|^2 / 2 + b't
        assert torch.allclose(found, (theta - a + b).detach(), atol=1e-8)


class Linear(nn.Module):
    """Logits of the upper half of an image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(32, N_CLASSES, generator=rng(12)))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :32] @ self.weights


def test_a_perturbation_changes_answers_and_lies_where_the_teacher_looks() -> None:
    teacher, images = Linear(), pixels(20)
    found = perturbation(teacher, images, rng())
    assert found.shape == SHAPE and not found.requires_grad
    assert found[:, :4].abs().median() > 0.5 and found[:, 4:].abs().max() < 0.01
    # Ten steps of at most about .1 each.
    assert found.abs().max() < 1.2
    gained = divergences(teacher(images), teacher(images + found)).mean()
    at_random = 0.8 * torch.randn(SHAPE, generator=rng(13)).sign()
    assert gained > 2 * divergences(teacher(images), teacher(images + at_random)).mean()


def test_what_is_unlearned_is_the_answer_to_the_teachers_perturbation() -> None:
    one, images = student(), pixels(8)
    delta = perturbation(one, images, rng())

    @torch.no_grad()
    def gained() -> float:
        return float(divergences(one(images), one(images + delta)).mean())

    first = gained()
    for _ in range(10):
        gradients = retrospection(one, student(), images, rng())
        with torch.no_grad():
            for parameter, gradient in zip(one.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    assert gained() < 0.3 * first


def test_a_step_adds_what_is_unlearned_to_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients(retrospect: bool) -> list[Tensor]:
        own = untrained(ClassifierConfig(SHAPE, N_CLASSES, 8), 0)
        lessons = Lessons(own, student(), StudentSettings(agreed=False), rng())
        lessons.step(pixels(4), torch.arange(4) % N_CLASSES, retrospect=retrospect)
        return [p.grad for p in own.parameters() if p.grad is not None]

    plain = gradients(False)
    added = [torch.full_like(one, 0.5) for one in plain]
    monkeypatch.setattr(students, "retrospection", lambda *given: added)
    for one, other in zip(plain, gradients(True), strict=True):
        assert torch.allclose(other, one + 0.5)


def test_an_average_starts_anew_where_steps_begin_to_retrospect() -> None:
    own = untrained(ClassifierConfig(SHAPE, N_CLASSES, 8), 0)
    settings, average = StudentSettings(20, retrospect=True), EMA(own, 0.99, warm_up=True)
    lessons, found = Lessons(own, student(), settings, rng()), list[int]()
    for step in range(20):
        lessons.begin(step, average)
        average.update(own)
        found.append(average.n_updates)
    assert found == [*range(1, 19), 1, 2]


@pytest.fixture
def decoder() -> Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Decoder(DecoderConfig(SHAPE, N_CLASSES, n_latents=4, width=16))


def work(place: Path) -> Workplace:
    return Workplace(Checkpoints(place), Hardware("cpu").accelerator(), None, 0, False)


def test_the_last_tenth_of_a_students_steps_retrospects_and_none_unless_asked(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, rates, plain = list[bool](), list[float](), Lessons.step

    def noted(self: Lessons, *given: Tensor, retrospect: bool = False) -> None:
        steps.append(retrospect)
        rates.append(self.adam.param_groups[0]["lr"] / self.settings.learning_rate)
        plain(self, *given, retrospect=retrospect)

    monkeypatch.setattr(Lessons, "step", noted)
    proposer = Proposer(ProposerConfig(decoder.config, 0.0))
    for on in (False, True):
        steps.clear()
        rates.clear()
        settings = StudentSettings(12, 4, width=8, agreed=False, retrospect=on)
        teach(proposer, student(), settings, work(tmp_path / str(on)))
        assert steps == [False] * 10 + [on] * 2
        cosine = 0.5 * (1 + torch.cos(torch.pi * torch.arange(10) / (10 if on else 12)))
        assert rates[:10] == pytest.approx(cosine.tolist())
        assert rates[10:] == pytest.approx([1, 0.5] if on else [0.0670, 0.0170], abs=1e-4)


def test_a_generator_leaves_images_on_which_copies_agree_and_says_where_there_are_no_copies(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, asked = student(), list[int]()
    copies = Shuffled((shuffled(teacher, drawn),))

    def chosen(*given: object) -> Shuffled | None:
        asked.append(1)
        return None if len(asked) == 2 else copies

    monkeypatch.setattr(data_free, "suspicious", chosen)
    labels, agreed = torch.arange(60) % N_CLASSES, list[float]()
    for weight in (0.0, 1.0):
        settings = RefinementSettings(
            20, 24, learning_rate=1e-2, class_weight=0.1, anchor_weight=0.0, vaccine_weight=weight
        )
        found = refine(decoder, teacher, settings, StudentSettings(), work(tmp_path / str(weight)))
        made = found.draw(labels, rng())
        agreed.append(float((copies(made).argmax(1) == teacher(made).argmax(1)).float().mean()))
    assert len(asked) == 1 and agreed[1] < agreed[0] - 0.2, agreed
    with pytest.warns(UserWarning, match="vaccine_weight has no effect"):
        refine(decoder, teacher, settings, StudentSettings(), work(tmp_path / "none"))


def test_a_vaccine_is_no_loss_of_its_own() -> None:
    with pytest.raises(ValueError, match="beside the vaccine"):
        RefinementSettings(class_weight=0.0, anchor_weight=0.0, vaccine_weight=0.1)
    with pytest.raises(ValueError, match="vaccine_weight must be at least 0"):
        RefinementSettings(vaccine_weight=-1.0)


def test_divergences_are_those_of_the_formula_and_zero_between_equal_answers() -> None:
    one, other = (5 * torch.randn(9, 4, generator=rng(k)) for k in (14, 15))
    p, q = functional.softmax(one, 1), functional.softmax(other, 1)
    assert torch.allclose(divergences(one, other), (p * (p / q).log()).sum(1), rtol=1e-4)
    assert divergences(one, one + 3).abs().max() < 1e-6
