"""Networks of others: their estimate of the clean image is that of the scheduler they were made
for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.variant import Variant
from dpgen.privacy.mechanisms.draws import KEY_BYTES, Draws
from dpgen.privacy.mechanisms.gradients import per_record_gradients
from dpgen.runs.kinds import numbers_of
from dpgen.settings import from_dict
from dpgen.stages.denoising import DenoisingObjective
from dpgen.training.denoising import NoiseLevels

pytestmark = pytest.mark.usefixtures("one_thread")


def network(variant: Variant | None) -> Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Denoiser(DenoiserConfig((1, 8, 8), 2, (8,), 1, (0,), 4, variant=variant))
        torch.nn.init.normal_(made.unet.get_submodule("conv_out").weight, std=0.1)
    return made


def scheduler(variant: Variant) -> Any:  # noqa: ANN401
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        variant.n_steps, variant.beta_start, variant.beta_end, variant.beta_schedule,
        prediction_type=variant.target, clip_sample=False,
    )  # fmt: skip


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_the_noise_levels_are_those_of_the_scheduler(schedule: str) -> None:
    network(None)  # which makes diffusers importable
    variant = Variant("epsilon", schedule, n_steps=200)
    kept = scheduler(variant).alphas_cumprod.double()
    found = torch.tensor(variant.log_sigmas(), dtype=torch.float64)
    torch.testing.assert_close(found, ((1 - kept) / kept).log() / 2, rtol=1e-3, atol=1e-3)
    assert (found.diff() > 0).all()
    # At a level the step is that level, between two it is between them, beyond the ends the end.
    sigmas = torch.tensor([found[0] - 1, found[7], (found[7] + found[8]) / 2, found[-1] + 9]).exp()
    *_, steps = variant.coefficients(sigmas, found)
    assert steps.tolist() == pytest.approx([0.0, 7.0, 7.5, 199.0], abs=1e-3)


@pytest.mark.parametrize("target", ["epsilon", "v_prediction"])
def test_the_clean_image_is_that_of_the_scheduler(target: str) -> None:
    made = network(variant := Variant(target))
    other, levels = scheduler(variant), made.log_sigmas.double()
    x0 = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    for step in (0, 10, 500, 999):
        sigma = math.exp(levels[step])
        labels = torch.tensor([0, 1, 2, 0])
        x = x0 + sigma * z
        seen = x / math.sqrt(1 + sigma**2)
        with torch.no_grad():
            found = made(x, torch.full((4,), sigma), labels)
            put_out = made.unet(seen, torch.full((4,), float(step)), class_labels=labels).sample
        expected = other.step(put_out, step, seen).pred_original_sample
        apart = (found - expected).abs().max() / expected.abs().max()
        assert apart < 2e-3, step


@pytest.mark.parametrize("target", ["epsilon", "v_prediction"])
def test_both_engines_find_the_gradients_of_a_variant(target: str) -> None:
    objective = DenoisingObjective(network(Variant(target)), NoiseLevels(n_draws=2))
    draws = objective.draw(Draws(bytes(KEY_BYTES), np.arange(2), torch.device("cpu")))
    pixels = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(4)) * 2 - 1
    batch = (pixels, torch.tensor([0, 1]), draws)
    parameters = {name: p.detach() for name, p in objective.denoiser.named_parameters()}
    assert objective.loss.gradients(parameters, *batch) is not None  # agrees with vmap in float64
    found = per_record_gradients(objective.loss, parameters, batch)
    for k in range(2):
        alone = torch.func.grad(lambda w, *row: objective.loss(w, *row))(
            parameters, pixels[k], batch[1][k], {name: t[k] for name, t in draws.items()}
        )
        for name, gradient in alone.items():
            torch.testing.assert_close(found[name][k], gradient, rtol=1e-3, atol=1e-4)


def test_a_file_says_so_only_where_there_is_a_variant() -> None:
    assert "variant" not in numbers_of(network(None))
    made = network(Variant("v_prediction", freq_shift=1))
    assert from_dict(DenoiserConfig, numbers_of(made)) == made.config
    assert not [name for name in made.state_dict() if "log_sigmas" in name]


def test_what_no_scheduler_has_is_refused() -> None:
    for name, value in (("target", "x"), ("n_steps", 1), ("norm_eps", 0.0), ("freq_shift", 2)):
        with pytest.raises(ValueError, match=name):
            Variant(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target epsilon has no prior"):
        DenoiserConfig((1, 8, 8), 1, (8,), 1, (), 4, prior_bands=2, variant=Variant("epsilon"))
