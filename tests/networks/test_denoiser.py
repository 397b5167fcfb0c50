from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad

from dpgen.configurations.pge import PGESettings
from dpgen.images.facts import PublicFacts
from dpgen.networks.denoiser import PRESETS, Denoiser, DenoiserConfig, coefficients
from dpgen.networks.denoiser_config import Preset, preset_for
from dpgen.settings import from_dict
from dpgen.stages.teacher_settings import TeacherSettings

CONFIG = DenoiserConfig((2, 8, 8), 3, (8, 16), 1, (1,), 4, sigma_data=0.7, n_reserved=2)
SIGMAS = torch.tensor([1e-4, 0.01, 0.7, 3.0, 80.0], dtype=torch.float64)


def trained_denoiser(config: DenoiserConfig = CONFIG) -> Denoiser:
    """A denoiser in float64 whose last convolution is no longer zero."""
    generator = torch.Generator().manual_seed(1)
    denoiser = Denoiser(config).double()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.05 * noise)
    return denoiser


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return trained_denoiser()


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_network_input_has_unit_variance() -> None:
    c = coefficients(SIGMAS, 0.7)
    torch.testing.assert_close(c.input**2 * (SIGMAS**2 + 0.7**2), torch.ones_like(SIGMAS))


def test_network_target_has_unit_variance() -> None:
    # The target is (x_0 - c_skip (x_0 + sigma z)) / c_out.
    c = coefficients(SIGMAS, 0.7)
    variance = ((1 - c.skip) ** 2 * 0.7**2 + c.skip**2 * SIGMAS**2) / c.out**2
    torch.testing.assert_close(variance, torch.ones_like(SIGMAS))


def test_skip_weight_minimises_what_the_network_must_add() -> None:
    # Karras et al., equation 122: c_out as a function of c_skip has its minimum at c_skip.
    skip = coefficients(SIGMAS, 0.7).skip.requires_grad_()
    (slope,) = torch.autograd.grad(((1 - skip) ** 2 * 0.7**2 + skip**2 * SIGMAS**2).sum(), skip)
    assert slope.abs().max() < 1e-12 * SIGMAS.max() ** 2


def test_clean_images_pass_unchanged_as_sigma_vanishes(
    denoiser: Denoiser, draw: Callable[..., Tensor]
) -> None:
    x, labels = draw(3, 2, 8, 8), torch.tensor([0, 1, 2])
    error = [
        (denoiser(x, torch.full((3,), sigma, dtype=torch.float64), labels) - x).abs().max()
        for sigma in (1e-5, 1e-6)
    ]
    # c_out is linear in sigma.
    assert error[0] < 1e-4
    assert error[1] < 0.2 * error[0]


def test_untrained_denoiser_knows_the_score_of_a_gaussian(
    draw: Callable[..., Tensor],
) -> None:
    x, labels = draw(5, 2, 8, 8), torch.zeros(5, dtype=torch.int64)
    score = Denoiser(CONFIG).double().score_fn(labels)(x, SIGMAS)
    torch.testing.assert_close(
        score, -x / (SIGMAS**2 + 0.7**2)[:, None, None, None], rtol=1e-6, atol=0
    )


def test_score_is_the_denoising_direction(denoiser: Denoiser, draw: Callable[..., Tensor]) -> None:
    x, labels = draw(5, 2, 8, 8), torch.tensor([0, 1, 2, 3, 5])
    expected = (denoiser(x, SIGMAS, labels) - x) / SIGMAS[:, None, None, None] ** 2
    torch.testing.assert_close(denoiser.score_fn(labels)(x, SIGMAS), expected)


def test_score_takes_one_sigma_for_all(denoiser: Denoiser, draw: Callable[..., Tensor]) -> None:
    x, labels = draw(4, 2, 8, 8), torch.tensor([0, 1, 2, 3])
    score_fn = denoiser.score_fn(labels, guidance=0.5)
    sigma = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(score_fn(x, sigma), score_fn(x, sigma.expand(4)))


