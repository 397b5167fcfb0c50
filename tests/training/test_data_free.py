"""A generator that a teacher refines without data, and a student of its images."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.decoder import Decoder, DecoderConfig
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.labeller import Axes, Labeller, LabellerConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware, Workplace
from dpgen.training import data_free
from dpgen.training.data_free import refine
from dpgen.training.data_free_losses import LOSSES, Batch
from dpgen.training.data_free_settings import RefinementSettings, StudentSettings
from dpgen.training.students import Lessons, affinities, cut_mixed, teach, untrained

SHAPE, N_CLASSES, N_AXES = (1, 8, 8), 3, 5
STUDENT = StudentSettings(n_steps=2, batch_size=8)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def decoder() -> Decoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Decoder(DecoderConfig(SHAPE, N_CLASSES, n_latents=4, width=16))


@pytest.fixture
def judge() -> Labeller:
    """A classifier of random directions of few features."""
    features = GaborFeatures(SHAPE, grid=2)
    rng = torch.Generator().manual_seed(1)
    labeller = Labeller(LabellerConfig(features, N_CLASSES, N_AXES))
    centre = torch.full((features.n_features,), features.n_features**-0.5)
    axes = Axes(centre, torch.randn(features.n_features, N_AXES, generator=rng))
    labeller.set(axes, 5 * torch.randn(N_AXES, N_CLASSES, generator=rng), torch.zeros(N_CLASSES))
    return labeller


def work(place: Path, seed: int = 0) -> Workplace:
    return Workplace(Checkpoints(place), Hardware("cpu").accelerator(), None, seed, False)


def batch(decoder: Decoder, judge: Labeller, student: Student | None = None) -> Batch:
    rng = torch.Generator().manual_seed(2)
    z, labels = torch.randn(12, 4, generator=rng), torch.arange(12) % N_CLASSES
    images = decoder(z, labels)
    return Batch(images, labels, images.detach() + 0.25, judge, student)


def test_losses_are_what_their_formulas_say(decoder: Decoder, judge: Labeller) -> None:
    student = untrained(ClassifierConfig(SHAPE, N_CLASSES, 8), 0)
    given = batch(decoder, judge, student)
    p, q = judge(given.images).softmax(1), student(given.images).softmax(1)
    mean = p.mean(0)
    expected = {
        "class": -p[torch.arange(12), given.labels].log().mean(),
        "anchor": torch.tensor(0.0625),
        "adversarial": -(p * (p / q).log()).sum(1).mean().clamp_max(4),
        "balance": (mean * mean.log()).sum(),
        "activation": -judge.coordinates(given.images).abs().mean(),
    }
    for name, value in expected.items():
        assert LOSSES[name](given).item() == pytest.approx(value.item(), rel=1e-4), name
    # All pixels moved by a quarter: class means by as much, spreads by nothing.
    moved = LOSSES["moments"](given).item()
    theirs = judge.coordinates(given.anchors) - judge.coordinates(given.images)
    assert moved >= 0.0625 and moved == pytest.approx(0.0625, abs=theirs.square().max().item())
    assert LOSSES["moments"](replace(given, anchors=given.images.detach())).item() == 0
    assert set(LOSSES) == set(RefinementSettings().weights)


def agreement(decoder: Decoder, judge: Labeller) -> float:
    labels = torch.arange(300) % N_CLASSES
    pixels = decoder.draw(labels, torch.Generator().manual_seed(3))
    return float((judge.label(pixels) == labels).float().mean())


def test_a_refined_generator_makes_more_of_what_the_teacher_takes_for_the_class(
    decoder: Decoder, judge: Labeller, tmp_path: Path
) -> None:
    before = copy.deepcopy(decoder.state_dict())
    settings = RefinementSettings(n_steps=40, batch_size=24, learning_rate=1e-2, anchor_weight=0.0)
    found = refine(decoder, judge, settings, STUDENT, work(tmp_path))
    assert agreement(found, judge) > agreement(decoder, judge) + 0.2
    assert all(torch.equal(t, before[name]) for name, t in decoder.state_dict().items())
    assert not any(p.requires_grad for p in found.parameters())


def test_an_anchor_holds_the_images_where_they_were(
    decoder: Decoder, judge: Labeller, tmp_path: Path
) -> None:
    labels, moved = torch.arange(30) % N_CLASSES, list[float]()
    for weight in (0.0, 1000.0):
        settings = RefinementSettings(
            n_steps=10, batch_size=24, learning_rate=1e-2, anchor_weight=weight
        )
        found = refine(decoder, judge, settings, STUDENT, work(tmp_path / str(weight)))
        ours, theirs = (
            one.draw(labels, torch.Generator().manual_seed(3)) for one in (found, decoder)
        )
        moved.append(float((ours - theirs).square().mean()))
    assert moved[1] < 0.1 * moved[0]


def test_a_weight_of_zero_builds_nothing_and_no_step_changes_nothing(
    decoder: Decoder, judge: Labeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object) -> None:
        raise AssertionError("a loss without a weight was computed, or a student was made")

    for name in ("moments", "adversarial", "balance", "activation", "vaccine"):
        monkeypatch.setitem(LOSSES, name, refused)
    monkeypatch.setattr(data_free, "untrained", refused)
    monkeypatch.setattr(data_free, "suspicious", refused)
    refine(decoder, judge, RefinementSettings(n_steps=1), STUDENT, work(tmp_path / "one"))
    monkeypatch.setitem(LOSSES, "class", refused)
    same = refine(decoder, judge, RefinementSettings(n_steps=0), STUDENT, work(tmp_path / "two"))
    for one, other in zip(same.parameters(), decoder.parameters(), strict=True):
        assert torch.equal(one, other)


class Seen(Lessons):
    """Notes the classes of all images that a step learns from."""

    def step(self, images: Tensor, labels: Tensor) -> None:
        plain, seen = functional.cross_entropy, list[int]()

        def noted(logits: Tensor, wanted: Tensor) -> Tensor:
            seen.extend((wanted.argmax(1) if wanted.ndim == 2 else wanted).tolist())
            return plain(logits, wanted)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dpgen.training.students.functional.cross_entropy", noted)
            super().step(images, labels)
        self.classes.append(seen)


def lessons(judge: Labeller, settings: StudentSettings) -> Seen:
    student = untrained(ClassifierConfig(SHAPE, N_CLASSES, 8), 0)
    found = Seen(student, judge, settings, torch.Generator().manual_seed(0))
    found.classes = []  # type: ignore[attr-defined]
    return found


def test_a_student_learns_only_from_images_on_which_the_teacher_agrees_unless_told_otherwise(
    judge: Labeller,
) -> None:
    pixels = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(4)) * 2 - 1
    taken = judge.label(pixels)
    asked = torch.where(torch.arange(20) < 8, taken, (taken + 1) % N_CLASSES)
    strict, lenient = (lessons(judge, replace(STUDENT, agreed=on)) for on in (True, False))
    strict.step(pixels, asked)
    lenient.step(pixels, asked)
    assert strict.classes == [taken[:8].tolist()] and lenient.classes == [asked.tolist()]
    strict.step(pixels[8:], asked[8:])  # nothing agrees: from the memory alone
    assert strict.classes[1] == taken[:8].tolist()
    idle = lessons(judge, STUDENT)
    before = copy.deepcopy(idle.student.state_dict())
    idle.step(pixels[8:], asked[8:])
    assert all(torch.equal(t, before[name]) for name, t in idle.student.state_dict().items())


def gradient_of_a_step(judge: Labeller, settings: StudentSettings) -> Tensor:
    """The gradient of a second step, on images other than the first."""
    rng = torch.Generator().manual_seed(7)
    first, second = (torch.rand(6, *SHAPE, generator=rng) * 2 - 1 for _ in range(2))
    one, labels = lessons(judge, settings), torch.arange(6) % N_CLASSES
    one.adam.param_groups[0]["lr"] = 0.0  # the weights stay; what a step would do is its gradient
    one.step(first, labels)
    one.adam.param_groups[0]["lr"] = settings.learning_rate
    one.step(second, labels)
    return torch.cat([p.grad.flatten() for p in one.student.parameters() if p.grad is not None])


def test_what_is_retained_is_the_loss_of_earlier_images_after_a_step_on_the_new_ones(
    judge: Labeller,
) -> None:
    base = replace(STUDENT, agreed=False)
    plain = gradient_of_a_step(judge, replace(base, learning_rate=1e-9))
    for rate, alike in ((1e-9, True), (0.3, False)):
        given = replace(base, learning_rate=rate)
        kept, without = (
            gradient_of_a_step(judge, replace(given, retain=on)) for on in (True, False)
        )
        assert torch.allclose(without, plain, atol=1e-6)
        assert torch.allclose(kept, plain, atol=1e-6) is alike


def test_mixed_images_have_labels_by_area(judge: Labeller) -> None:
    images = torch.arange(5.0)[:, None, None, None].expand(5, 1, 8, 6).contiguous()
    shares = set[float]()
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        mixed, targets = cut_mixed(images, torch.eye(5), rng)
        for k, (image, target) in enumerate(zip(mixed, targets, strict=True)):
            for value in range(5):
                area = float((image == value).float().mean())
                assert float(target[value]) == pytest.approx(area, abs=1e-6)
            shares.add(round(float(target[k]), 3))
    assert len(shares) > 10
    assert gradient_of_a_step(judge, replace(STUDENT, agreed=False, mixing=True)).abs().sum() > 0


def test_affinities_are_cosines_and_weigh_what_the_setting_says(judge: Labeller) -> None:
    found = affinities(torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]))
    half = 0.5**0.5
    assert torch.allclose(found, torch.tensor([[1, 0, half], [0, 1, half], [half, half, 1]]))
    base = replace(STUDENT, agreed=False)
    plain, one, two = (
        gradient_of_a_step(judge, replace(base, affinity=weight)) for weight in (0.0, 1.0, 2.0)
    )
    assert not torch.allclose(one, plain) and torch.allclose(two - one, one - plain, atol=1e-6)


def test_a_memory_forgets_the_oldest_images(judge: Labeller) -> None:
    one = lessons(judge, StudentSettings(n_steps=9, batch_size=4, memory=2, agreed=False))
    for k in range(5):
        one.step(torch.zeros(1, *SHAPE), torch.tensor([k % N_CLASSES]))
    assert [labels.item() for _, labels in one._memory] == [0, 1]
    assert [len(classes) for classes in one.classes] == [1, 2, 2, 2, 2]  # type: ignore[attr-defined]


def test_a_student_learns_what_the_generator_draws(
    decoder: Decoder, judge: Labeller, tmp_path: Path
) -> None:
    torch.nn.init.normal_(decoder.dense[0].weight, generator=torch.Generator().manual_seed(5))
    proposer = Proposer(ProposerConfig(decoder.config, 0.0))
    proposer.decoder = decoder.eval().requires_grad_(False)
    settings = StudentSettings(n_steps=40, batch_size=32, width=8, agreed=False)
    student = teach(proposer, judge, settings, work(tmp_path))
    labels = torch.arange(90) % N_CLASSES
    pixels = proposer.draw(labels, torch.Generator().manual_seed(6))
    assert float((student.label(pixels) == labels).float().mean()) > 0.8


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (RefinementSettings, {"n_steps": -1}), (RefinementSettings, {"batch_size": 0}),
        (RefinementSettings, {"learning_rate": 0.0}), (RefinementSettings, {"anchor_weight": -1.0}),
        (StudentSettings, {"n_steps": 0}), (StudentSettings, {"batch_size": 1}),
        (StudentSettings, {"width": 12}), (StudentSettings, {"memory": 0}),
        (StudentSettings, {"learning_rate": float("inf")}), (StudentSettings, {"affinity": -1.0}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else next(iter(value)),
)  # fmt: skip
def test_numbers_out_of_range_are_refused(make: type, wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        make(**wrong)


def test_a_refinement_without_a_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a loss"):
        RefinementSettings(class_weight=0.0, anchor_weight=0.0)
