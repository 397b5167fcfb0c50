"""The noise of a long run: whether it ever comes back, and whether its tails are whole.

Repeated noise cancels in a difference of releases, and what is left are two sums without noise.
Here everything is compared with everything, to the last bit and by correlation, which also sees
noise that comes back with another sign, scaled, moved or mixed with some that is fresh:

    releases     the first ``STRIDE`` steps of a run and ``STRIDE`` more, ``STRIDE`` apart. Every
                 number up to ``STRIDE**2`` is a difference of two of them, so that no period up to
                 that is overlooked; a pool of P noises shows itself as soon as P is smaller than
                 about ``STRIDE**2 / 10``
    tensors      the tensors of each release, all with all, and one run's with another's
    places       one tensor with itself and with others at every shift: tiles, and streams that are
                 entered some words on

What it cannot see: noise that comes back later than after ``STRIDE**2`` steps, fewer than about
``9 sqrt(n)`` words of a tensor of n that come back scaled, and tails that are cut where fewer than
about twenty words are expected (4.4 standard deviations at 1.6 million words).
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
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum

STRIDE = 1024
N_RUNS = 24  # of a one-shot release
LENGTH = 256  # words of a vector that is compared with all others
LARGE = 2**19  # words of a large tensor, where the run that is audited has no larger one
LARGEST = 2**22
PIECE, MOST_PIECES, N_SHIFTED = 64, 64, 4  # of the tensors of a real run
TAILS = (3.0, 3.5, 4.0, 4.5, 5.0)


def long_run(mechanism: NoisySGD | NoisySum, *, n_words: int = 0) -> Chances:
    """Looks for noise that comes back, and at the tails.

    Guarantee: a correct mechanism is accused with probability at most 7 `LEVEL`.

    Args:
        n_words: size of the largest tensor that a run of this mechanism releases: noise may be
            drawn in pieces for large ones. Looked at are at least ``LARGE`` and at most
            ``LARGEST`` words.
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

    Sums that noise was added to are taken away again, so that its last bits are lost.

    Guarantee: a correct run is accused with probability at most 3 `LEVEL`.
    """
    flat = [part.double().reshape(-1).numpy() for part in noise.values()]
    pieces = [part[: len(part) // PIECE * PIECE][: MOST_PIECES * PIECE] for part in flat]
    vectors = np.concatenate([part.reshape(-1, PIECE) for part in pieces])
    # The largest ones in a row: each with itself and all others, at every shift.
    largest = np.concatenate(sorted(flat, key=len, reverse=True)[:N_SHIFTED])[:LARGEST]
    alike = np.concatenate([_neighbours(part) for part in flat])
    return Chances(
        {
            "two words in a row": of_equals(_n_equal(alike), len(alike), ALIKE),
            "two vectors of noise": _aligned(vectors) if len(vectors) > 1 else 1.0,
            "noise within a tensor or of two": _shifted(largest, largest),
        }
    )


def _large(mechanism: NoisySGD | NoisySum, n: int) -> tuple[np.ndarray, ...]:
    """Draws two large tensors of one release, and one of another release or run."""
    sgd = isinstance(mechanism, NoisySGD)
    width = 64
    shapes = {"first": (n // width, width), "second": (width, n // width)}
    source = fresh_source()
    found = overhear(mechanism, source, shapes, (0,))
    again = overhear(
        mechanism, source if sgd else fresh_source(), {"first": shapes["first"]}, (1,)
    )
    return found["first"][0], found["second"][0], again["first"][0]


def _vectors(mechanism: NoisySGD | NoisySum) -> tuple[np.ndarray, np.ndarray]:
    """Draws two tensors of every release, (n, LENGTH) each; those of one run's first steps
    first.
    """
    shapes = {"one": (16, LENGTH // 16), "two": (LENGTH, 1)}
    if isinstance(mechanism, NoisySGD):
        far = [STRIDE * (1 + k) for k in range(STRIDE)]
        runs = [(*range(STRIDE), *far), range(8), range(8)]
    else:
        runs = [(0,)] * N_RUNS
    found = [overhear(mechanism, fresh_source(), shapes, releases) for releases in runs]
    return tuple(np.concatenate([run[name] for run in found]) for name in shapes)  # type: ignore[return-value]


def _n_equal(values: np.ndarray) -> int:
    """Counts those that equal an earlier one."""
    found = np.sort(values)
    return int((found[1:] == found[:-1]).sum())


def _neighbours(words: np.ndarray) -> np.ndarray:
    """Packs absolute values of neighbouring words, to 27 bits behind the point, into one number."""
    bins = np.minimum(np.abs(words) / BIN, 2.0**31).astype(np.int64)
    return bins[:-1] << 32 | bins[1:]


def _aligned(vectors: np.ndarray) -> float:
    """The pair of vectors that are most alike, or most opposed."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.maximum(lengths, 1e-300)).astype(np.float32)
    cosines = np.abs(unit @ unit.T)
    np.fill_diagonal(cosines, 0)
    n = len(vectors)
    # Single precision is off by far less than this.
    return of_alignment(float(cosines.max()) - 1e-5, vectors.shape[1], n * (n - 1) // 2)


def _apart(one: np.ndarray, two: np.ndarray) -> float:
    """Adds up all pairs of releases so many steps apart: finds what comes back in each only a
    little.
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
    """Measures what all vectors share, or what cancels over the run: the length of their sum."""
    square = float(np.square(vectors.sum(0)).sum()) / len(vectors)
    words = vectors.shape[1]
    return min(1.0, 2 * float(min(chi2.sf(square, words), chi2.cdf(square, words))))


def _shifted(left: np.ndarray, right: np.ndarray) -> float:
    """The sum of products of two sequences that is farthest from 0, of all shifts."""
    n = max(len(left), len(right))
    size = next_fast_len(2 * n, real=True)
    image = rfft(left, size)
    other = image if right is left else rfft(right, size)
    sums = irfft(image * other.conj(), size)
    if right is left:
        sums = sums[1:n]
    return of_correlation(float(np.abs(sums).max()), n, len(sums))


def _smallest(chances: Sequence[float]) -> float:
    """The probability that one of so many is as small as the smallest of these."""
    return min(1.0, len(chances) * min(chances))


def _beyond(words: np.ndarray, limit: float) -> float:
    n_beyond = np.array([(np.abs(words) > limit).sum()])
    return of_counts(n_beyond, len(words), 2 * float(norm.sf(limit)))
