"""One noisy release, made once: from the checkpoint when it was made before a kill."""

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
        # One release, one tick: a bar over records would count them.
        with progress_bar(f"{label} (private)", 1, show=show) as advance:
            data.save_state(checkpoints, label, data.release(mechanism, label=label), step=1)
            advance()
        # Read back, so that a run which was killed has the same tensors, lying in the same way.
        held = checkpoints.load(label)
        assert held is not None
    data.finish(label, mechanism)
    return held[0]
