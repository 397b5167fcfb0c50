from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from dpgen.privacy.mechanisms.noise import KeyedNoise, new_key

N = 1_000_000


def noise_of(noise: KeyedNoise, n: int = N, release: int = 0, name: str = "w") -> np.ndarray:
    """The bare noise, std 1."""
    return noise.add(torch.zeros(n), 1.0, release=release, name=name).numpy()


def correlation_z(a: np.ndarray, b: np.ndarray) -> float:
    """Standard errors that the sample correlation is away from 0."""
    return float(np.corrcoef(a, b)[0, 1] * np.sqrt(len(a)))


@pytest.fixture(scope="module")
def keyed() -> KeyedNoise:
    return KeyedNoise(bytes(range(32)), "plan")


@pytest.fixture(scope="module")
def million(keyed: KeyedNoise) -> np.ndarray:
    return noise_of(keyed)


def test_noise_has_the_normal_law(million: np.ndarray) -> None:
    """5 standard errors of the std at 1e6 draws are 0.35 %; of the mean, 0.005."""
    assert million.std() == pytest.approx(1, rel=3.5e-3)
    assert abs(million.mean()) < 5e-3
    assert stats.kstest(million, "norm").pvalue > 1e-4
    assert abs(stats.kurtosis(million)) < 5 * np.sqrt(24 / N)
    assert len(np.unique(million)) == N


def test_noise_reaches_far_into_the_tails(million: np.ndarray) -> None:
    """P(|z| > 4.5) = 6.8e-6: about 7 of a million."""
    assert 0 < (np.abs(million) > 4.5).sum() < 25


def test_the_standard_deviation_is_the_one_asked_for(keyed: KeyedNoise) -> None:
    total = torch.full((N,), 1e3, dtype=torch.float64)
    noised = keyed.add(total, 7.25, release=0, name="w")
    assert noised.dtype == torch.float64
    noise = (noised - total).numpy() / 7.25
    assert noise.std() == pytest.approx(1, rel=3.5e-3)
    assert abs(noise.mean()) < 5e-3
    assert stats.kstest(noise, "norm").pvalue > 1e-4


def test_the_noise_of_two_sums_is_independent_however_alike_they_are(keyed: KeyedNoise) -> None:
    """One bit of one coordinate: an answer repeats where its sum does, and nowhere else."""
    n = 200_000
    total = torch.zeros(n, dtype=torch.float64)
    other = total.clone()
    other[n - 1] = 5e-324
    first = keyed.add(total, 2.0, release=4, name="w").numpy()
    second = keyed.add(other, 2.0, release=4, name="w").numpy()
    np.testing.assert_array_equal(first, keyed.add(total.clone(), 2.0, release=4, name="w"))
    assert not np.isin(first, second).any()
    assert abs(correlation_z(first, second)) < 6
    assert abs(correlation_z(first**2, second**2)) < 6
    # The noise of a difference of two answers is sqrt(2) times that of one.
    assert (first - second).std() == pytest.approx(2 * 2**0.5, rel=1e-2)


def test_the_law_of_the_noise_is_the_same_whatever_the_sum(keyed: KeyedNoise) -> None:
    """The noise tells nothing of what it was keyed by."""
    sums = torch.logspace(-6, 6, 2000, dtype=torch.float64)
    noised = [keyed.add(x[None], 1.0, release=i, name="w") for i, x in enumerate(sums)]
    noise = (torch.cat(noised) - sums).numpy()
    assert stats.kstest(noise, "norm").pvalue > 1e-4
    assert abs(correlation_z(noise, np.log10(sums.numpy()))) < 6
    assert abs(correlation_z(noise**2, np.log10(sums.numpy()))) < 6


def test_one_sum_at_two_widths_has_two_noises(keyed: KeyedNoise) -> None:
    """Else their difference, at the known widths, would give the sum away."""
    one, other = (keyed.add(torch.zeros(200_000), s, release=0, name="w") / s for s in (1.0, 2.0))
    assert abs(correlation_z(one.numpy(), other.numpy())) < 6


