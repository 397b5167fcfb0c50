"""Fixes what fidelity depends on besides the images and the network; reported with every number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

__all__ = ["FidelityProtocol"]

Split = Literal["train", "test", "all"]
MAX_SEED = 2**32 - 2  # NumPy takes 32 bits, and one more than it is used, too
KID_SUBSET_SIZE = 1000  # of Binkowski et al. and of torch-fidelity
N_SCORE_PARTS = 10  # of torch-fidelity
FILLED_IN = ("n_synthetic", "n_reference", "n_score_parts", "kid_subset_size")  # where None


@dataclass(frozen=True)
class FidelityProtocol:
    """Everything that the numbers depend on besides the images and the network.

    Args:
        reference_split: which real images they are compared with. Published FID mostly uses
            "train"; a generator that copies its training records does well there.
        n_synthetic, n_reference: images of each side, drawn by the seed; None: all of them.
        n_neighbour_images: precision, recall, density and coverage compare this many images of each
            side at most, and equally many of both.
        n_score_parts: parts whose inception scores are averaged; None: 10, or as many as have two
            images each.
        n_kid_subsets: pairs of subsets whose KIDs are averaged.
        kid_subset_size: images of each; None: 1000, or half of the smaller side if that is fewer,
            as subsets that share most of their images differ less than fresh images would.
        n_neighbours_precision: k of precision and recall.
        n_neighbours_density: k of density and coverage.
        seed: of all choices of images; 2020 is torch-fidelity's.
        quantisation: fixed.
    """

    reference_split: Split = "test"
    n_synthetic: int | None = None
    n_reference: int | None = None
    n_neighbour_images: int = 10_000
    n_score_parts: int | None = None
    n_kid_subsets: int = 100
    kid_subset_size: int | None = None
    n_neighbours_precision: int = 3
    n_neighbours_density: int = 5
    seed: int = 2020
    quantisation: str = field(default="uint8, round((x + 1) * 127.5), clipped", init=False)

    def __post_init__(self) -> None:
        if self.reference_split not in get_args(Split):
            raise ValueError(
                f"reference_split must be train, test or all, got {self.reference_split!r}"
            )
        least = {
            "n_synthetic": 2,  # a covariance
            "n_reference": 2,
            "n_neighbour_images": 2,
            "n_score_parts": 1,
            "n_kid_subsets": 1,
            "kid_subset_size": 2,  # pairs of two
            "n_neighbours_precision": 1,
            "n_neighbours_density": 1,
            "seed": 0,
        }
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is None and name in FILLED_IN:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise ValueError(
                    f"{name} must be a whole number of at least {smallest}, got {value!r}"
                )
        if self.seed > MAX_SEED:
            raise ValueError(f"seed must be at most {MAX_SEED}, got {self.seed}")

    def resolved(self, n_synthetic: int, n_reference: int) -> FidelityProtocol:
        """Returns the protocol with every number filled in for sets of these sizes.

        Raises ValueError where a set has too few images for a metric.
        """
        ours, real = self.n_synthetic or n_synthetic, self.n_reference or n_reference
        for name, n, there in (
            ("n_synthetic", ours, n_synthetic),
            ("n_reference", real, n_reference),
        ):
            if n > there:
                raise ValueError(
                    f"{name} must be at most {there}, the images there are, got {n}: ask for fewer "
                    "or give more"
                )
            if n < 2:
                raise ValueError(f"{name} must be at least 2 for a covariance, got {n}: give more")
        fewest = min(ours, real)
        found = replace(
            self,
            n_synthetic=ours,
            n_reference=real,
            n_neighbour_images=min(self.n_neighbour_images, fewest),
            n_score_parts=self.n_score_parts or min(N_SCORE_PARTS, ours // 2),
            kid_subset_size=self.kid_subset_size or max(2, min(KID_SUBSET_SIZE, fewest // 2)),
        )
        usual = FidelityProtocol()
        ks = (usual.n_neighbours_precision, usual.n_neighbours_density)
        least = 1 + max(ks)
        if fewest < least and ks == (self.n_neighbours_precision, self.n_neighbours_density):
            raise ValueError(
                "precision, recall, density and coverage count nearest neighbours and need at "
                f"least {least} images of each side, got {ours} synthetic and {real} real ones: "
                "give more images, or measure nothing through features (--features none)"
            )
        for name, most, what in (
            ("kid_subset_size", fewest, "images of the smaller side"),
            ("n_score_parts", ours, "synthetic images"),
            ("n_neighbours_precision", found.n_neighbour_images - 1, "other images"),
            ("n_neighbours_density", found.n_neighbour_images - 1, "other images"),
        ):
            if getattr(found, name) > most:
                raise ValueError(
                    f"{name} must be at most {most}, the number of {what}, got "
                    f"{getattr(found, name)}: give more images, or lower {name} of "
                    "FidelityProtocol in Python"
                )
        return found
