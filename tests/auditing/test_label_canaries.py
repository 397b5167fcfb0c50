from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpgen.auditing.label_canaries import label_canary_scores, with_canaries
from dpgen.auditing.stand_ins import StandIns, neighbours
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts, to_float
from dpgen.privacy.accounting.accountant import Adjacency
from dpgen.privacy.lineage import keys
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.runs.released import load_network

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 30)
M = 30
COINS = np.random.default_rng(1).random(M) < 0.5
ADJACENCIES = pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])


class Remembering(nn.Module):
    """The image of every class that there is a record of; grey for the others."""

    def __init__(self, source: StandIns) -> None:
        super().__init__()
        self.images = dict(zip(source.labels.tolist(), to_float(source.pixels), strict=True))

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        grey = torch.zeros(noisy.shape[1:])
        return torch.stack([self.images.get(label, grey) for label in labels.tolist()])


class Learner:
    """A generator that remembers all records, or that learns nothing."""

    def __init__(self, seen: list[PrivateDataset], fixed: nn.Module | None = None) -> None:
        self._seen, self._fixed = seen, fixed
        self.networks: dict[str, nn.Module] = {}

    def fit(self, data: PrivateDataset, **given: Any) -> None:  # noqa: ANN401
        self._seen.append(data)
        self.networks = {"model": self._fixed or Remembering(data._source)}  # type: ignore[arg-type]


def learned_from(adjacency: Adjacency, coins: np.ndarray) -> tuple[PrivateDataset, np.ndarray]:
    seen: list[PrivateDataset] = []
    facts = replace(FACTS, adjacency=adjacency)
    scores = label_canary_scores(lambda: Learner(seen), facts, coins)
    (data,) = seen
    return data, scores


def reserved(data: PrivateDataset) -> dict[int, Tensor]:
    """By canary, its record."""
    source = data._source
    rows = zip(source.labels.tolist(), source.pixels, strict=True)  # type: ignore[attr-defined]
    return {label - FACTS.n_classes: image for label, image in rows if label >= FACTS.n_classes}


@ADJACENCIES
def test_canaries_that_are_out_are_not_there_or_are_the_negatives_of_themselves(
    adjacency: Adjacency,
) -> None:
    all_in = reserved(learned_from(adjacency, np.ones(M, bool))[0])
    data, _ = learned_from(adjacency, COINS)
    found = reserved(data)
    assert set(all_in) == set(range(M))
    if adjacency == "add_remove":
        assert set(found) == set(np.flatnonzero(COINS))
    else:
        assert set(found) == set(range(M))
    for canary, image in found.items():
        assert torch.equal(image, all_in[canary] if COINS[canary] else 255 - all_in[canary])
    # Each alone in its class, beside the same other records, and under facts that no coin moves.
    others, _ = neighbours(data.facts, 0)
    assert len(data._source) == len(others) + len(found)
    assert data.facts == with_canaries(replace(FACTS, adjacency=adjacency), M)
    assert (data.facts.n_records, data.facts.n_classes) == (30, 3 + M)


@ADJACENCIES
def test_one_coin_moves_one_record(adjacency: Adjacency) -> None:
    """So the coins choose between neighbours of the relation that the claim is about."""
    other = COINS.copy()
    other[7] ^= True
    one, two = (reserved(learned_from(adjacency, coins)[0]) for coins in (COINS, other))
    moved = {c for c in {*one, *two} if c not in one or c not in two or (one[c] != two[c]).any()}
    assert moved == {7}


@ADJACENCIES
def test_what_remembers_its_records_gives_every_canary_away(adjacency: Adjacency) -> None:
    _, scores = learned_from(adjacency, COINS)
    assert scores.shape == (M,) and scores[COINS].min() > scores[~COINS].max()


@ADJACENCIES
def test_scores_are_made_of_the_network_and_of_no_coin(adjacency: Adjacency) -> None:
    facts = replace(FACTS, adjacency=adjacency)
    fixed = Remembering(neighbours(facts, 0)[0])
    generator = torch.Generator().manual_seed(3)
    fixed.images |= {3 + i: torch.randn(1, 8, 8, generator=generator) for i in range(M)}
    found = [
        label_canary_scores(lambda: Learner([], fixed), facts, coins)
        for coins in (COINS, ~COINS, np.ones(M, bool))
    ]
    assert len(set(found[0])) == M
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


class FromFiles:
    """A generator of which nothing is known but what it wrote."""

    def __init__(self, generator: Any) -> None:  # noqa: ANN401
        self._generator = generator
        self.networks: Mapping[str, nn.Module] = {}

    def fit(self, data: PrivateDataset, *, out: Path, seed: int, show: bool) -> None:
        self._generator.fit(data, out=out, seed=seed, show=show)
        self.networks = {p.stem: load_network(p) for p in out.glob("*.safetensors")}


def trained(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, adjacency: Adjacency
) -> float:
    """How often a canary that is in has a higher score than one that is out."""
    source = random.Random(0)
    monkeypatch.setattr(keys, "new_key", lambda: source.randbytes(32))
    facts = replace(FACTS, adjacency=adjacency)
    scores = label_canary_scores(lambda: FromFiles(untrained("dpdm")), facts, COINS)
    return float((scores[COINS][:, None] > scores[~COINS]).mean())


@ADJACENCIES
def test_a_model_that_was_trained_without_noise_gives_every_canary_away(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, adjacency: Adjacency
) -> None:
    def add(self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        return total.double()

    monkeypatch.setattr(KeyedNoise, "add", add)
    assert trained(untrained, monkeypatch, adjacency) == 1.0


@ADJACENCIES
def test_a_private_model_gives_none_away(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, adjacency: Adjacency
) -> None:
    n_in = int(COINS.sum())
    error = ((M + 1) / (12 * n_in * (M - n_in))) ** 0.5  # of the rank sum, without any signal
    # At epsilon 0.3 no single guess is right more often than 0.57.
    assert abs(trained(untrained, monkeypatch, adjacency) - 0.5) < 3 * error + 0.07


@pytest.mark.parametrize(
    "coins", [np.ones(1, bool), np.ones((2, 2), bool), np.array([1, 0, 1])], ids=str
)
def test_coins_that_are_no_row_of_truth_values_are_refused(coins: np.ndarray) -> None:
    with pytest.raises(ValueError, match="coins must be a row of at least 2 truth values"):
        label_canary_scores(lambda: Learner([]), FACTS, coins)
