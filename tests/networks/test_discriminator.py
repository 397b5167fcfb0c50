from __future__ import annotations

import pytest
import torch

from dpgen.networks.discriminator import Discriminator


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (1, 28, 28), (3, 33, 47), (3, 256, 256)])
def test_one_logit_per_pair_for_images_of_any_size(shape: tuple[int, int, int]) -> None:
    discriminator = Discriminator(shape, 2, width=8)
    channels, height, width = shape
    pairs = torch.zeros(2, 2 * channels, height, width)
    assert discriminator(pairs, torch.ones(2), torch.tensor([0, 2])).shape == (2,)


def test_it_learns_which_half_is_noisier() -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        discriminator = Discriminator((1, 8, 8), 2, width=8)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)

    def batch(n: int) -> tuple[torch.Tensor, ...]:
        noisy_first = torch.rand(n, generator=generator) < 0.5
        halves = (
            torch.randn(n, 2, 8, 8, generator=generator) * torch.tensor([1.0, 0.5])[:, None, None]
        )
        pairs = torch.where(noisy_first[:, None, None, None], halves, halves.flip(1))
        return pairs, torch.rand(n, generator=generator) + 0.1, noisy_first

    for _ in range(60):
        pairs, sigma, noisy_first = batch(32)
        logits = discriminator(pairs, sigma, torch.zeros(32, dtype=torch.int64))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, noisy_first.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pairs, sigma, noisy_first = batch(200)
    logits = discriminator(pairs, sigma, torch.zeros(200, dtype=torch.int64))
    # Guessing gives 0.5 with a standard deviation of 0.035.
    assert ((logits > 0) == noisy_first).float().mean() > 0.8


def test_wrong_shapes_and_numbers_are_refused() -> None:
    discriminator = Discriminator((3, 8, 8), 2, width=8)
    labels = torch.tensor([0, 1])
    with pytest.raises(
        ValueError, match=r"pairs must have shape \(B, 6, 8, 8\), got \(2, 3, 8, 8\)"
    ):
        discriminator(torch.zeros(2, 3, 8, 8), torch.ones(2), labels)
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(1,\) and \(2,\)"):
        discriminator(torch.zeros(2, 6, 8, 8), torch.ones(1), labels)
    with pytest.raises(ValueError, match="sides of at least 4"):
        Discriminator((1, 3, 8), 2)
    with pytest.raises(ValueError, match="n_classes must be at least 1"):
        Discriminator((1, 8, 8), 0)
    with pytest.raises(ValueError, match="width must be a positive multiple of 8, got 12"):
        Discriminator((1, 8, 8), 2, width=12)
