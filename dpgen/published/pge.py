r"""PGE as published, for study: sliced score matching with randomised response on the projections.

A public list of k projection vectors; each record has the index of one, drawn uniformly, and
reports it by k-ary randomised response: the true index with probability e^eps / (e^eps + k - 1),
every other one with 1 / (e^eps + k - 1). The score is then fitted to the raw images along the
reported vectors, with nothing else between the images and the weights:

    v'(ds/dx)v + (v's)^2 / 2   at x + sigma z,   v the reported vector

The true index is drawn independently of the record, so the reported one is uniform too, whatever
epsilon is: training has exactly the distribution of sliced score matching without privacy. Proof:
theorem P2.

Reference: Liu et al. (2024), "Private Gradient Estimation is Useful for Generative Modeling",
arXiv 2305.10662, as reconstructed; loss: Song, Garg, Shi, Ermon (2020), arXiv 1905.07088.
"""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.networks.denoiser import Denoiser
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.notice import Claim, unbounded
from dpgen.published import unprotected
from dpgen.published.pge_settings import PaperSettings
from dpgen.runs.context import Workplace
from dpgen.training.score_matching import signs, sliced

MECHANISM = "pge/paper"
CLAIMED_BY = "k-ary randomised response on each record's projection index"
REASON = (
    "The randomised index is drawn without looking at the record, so the reported one is uniform "
    "whatever epsilon is, and training has the law of score matching without privacy. The images "
    "themselves enter the loss with neither clip nor noise."
)


def claim(settings: PaperSettings, facts: PublicFacts, budget: Budget) -> Claim:
    """States the budget, which randomised response claims to keep, and the true worst case."""
    return Claim(
        mechanism=MECHANISM,
        claimed_epsilon=budget.epsilon,
        claimed_by=CLAIMED_BY,
        worst_case=unbounded(budget.delta),
        reason=REASON,
        reference="theorem P2",
        settings={**asdict(settings), "epsilon_of_response": budget.epsilon},
    )


def respond(truth: np.ndarray, k: int, epsilon: float, rng: np.random.Generator) -> np.ndarray:
    """Applies k-ary randomised response to true indices in [0, k), (N,); returns the reports."""
    # e^eps / (e^eps + k - 1), which does not overflow.
    keep = rng.random(len(truth)) < 1 / (1 + (k - 1) * math.exp(-epsilon))
    other = (truth + rng.integers(1, k, len(truth))) % k
    return np.where(keep, truth, other)


def train(
    settings: PaperSettings,
    facts: PublicFacts,
    data: PrivateDataset,
    claim: Claim,
    work: Workplace,
) -> Denoiser:
    """Runs the published algorithm, and returns the network of the score."""
    s, device = settings, work.accelerator.device
    records, _ = data.unprotected_records(claim)
    images = unprotected.read_all(records)
    network = unprotected.untrained(s.preset, facts, work.seed).to(device)
    rng = np.random.default_rng(work.seed)
    vectors = torch.from_numpy(signs(rng, (s.n_projections, *facts.shape))).float()
    truth = rng.integers(0, s.n_projections, len(images.labels))
    epsilon = float(claim.settings["epsilon_of_response"])
    reported = torch.from_numpy(respond(truth, s.n_projections, epsilon, rng))
    low, high = math.log(s.sigma_min), math.log(s.sigma_max)

    def loss(x: Tensor, y: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        sigma = (low + (high - low) * torch.rand(y.shape, generator=generator)).exp().to(device)
        z = torch.randn(x.shape, generator=generator).to(device)
        v = vectors[reported[rows]].to(device)
        # sigma^2 weighs the noise levels alike, as in annealed score matching.
        return sigma**2 * sliced(network.score_fn(y), x, sigma, z, v) / x[0].numel()

    schedule = unprotected.Schedule(
        "score (unprotected)", s.n_steps, s.batch, s.learning_rate, s.ema_decay
    )
    unprotected.fit(network, images, loss, schedule, work)
    return network.eval().requires_grad_(False)