def test_guidance_extrapolates_from_the_null_score(
    denoiser: Denoiser, draw: Callable[..., Tensor]
) -> None:
    x, labels, sigma = draw(3, 2, 8, 8), torch.tensor([0, 1, 2]), SIGMAS[1:4]
    conditional = denoiser.score_fn(labels)(x, sigma)
    null = denoiser.score_fn(torch.full((3,), denoiser.null_label))(x, sigma)
    assert not torch.allclose(conditional, null)
    torch.testing.assert_close(denoiser.score_fn(labels, guidance=0.0)(x, sigma), conditional)
    torch.testing.assert_close(denoiser.score_fn(labels, guidance=-1.0)(x, sigma), null)
    torch.testing.assert_close(
        denoiser.score_fn(labels, guidance=2.0)(x, sigma), 3 * conditional - 2 * null
    )


def test_a_label_reaches_only_its_own_embedding_row(
    denoiser: Denoiser, draw: Callable[..., Tensor]
) -> None:
    x, sigma = draw(1, 2, 8, 8), SIGMAS[2:3]
    name = "unet.class_embedding.weight"
    for label in (1, denoiser.null_label, denoiser.null_label + 2):

        def loss(weight: Tensor, label: int = label) -> Tensor:
            return (
                functional_call(denoiser, {name: weight}, (x, sigma, torch.tensor([label])))
                .square()
                .sum()
            )

        rows = grad(loss)(denoiser.get_parameter(name)).norm(dim=1) > 0
        assert rows.nonzero().flatten().tolist() == [label]


def test_embedding_has_classes_then_null_then_reserved(denoiser: Denoiser) -> None:
    assert denoiser.null_label == denoiser.n_classes == 3
    assert denoiser.get_parameter("unet.class_embedding.weight").shape[0] == 3 + 1 + 2


def test_output_keeps_the_dtype_of_the_images(draw: Callable[..., Tensor]) -> None:
    denoiser = trained_denoiser().float()
    x, labels = draw(3, 2, 8, 8), torch.tensor([0, 1, 2])
    wide = denoiser(x, SIGMAS[1:4], labels)
    assert wide.dtype == torch.float64
    half = denoiser(x.bfloat16(), SIGMAS[1:4], labels)
    assert half.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits; the difference is that of its input and output rounding.
    assert (half - wide).norm() < 2**-7 * wide.norm()


FED = dataclasses.replace(CONFIG, prior_bands=15, prior_input=True)


def with_moments(config: DenoiserConfig, mean: float, variance: float) -> Denoiser:
    """A denoiser over N(mean, variance I), in float64 and its weights moved."""
    denoiser, prior, d = trained_denoiser(config), Denoiser(config).prior, 2 * 8 * 8
    assert denoiser.prior is not None and prior is not None
    prior.set(torch.full((3, d), mean), variance * torch.eye(d).expand(3, d, d), variance**0.5)
    denoiser.prior.load_state_dict(prior.state_dict())
    return denoiser