def test_another_question_has_other_noise_coins_and_draws(keyed: KeyedNoise) -> None:
    one, other = keyed.for_question("a"), keyed.for_question("b")
    n = 200_000
    assert abs(correlation_z(noise_of(one, n), noise_of(other, n))) < 6
    assert abs(correlation_z(noise_of(one, n), noise_of(keyed, n))) < 6
    tossed = [x.coins(n, 0.5, release=0) for x in (one, other, keyed.for_question("a"))]
    np.testing.assert_array_equal(tossed[0], tossed[2])
    both = len(np.intersect1d(tossed[0], tossed[1]))
    assert abs(both - n / 4) < 6 * np.sqrt(n * 3 / 16)
    drawn = [x.draws(np.array([3]), release=0).normal(n)[0].numpy() for x in (one, other)]
    assert abs(correlation_z(*drawn)) < 6
    # A question is bound to a copy: the source itself asks nothing.
    np.testing.assert_array_equal(noise_of(keyed, 9), noise_of(keyed.for_question(""), 9))


def test_an_odd_number_of_coordinates_gets_noise_on_every_one(keyed: KeyedNoise) -> None:
    for n in (1, 2, 3, 7):
        values = noise_of(keyed, n)
        assert values.shape == (n,)
        assert len(np.unique(values)) == n
        assert (values != 0).all()


@pytest.mark.parametrize(
    "other",
    ["release", "name", "plan", "key"],
)
def test_two_releases_tensors_plans_and_keys_share_no_noise(other: str, keyed: KeyedNoise) -> None:
    n = 200_000
    first = noise_of(keyed, n)
    second = {
        "release": lambda: noise_of(keyed, n, release=1),
        "name": lambda: noise_of(keyed, n, name="b"),
        "plan": lambda: noise_of(KeyedNoise(bytes(range(32)), "plam"), n),
        "key": lambda: noise_of(KeyedNoise(bytes(31) + b"\x01", "plan"), n),
    }[other]()
    assert not np.isin(first, second).any()
    assert abs(correlation_z(first, second)) < 6
    assert abs(correlation_z(first**2, second**2)) < 6


def test_the_halves_of_a_stream_are_independent(million: np.ndarray) -> None:
    """Box-Muller makes both halves of one radius: their squares must not know of each other."""
    first, second = million[: N // 2], million[N // 2 :]
    assert abs(correlation_z(first, second)) < 6
    assert abs(correlation_z(first**2, second**2)) < 6
    assert abs(correlation_z(million[:-1], million[1:])) < 6


def test_names_and_releases_are_told_apart_however_they_are_written(keyed: KeyedNoise) -> None:
    """Release 1 of "1w" is not release 11 of "w": the parts are joined injectively."""
    pairs = [(1, "1w"), (11, "w"), (0, ""), (0, "0"), (1, "w")]
    values = {float(noise_of(keyed, 1, release, name)[0]) for release, name in pairs}
    assert len(values) == len(pairs)


def test_a_repeated_release_repeats_its_noise_coins_and_draws(keyed: KeyedNoise) -> None:
    again = KeyedNoise(bytes(range(32)), "plan")
    np.testing.assert_array_equal(noise_of(keyed, 100, 3), noise_of(again, 100, 3))
    coins = keyed.coins(500, 0.1, release=3)
    np.testing.assert_array_equal(coins, again.coins(500, 0.1, release=3))
    draws = keyed.draws(np.array([7, 2]), release=3).normal(4)
    assert torch.equal(draws, again.draws(np.array([7, 2]), release=3).normal(4))


def test_seeding_torch_and_numpy_moves_nothing_and_no_global_state_is_touched() -> None:
    noise = KeyedNoise(new_key(), "plan")

    def everything() -> tuple[bytes, bytes, bytes]:
        draws = noise.draws(np.array([2]), release=1).normal(5).numpy()
        coins = noise.coins(100, 0.3, release=1)
        return noise_of(noise, 50).tobytes(), coins.tobytes(), draws.tobytes()

    with torch.random.fork_rng():
        torch.manual_seed(0)
        np.random.seed(0)
        before_torch, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
        first = everything()
        assert torch.equal(torch.get_rng_state(), before_torch)
        assert (np.random.get_state()[1] == before_numpy).all()
        torch.manual_seed(1)
        np.random.seed(1)
        assert everything() == first


def test_new_keys_differ_under_one_public_seed() -> None:
    keys = set()
    with torch.random.fork_rng():
        for _ in range(50):
            torch.manual_seed(0)
            np.random.seed(0)
            keys.add(new_key())
    assert len(keys) == 50
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="key must have 32 bytes"):
        KeyedNoise(key, "plan")


