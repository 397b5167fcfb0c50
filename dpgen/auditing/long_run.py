"""Tests the noise of a long run: whether it ever repeats, and whether its tails are complete.

Repeated noise cancels in a difference of releases, which leaves two sums without noise. Here all
pairs are compared, bit by bit and by correlation, which also detects noise that repeats with
another sign, scaled, shifted or mixed with fresh noise:

    releases     the first ``STRIDE`` steps of a run and ``STRIDE`` more, ``STRIDE`` apart. Every
                 number up to ``STRIDE**2`` is a difference of two of them, so that no period up to
                 that is missed; a pool of P noises is detected if P is smaller than about
                 ``STRIDE**2 / 10``
    tensors      the tensors of each release, all with all, and those of one run with another's
    places       one tensor with itself and with others at every shift: repeated tiles, and streams
                 that begin some words later

Not detected: noise that repeats after more than ``STRIDE**2`` steps, fewer than about ``9 sqrt(n)``
words of a tensor of n that repeat scaled, and tails that are cut where fewer than about twenty
words are expected (4.4 standard deviations at 1.6 million words).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.stats import chi2, norm
from torch import Tensor

from dpgen.auditing.chances import (
    ALIKE,
    BIN,
    EQUAL,
    Chances,
    of_alignment,
    of_correlation,
    of_counts,
    of_equals,
)
from dpgen.auditing.overheard import fresh_source, overhear
from dpgen.privacy.mechanisms.declared import NoisySGD, OfRecords
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble

STRIDE = 1024
N_RUNS = 24  # runs of a one-shot release
LENGTH = 256  # words of a vector that is compared with all others
LARGE = 2**19  # words of a large tensor, unless the audited run has a larger one
LARGEST = 2**22
PIECE, MOST_PIECES, N_SHIFTED = 64, 64, 4  # of the tensors of a real run
TAILS = (3.0, 3.5, 4.0, 4.5, 5.0)


def long_run(mechanism: OfRecords, *, n_words: int = 0) -> Chances:
    """Tests for repeated noise and incomplete tails.

    Guarantee: a correct mechanism is accused with probability at most 7 `LEVEL`.

    Args:
        n_words: size of the largest tensor that a run of this mechanism releases, because noise may
            be drawn in pieces for large ones. At least ``LARGE`` and at most ``LARGEST`` words are
            tested.
    """
    large = _large(mechanism, min(max(n_words, LARGE), LARGEST))
    one, two = _vectors(mechanism)
    words = np.concatenate([part.reshape(-1) for part in (*large, one, two)])
    first, second, other = large
    return Chances(
        {
            "the same noise to the last bit": of_equals(_n_equal(np.abs(words)), len(words), EQUAL),
            "two vectors of noise": _aligned(np.concatenate([one, two])),
            "releases some steps apart": _apart(one, two),
            "sum of all releases": _smallest([_summed(one), _summed(two)]),
            "noise within a tensor": _shifted(first, first),
            "noise of two tensors or runs": _smallest(
                [_shifted(first, second), _shifted(first, other)]
            ),
            "tails of the noise": _smallest([_beyond(words, limit) for limit in TAILS]),
        }
    )


def of_a_run(noise: Mapping[Any, Tensor]) -> Chances:
    """Compares the noise of all tensors of all releases of a real run, in standard deviations.

    The noise is a release minus its sum, so that its last bits are lost to rounding.

    Guarantee: a correct run is accused with probability at most 3 `LEVEL`.
    """
    flat = [part.double().reshape(-1).numpy() for part in noise.values()]
    pieces = [part[: len(part) // PIECE * PIECE][: MOST_PIECES * PIECE] for part in flat]
    vectors = np.concatenate([part.reshape(-1, PIECE) for part in pieces])
    # The largest ones, concatenated: each is compared with itself and all others at every shift.
    largest = np.concatenate(sorted(flat, key=len, reverse=True)[:N_SHIFTED])[:LARGEST]
    alike = np.concatenate([_neighbours(part) for part in flat])
    return Chances(
        {
            "two words in a row": of_equals(_n_equal(alike), len(alike), ALIKE),
            "two vectors of noise": _aligned(vectors) if len(vectors) > 1 else 1.0,
            "noise within a tensor or of two": _shifted(largest, largest),
        }
    )


def _large(mechanism: OfRecords, n: int) -> tuple[np.ndarray, ...]:
    """Draws two large tensors of one release, and one of another release or run."""
    sgd = isinstance(mechanism, NoisySGD)
    width = 64
    shapes = {"first": (n // width, width), "second": (width, n // width)}
    source = fresh_source()
    if isinstance(mechanism, NoisyEnsemble):
        asked = overhear(mechanism, source, shapes, (0, 1))
        return asked["first"][0], asked["second"][0], asked["first"][1]
    found = overhear(mechanism, source, shapes, (0,))
    again = overhear(
        mechanism, source if sgd else fresh_source(), {"first": shapes["first"]}, (1,)
    )
    return found["first"][0], found["second"][0], again["first"][0]


def _vectors(mechanism: OfRecords) -> tuple[np.ndarray, np.ndarray]:
    """Draws two tensors of every release, (n, LENGTH) each, the first steps of one run first."""
    shapes = {"one": (16, LENGTH // 16), "two": (LENGTH, 1)}
    if isinstance(mechanism, NoisySGD):
        far = [STRIDE * (1 + k) for k in range(STRIDE)]
        runs = [(*range(STRIDE), *far), range(8), range(8)]
    elif isinstance(mechanism, NoisyEnsemble):
        runs = [range(STRIDE), range(8), range(8)]  # queries are asked one after another
    else:
        runs = [(0,)] * N_RUNS
    found = [overhear(mechanism, fresh_source(), shapes, releases) for releases in runs]
    return tuple(np.concatenate([run[name] for run in found]) for name in shapes)  # type: ignore[return-value]


def _n_equal(values: np.ndarray) -> int:
    """Counts the values that equal an earlier one."""
    found = np.sort(values)
    return int((found[1:] == found[:-1]).sum())


def _neighbours(words: np.ndarray) -> np.ndarray:
    """Packs absolute values of neighbouring words, to 27 fractional bits, into one number."""
    bins = np.minimum(np.abs(words) / BIN, 2.0**31).astype(np.int64)
    return bins[:-1] << 32 | bins[1:]


def _aligned(vectors: np.ndarray) -> float:
    """Tests the pair of vectors with the largest absolute cosine."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.maximum(lengths, 1e-300)).astype(np.float32)
    cosines = np.abs(unit @ unit.T)
    np.fill_diagonal(cosines, 0)
    n = len(vectors)
    # The error of single precision is far smaller than this.
    return of_alignment(float(cosines.max()) - 1e-5, vectors.shape[1], n * (n - 1) // 2)


def _apart(one: np.ndarray, two: np.ndarray) -> float:
    """Tests the sum over all pairs of releases at each distance of steps: this detects noise of
    which each release repeats only a little.
    """
    n = min(STRIDE, len(one))
    one, two = one[:n].astype(np.float32), two[:n].astype(np.float32)
    sums = []
    for left, right in ((one, one), (one, two), (two, one)):
        products = left @ right.T
        sums += [products.trace(lag, dtype=np.float64) for lag in range(1, n)]
    worst = float(np.abs(sums).max())
    return of_correlation(worst, one.size, len(sums))


def _summed(vectors: np.ndarray) -> float:
    """Tests the length of the vectors' sum, for noise that all share or that cancels over the run.
    """
    square = float(np.square(vectors.sum(0)).sum()) / len(vectors)
    words = vectors.shape[1]
    return min(1.0, 2 * float(min(chi2.sf(square, words), chi2.cdf(square, words))))


def _shifted(left: np.ndarray, right: np.ndarray) -> float:
    """Tests the sum of products of two sequences that is farthest from 0, over all shifts."""
    n = max(len(left), len(right))
    size = next_fast_len(2 * n, real=True)
    image = rfft(left, size)
    other = image if right is left else rfft(right, size)
    sums = irfft(image * other.conj(), size)
    if right is left:
        sums = sums[1:n]
    return of_correlation(float(np.abs(sums).max()), n, len(sums))


def _smallest(chances: Sequence[float]) -> float:
    """Returns the probability that one of so many is as small as the smallest of these."""
    return min(1.0, len(chances) * min(chances))


def _beyond(words: np.ndarray, limit: float) -> float:
    n_beyond = np.array([(np.abs(words) > limit).sum()])
    return of_counts(n_beyond, len(words), 2 * float(norm.sf(limit)))
