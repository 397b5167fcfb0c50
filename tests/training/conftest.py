"""A released teacher, as tests of students need one."""

from __future__ import annotations

import pytest
import torch

from dpgen.networks.denoiser import Denoiser, DenoiserConfig


@pytest.fixture(scope="module")
def teacher() -> Denoiser:
    """An untrained network that is not only its skip connection."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Denoiser(DenoiserConfig.preset("tiny", (1, 8, 8), 3))
        torch.nn.init.normal_(network.unet.get_submodule("conv_out").weight, std=0.1)
    return network.eval().requires_grad_(False)