def test_a_fed_network_is_told_the_training_target_of_its_prior(
    draw: Callable[..., Tensor],
) -> None:
    """c_skip x + c_out F_0 is the prior's image; the other channels are c_in x, as ever."""
    denoiser, x, labels = with_moments(FED, -0.4, 0.3), draw(5, 2, 8, 8), torch.arange(5) % 3
    seen: list[Tensor] = []
    denoiser.unet.register_forward_pre_hook(lambda unet, args: seen.append(args[0]))
    denoiser(x, SIGMAS, labels)
    c = coefficients(SIGMAS, 0.7)
    skip, out, scale = (a[:, None, None, None] for a in (c.skip, c.out, c.input))
    assert denoiser.prior is not None
    own, told = seen[0].chunk(2, 1)
    torch.testing.assert_close(own, scale * x)
    expected = denoiser.prior(x, SIGMAS, labels)
    torch.testing.assert_close(skip * x + out * told, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", [0.33, 1e-8])
def test_what_a_fed_network_is_told_is_at_most_of_unit_scale_at_every_sigma(
    variance: float, draw: Callable[..., Tensor]
) -> None:
    """Data of second moment sigma_data^2 from the prior itself: E[F_0^2] <= 1, and 1 where the
    prior knows the image."""
    mean = -((0.7**2 - variance) ** 0.5)
    denoiser = with_moments(FED, mean, variance)
    seen: list[Tensor] = []
    denoiser.unet.register_forward_pre_hook(lambda unet, args: seen.append(args[0]))
    for sigma in (1e-3, 0.1, 1.0, 80.0):
        x = mean + variance**0.5 * draw(64, 2, 8, 8) + sigma * draw(64, 2, 8, 8)
        denoiser(x, torch.full((64,), sigma).double(), torch.zeros(64, dtype=torch.int64))
        second = seen.pop().chunk(2, 1)[1].square().mean().item()
        # 8,192 squares of normal numbers: 6 standard errors are 0.094.
        assert second < 1.1
        assert variance > 0.1 or second > 0.9


def test_a_fed_network_before_training_is_its_prior(draw: Callable[..., Tensor]) -> None:
    denoiser = Denoiser(FED).double()
    x, labels = draw(5, 2, 8, 8), torch.tensor([0, 1, 2, 3, 3])
    assert denoiser.prior is not None
    torch.testing.assert_close(denoiser(x, SIGMAS, labels), denoiser.prior(x, SIGMAS, labels))


def test_feeding_the_prior_changes_what_a_trained_network_says(
    draw: Callable[..., Tensor],
) -> None:
    denoiser, x, labels = with_moments(FED, -0.4, 0.3), draw(5, 2, 8, 8), torch.arange(5) % 3
    before = denoiser(x, SIGMAS, labels)
    with torch.no_grad():
        denoiser.unet.get_parameter("conv_in.weight")[:, 2:].zero_()
    assert not torch.allclose(denoiser(x, SIGMAS, labels), before)


def test_a_configuration_of_before_prior_input_is_read_and_means_what_it_meant() -> None:
    old = json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    del old["prior_input"]
    config = from_dict(DenoiserConfig, old)
    assert config == CONFIG and config.prior_input is False
    shapes = {k: v.shape for k, v in Denoiser(config).state_dict().items()}
    assert shapes["unet.conv_in.weight"] == (8, 2, 3, 3)
    fed = Denoiser(dataclasses.replace(config, prior_bands=2, prior_input=True)).state_dict()
    assert fed["unet.conv_in.weight"].shape == (8, 4, 3, 3)


def test_a_network_without_a_prior_cannot_be_fed_one() -> None:
    with pytest.raises(ValueError, match="prior_input needs a prior"):
        dataclasses.replace(CONFIG, prior_input=True)


@pytest.mark.parametrize(
    ("preset", "shape", "n_levels", "attention"),
    [
        ("tiny", (1, 8, 8), 2, ()),
        ("small", (1, 28, 28), 3, (2,)),
        ("small", (3, 32, 32), 3, (2,)),
        ("base", (3, 64, 64), 4, (2, 3)),
        ("base", (3, 256, 256), 6, (4, 5)),
        ("base", (3, 64, 32), 4, (2, 3)),
    ],
)
def test_presets_fit_their_images(
    preset: str, shape: tuple[int, int, int], n_levels: int, attention: tuple[int, ...]
) -> None:
    config = DenoiserConfig.preset(preset, shape, 10)
    assert len(config.block_out_channels) == n_levels
    assert config.attention_levels == attention


def test_preset_sizes_stay_what_the_defaults_were_chosen_for() -> None:
    shapes = {"tiny": (1, 8, 8), "small": (1, 28, 28)}
    bounds = {"tiny": (50e3, 300e3), "small": (0.5e6, 1.5e6)}
    for name, (low, high) in bounds.items():
        denoiser = Denoiser(DenoiserConfig.preset(name, shapes[name], 10))
        assert low < sum(parameter.numel() for parameter in denoiser.parameters()) < high


def test_sides_that_cannot_be_halved_are_refused_and_presets_named() -> None:
    with pytest.raises(ValueError, match=r"divisible by 4 .* 28x30.* tiny .* small .* base"):
        DenoiserConfig.preset("small", (1, 28, 30), 10)
    with pytest.raises(ValueError, match="divisible by 8 for 4 levels, got 28x28"):
        DenoiserConfig((1, 28, 28), 10, (8, 8, 8, 8), 1, (), 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (0, 8, 8)}, "shape must be"),
        ({"n_classes": 0}, "n_classes must be at least 1"),
        ({"block_out_channels": ()}, "block_out_channels must name"),
        ({"block_out_channels": (8, 18)}, "multiples of norm_groups 4"),
        ({"layers_per_block": 0}, r"layers_per_block must lie in 1\.\.16, got 0"),
        ({"layers_per_block": 17}, r"layers_per_block must lie in 1\.\.16, got 17"),
        ({"norm_groups": 0}, "norm_groups must be"),
        ({"attention_levels": (2,)}, r"attention_levels must lie in \[0, 2\)"),
        ({"sigma_data": 0.0}, "sigma_data must be positive"),
        ({"n_reserved": -1}, "n_reserved must be"),
    ],
)
def test_impossible_numbers_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]


