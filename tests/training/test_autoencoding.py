"""The autoencoder of drawn images, and a student that learns on its manifold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dpgen.networks.decoder import DecoderConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.networks.vae import VAE, VAEConfig
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware, Workplace
from dpgen.training.autoencoding import bound, fit, manifold
from dpgen.training.data_free_settings import StudentSettings
from dpgen.training.manifold_settings import ManifoldSettings
from dpgen.training.regularised import Regularised
from dpgen.training.students import untrained
from dpgen.training.voted import learn

SHAPE = (1, 8, 8)
SETTINGS = ManifoldSettings(n_images=24, n_epochs=2, batch_size=12, n_latents=3, n_moved=5)

pytestmark = pytest.mark.usefixtures("one_thread")


def work(place: Path) -> Workplace:
    return Workplace(Checkpoints(place), Hardware("cpu").accelerator(), None, 3, False)


@pytest.fixture
def proposer() -> Proposer:
    torch.manual_seed(0)
    return Proposer(ProposerConfig(DecoderConfig(SHAPE, 3, n_latents=4, width=16), 0.5))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 13, 10)])
def test_codes_and_images_depend_on_their_own_image_alone(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    vae = VAE(VAEConfig(shape, n_latents=5)).double()
    images = torch.rand(4, *shape).double() * 2 - 1
    mean, log_variance = vae.encode(images)
    made = vae.decode(mean)
    assert mean.shape == log_variance.shape == (4, 5) and made.shape == images.shape
    assert made.abs().max() < 1
    alone = [part[2:3] for part in (mean, log_variance, made)]
    again = vae.encode(images[2:3])
    for one, other in zip(alone, (*again, vae.decode(again[0])), strict=True):
        assert torch.allclose(one, other)


def test_the_bound_is_what_its_formula_says() -> None:
    torch.manual_seed(0)
    vae = VAE(VAEConfig(SHAPE, n_latents=3)).double()
    images, noise = torch.rand(2, *SHAPE).double(), torch.randn(2, 3).double()
    mean, log_variance = vae.encode(images)
    spread = torch.full(SHAPE, 0.3).double()
    made = torch.distributions.Normal(vae.decode(mean + noise * log_variance.exp().sqrt()), spread)
    code = torch.distributions.Normal(mean, log_variance.exp().sqrt())
    usual = torch.distributions.Normal(torch.zeros(()).double(), torch.ones(()).double())
    likely = made.log_prob(images) - torch.distributions.Normal(images, spread).log_prob(images)
    expected = torch.distributions.kl_divergence(code, usual).sum(1) - likely.flatten(1).sum(1)
    assert torch.allclose(bound(vae, images, noise, 0.3), expected)


def test_the_autoencoder_comes_to_make_the_images_and_a_saved_one_is_not_fitted_again(
    tmp_path: Path, proposer: Proposer
) -> None:
    rng = torch.Generator().manual_seed(1)
    images = functional.interpolate(torch.rand(60, 1, 2, 2, generator=rng) * 2 - 1, scale_factor=4)
    torch.manual_seed(0)
    vae = VAE(VAEConfig(SHAPE, 4))

    def error() -> float:
        with torch.no_grad():
            return functional.mse_loss(vae.decode(vae.encode(images)[0]), images).item()

    before = error()
    longer = ManifoldSettings(n_epochs=60, batch_size=30, n_latents=4)
    fit(vae, images, longer, generator=rng, show=False)
    assert error() < 0.3 * before
    found = manifold(proposer, SETTINGS, work(tmp_path))
    again = manifold(proposer, ManifoldSettings(n_latents=3, n_images=48), work(tmp_path))
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert not any(p.requires_grad for p in found.parameters())


@pytest.mark.parametrize("regularised", [True, False])
def test_a_student_learns_from_the_teacher_in_place_of_the_earlier_student(
    regularised: bool, proposer: Proposer
) -> None:
    """A teacher that takes every image for class 2 leaves images of class 2 alone, and a student
    without votes learns to say so.
    """
    teacher, student = (untrained(ClassifierConfig(SHAPE, 3, 8), seed) for seed in (0, 1))
    with torch.no_grad():
        teacher.network.head.weight.zero_()
        teacher.network.head.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    vae = VAE(VAEConfig(SHAPE, 3)) if regularised else None
    held = [weight.clone() for weight in teacher.parameters()]
    learn = Regularised(teacher, vae, SETTINGS)
    usual = StudentSettings(n_steps=25, batch_size=12)
    learn(
        student, proposer, Student(ClassifierConfig(SHAPE, 3, 8)), None, None, usual,
        generator=torch.Generator().manual_seed(0), show=False,
    )  # fmt: skip
    images = proposer.draw(torch.arange(30) % 3, torch.Generator().manual_seed(9))
    assert (student.label(images) == 2).all()
    assert all(torch.equal(a, b) for a, b in zip(held, teacher.parameters(), strict=True))


def test_every_step_regularises_all_drawn_images_also_those_that_no_label_is_left_for(
    proposer: Proposer,
) -> None:
    """A judge that agrees with no class that is asked for leaves the further loss alone."""
    student, nobody = (untrained(ClassifierConfig(SHAPE, 4, 8), seed) for seed in (0, 1))
    with torch.no_grad():
        nobody.network.head.weight.zero_()
        nobody.network.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 9.0]))
    sizes = []

    def to_class_1(student: Student, pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return functional.cross_entropy(student(pixels), torch.ones(len(pixels)).long())

    learn(
        student, proposer, nobody, None, None, StudentSettings(n_steps=15, batch_size=10),
        generator=torch.Generator().manual_seed(0), show=False, regularise=to_class_1,
    )  # fmt: skip
    assert sizes == [5] * 15
    images = proposer.draw(torch.arange(30) % 3, torch.Generator().manual_seed(9))
    assert (student.label(images) == 1).all()
