"""Extracts features of a set of images in one pass, shared by processes and cached on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from dpgen._torchvision import repair
from dpgen.evaluation.feature_cache import FeatureCache, sha256_of
from dpgen.evaluation.features import Extracted, FeatureNetwork
from dpgen.progress import progress_bar

__all__ = ["Statistics", "extract", "reference_statistics", "refuse_unlike_processes", "statistics"]

BATCH = 64  # images per forward pass; the same for any number of processes


class Statistics(NamedTuple):
    """The statistics of one set: features (N, D) in float32, their mean (D,) and covariance (D, D)
    in float64.
    """

    features: Tensor
    mean: Tensor
    covariance: Tensor


@torch.no_grad()
def extract(
    network: FeatureNetwork,
    pixels: Tensor,
    *,
    accelerator: Accelerator | None = None,
    label: str = "features",
    show: bool = False,
) -> Extracted:
    """Extracts features and logits of all images to the CPU; every process does its share.

    Guarantees: the same batches in the same order for any number of processes, hence the same
    numbers bit for bit on processors of one kind. Every process gets all of them.

    Args:
        network: the feature network.
        pixels: uint8 (N, C, H, W), N at least 1, the same on every process.
        accelerator: of the processes that share the work; None for this process alone, on the CPU.
        label: title of the progress bar.
        show: whether to show a progress bar, on the first process.
    """
    device = torch.device("cpu") if accelerator is None else accelerator.device
    n_processes = 1 if accelerator is None else accelerator.num_processes
    rank = 0 if accelerator is None else accelerator.process_index
    batches, parts = pixels.split(BATCH), []
    starts = range(0, len(batches), n_processes)
    # TensorFloat-32, the default of convolutions on a GPU, has errors of 1e-3.
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with progress_bar(label, len(starts), show=show and rank == 0) as advance, exact:
        for start in starts:
            # Past the end the last batch is repeated: every process must take part in the gather.
            found = network(batches[min(start + rank, len(batches) - 1)].to(device))
            n_features = found.features.shape[1]
            both = torch.cat([found.features.float(), found.logits.float()], dim=1)
            if n_processes > 1 and accelerator is not None:
                filling = both.new_zeros(BATCH - len(both), both.shape[1])
                both = accelerator.gather(torch.cat([both, filling]))
            parts.append(both.cpu())
            advance()
    whole = torch.cat(parts)[: len(pixels)]
    if not torch.isfinite(whole).all():
        raise ValueError(f"features of {network.name} must be finite, got NaN or infinity")
    # Sums depend on the layout in memory, and tensors from the cache are contiguous, too.
    return Extracted(whole[:, :n_features].contiguous(), whole[:, n_features:].contiguous())


def statistics(features: Tensor) -> Statistics:
    """Computes mean and unbiased covariance of features (N, D), by torch-fidelity in float64."""
    repair()
    from torch_fidelity.metric_fid import fid_features_to_statistics

    found = fid_features_to_statistics(features.double())
    covariance = torch.from_numpy(found["sigma"]).reshape(2 * features.shape[1:])
    return Statistics(features, torch.from_numpy(found["mu"]), covariance)


def reference_statistics(
    network: FeatureNetwork,
    pixels: Tensor,
    *,
    accelerator: Accelerator | None = None,
    cache: Path | None = None,
    show: bool = False,
) -> Statistics:
    """Computes `statistics` of the features from `extract`, or takes them from the cache.

    Guarantees: the file is for these pixels, by content, and this network; cached equals computed
    bit for bit.
    """
    kept = FeatureCache(cache) if cache is not None else None
    identity = {"network": network.sha256, "pixels": sha256_of(pixels)}
    there = kept.load(identity) if kept is not None else None
    if accelerator is not None and accelerator.num_processes > 1:
        # All processes compute or none does, because extraction waits for every process.
        found = torch.tensor([int(there is not None)], device=accelerator.device)
        if not accelerator.gather(found).all():
            there = None
    if there is not None:
        if there.keys() != set(Statistics._fields):
            raise ValueError(
                f"the cache {cache} must hold {', '.join(Statistics._fields)}, got "
                f"{sorted(there)!s:.200}: name another cache folder"
            )
        return Statistics(**there)
    label = "features, reference"
    of_images = statistics(
        extract(network, pixels, accelerator=accelerator, label=label, show=show).features
    )
    if kept is not None and (accelerator is None or accelerator.is_main_process):
        kept.save(identity, of_images._asdict())
    return of_images


def refuse_unlike_processes(accelerator: Accelerator, *contents: str) -> None:
    """Raises ValueError, on every process, unless all of them hold the same contents.

    Args:
        accelerator: accelerator of the processes.
        contents: hashes of the contents that must be the same.
    """
    digest = hashlib.sha256(" ".join(contents).encode()).digest()
    mine = torch.tensor([list(digest)], dtype=torch.uint8, device=accelerator.device)
    everyone = accelerator.gather(mine)
    if (everyone != everyone[0]).any():
        raise ValueError(
            f"the {accelerator.num_processes} processes must compare the same images by the same "
            "network, got different ones: draw the samples once and give them to every process"
        )