def test_a_network_that_nobody_could_read_again_is_refused_before_it_is_trained() -> None:
    """What a run pays for, `dpgen.runs.released` must read."""
    own = {"shape": (1, 256, 256), "n_classes": 2, "prior_bands": 180}
    assert DenoiserConfig.preset("tiny", **own).prior_bands == 180  # 16290 cosines
    with pytest.raises(ValueError, match="at most 16384 cosines, got 181, which keep 16471"):
        DenoiserConfig.preset("tiny", **own | {"prior_bands": 181})


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=f"must be one of {', '.join(PRESETS)}, got 'smal'"):
        DenoiserConfig.preset("smal", (1, 28, 28), 10)


@pytest.mark.parametrize(
    ("side", "default", "refit"),
    [
        (8, "tiny", "tiny"), (16, "tiny", "tiny"), (17, "small", "quick"), (32, "small", "quick"),
        (33, "base", "quick"), (1024, "base", "quick"),
    ],
)  # fmt: skip
def test_the_longer_side_decides_which_preset_is_taken(side: int, default: str, refit: str) -> None:
    shape = (1, 4, side)
    assert preset_for(shape) == default and preset_for(shape, refit=True) == refit
    assert preset_for(shape, "quick") == preset_for(shape, "quick", refit=True) == "quick"


def test_a_row_is_all_that_a_preset_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Preset((8,), 1, 8, 99, 0, "tests", default_up_to=9)
    monkeypatch.setitem(PRESETS, "toy", row)
    assert preset_for((1, 8, 8)) == "toy" and preset_for((1, 16, 16)) == "tiny"
    assert preset_for((1, 8, 8), refit=True) == "tiny"
    assert DenoiserConfig.preset("toy", (1, 8, 8), 3).block_out_channels == (8,)
    facts = PublicFacts((1, 8, 8), ("a", "b"), 9000, "add_remove", origin="stated")
    assert TeacherSettings().resolved(facts).preset == "toy"
    assert TeacherSettings().resolved(facts).n_steps == row.teacher["n_steps"]
    for preset in PRESETS:  # the methods' own defaults, too
        settings = PGESettings(teacher=TeacherSettings(preset=preset))
        assert settings.resolved(facts).teacher.residual == "fed"


def test_configuration_survives_json() -> None:
    assert from_dict(DenoiserConfig, json.loads(json.dumps(dataclasses.asdict(CONFIG)))) == CONFIG
    with pytest.raises(ValueError, match="unknown setting 'n_class': the nearest is 'n_classes'"):
        from_dict(DenoiserConfig, {**dataclasses.asdict(CONFIG), "n_class": 3})


def test_wrong_shapes_and_labels_are_refused(denoiser: Denoiser) -> None:
    x, labels = torch.zeros(2, 2, 8, 8), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"x must have shape \(B, 2, 8, 8\), got \(2, 2, 8, 9\)"):
        denoiser(torch.zeros(2, 2, 8, 9), torch.ones(2), labels)
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(\) and \(2,\)"):
        denoiser(x, torch.tensor(1.0), labels)
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(2,\) and \(1,\)"):
        denoiser.score_fn(torch.tensor([0]))(x, torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 6\), got 0 to 6"):
        denoiser.score_fn(torch.tensor([0, 6]))
    with pytest.raises(ValueError, match="labels must be int64"):
        denoiser.score_fn(torch.tensor([0.0, 1.0]))


def test_scoring_leaves_the_labels_alone(denoiser: Denoiser) -> None:
    labels = torch.tensor([0, 1])
    denoiser.score_fn(labels, guidance=1.0)(torch.zeros(2, 2, 8, 8).double(), torch.tensor(1.0))
    assert labels.tolist() == [0, 1]
