"""Makes a noisy release once: a resumed run loads it from its checkpoint."""

from __future__ import annotations

from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.progress import progress_bar
from dpgen.runs.checkpoint import Checkpoints


def released(
    data: PrivateDataset, label: str, mechanism: NoisySum, checkpoints: Checkpoints, show: bool
) -> dict[str, Tensor]:
    """Returns the noisy tables, and deletes the stage's key once they are saved."""

    held = checkpoints.load(label)
    if held is None:
        # The bar counts one release: a bar over records would reveal their number.
        with progress_bar(f"{label} (private)", 1, show=show) as advance:
            data.save_state(checkpoints, label, data.release(mechanism, label=label), step=1)
            advance()
        # Read back, so that a resumed run has the same tensors with the same layout in memory.
        held = checkpoints.load(label)
        assert held is not None
    data.finish(label, mechanism)
    return held[0]
