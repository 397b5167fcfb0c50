"""The rule for every privately trained network: an output depends on one record only.

A layer that mixes the records of a batch (batch normalisation above all) lets one record change the
gradients of the others, and then clipping each record's gradient bounds nothing. Layers whose
statistics stay inside one record (GroupNorm, LayerNorm) are fine, and so is dropout.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = ["require_per_record"]


def require_per_record(module: nn.Module) -> None:
    """Raises ValueError when a layer of ``module`` carries statistics from one record to another.

    Guarantees: no BatchNorm passes (SyncBatchNorm and the lazy ones included, in eval mode too, as
    a later ``train()`` would enable it) and no InstanceNorm with running statistics. It checks for
    a list of layers and proves nothing about other code: a network of your own also needs a test
    that record i's output stays the same when record j changes.

    Args:
        module: the network that will be trained on private records.
    """
    for name, layer in module.named_modules():
        tracks = isinstance(layer, _InstanceNorm) and layer.track_running_stats
        if isinstance(layer, _BatchNorm) or tracks:
            raise ValueError(
                f"module must keep records apart, got {type(layer).__name__} at "
                f"{name or 'the top level'!r}, which shares statistics between records, so "
                "clipping bounds nothing: use nn.GroupNorm, or InstanceNorm without running "
                "statistics"
            )