def coins_of(keyed: KeyedNoise, n: int, rate: float, steps: int, first: int = 0) -> np.ndarray:
    """(steps, n) bool: which slot is in which step."""
    table = np.zeros((steps, n), bool)
    for step in range(steps):
        table[step, keyed.coins(n, rate, release=first + step)] = True
    return table


def test_batch_sizes_have_the_law_of_independent_coins(keyed: KeyedNoise) -> None:
    """q N = 0.5, where shuffling, fixed batches and redrawn empty batches all show."""
    n, rate, steps = 50, 0.01, 20_000
    table = coins_of(keyed, n, rate, steps)
    sizes = table.sum(1)
    variance = n * rate * (1 - rate)
    kurtosis = (1 - 6 * rate * (1 - rate)) / variance
    error = variance * np.sqrt((2 + kurtosis) / steps)
    assert abs(sizes.mean() - n * rate) < 6 * np.sqrt(variance / steps)
    assert abs(sizes.var() - variance) < 6 * error
    empty = (1 - rate) ** n
    assert abs((sizes == 0).mean() - empty) < 6 * np.sqrt(empty * (1 - empty) / steps)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_every_slot_is_drawn_at_the_rate_and_knows_of_no_other_slot_or_step(
    rate: float, keyed: KeyedNoise
) -> None:
    n, steps = 100, 4000
    table = coins_of(keyed, n, rate, steps, first=10**6)
    counts = table.sum(0)
    variance = steps * rate * (1 - rate)
    assert (np.abs(counts - steps * rate) < 5.5 * np.sqrt(variance)).all()
    assert abs(counts.var() / variance - 1) < 6 * np.sqrt(2 / n)
    centred = table - rate
    for lag in range(1, 6):
        between_steps = (centred[:-lag] * centred[lag:]).mean() / (rate * (1 - rate))
        assert abs(between_steps) * np.sqrt((steps - lag) * n) < 6
        between_slots = (centred[:, :-lag] * centred[:, lag:]).mean() / (rate * (1 - rate))
        assert abs(between_slots) * np.sqrt(steps * (n - lag)) < 6
    assert len({row.tobytes() for row in table}) == steps


def test_coins_of_each_class_come_at_the_same_rate(keyed: KeyedNoise) -> None:
    n, rate, steps = 1000, 0.05, 400
    table = coins_of(keyed, n, rate, steps)
    for part in (table[:, ::2], table[:, 1::2], table[:, : n // 2], table[:, n // 2 :]):
        error = np.sqrt(rate * (1 - rate) / part.size)
        assert abs(part.mean() - rate) < 6 * error


def test_coins_are_ascending_slots_and_the_ends_of_the_rate_are_exact(keyed: KeyedNoise) -> None:
    drawn = keyed.coins(1000, 0.2, release=9)
    assert (np.diff(drawn) > 0).all()
    assert drawn.dtype == np.int64
    np.testing.assert_array_equal(keyed.coins(10, 1.0, release=0), np.arange(10))
    assert keyed.coins(0, 0.5, release=0).shape == (0,)


def test_coins_noise_and_draws_come_from_streams_of_their_own(keyed: KeyedNoise) -> None:
    uniforms = keyed._uniforms(1000, "coins", 0, "")
    assert not np.isin(uniforms, keyed._uniforms(1000, "noise", 0, "")).any()


def test_draws_of_two_records_or_steps_share_nothing(keyed: KeyedNoise) -> None:
    streams = [
        keyed.draws(np.array([slot]), release=release).normal(20_000)[0].numpy()
        for slot, release in ((0, 0), (1, 0), (0, 1), (1, 1), (2**20, 4000))
    ]
    for i, first in enumerate(streams):
        assert abs(first.std() - 1) < 5 / np.sqrt(2 * len(first))
        for second in streams[:i]:
            assert np.isin(first, second).mean() < 0.01  # float32 numbers meet by chance
            assert abs(correlation_z(first, second)) < 6
