"""Records as they were identified and charged, by their digests: whether one that is read anew has
changed since.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

DIGEST_BYTES = 16


class NotedRecords:
    """Digests of decoded records, in memory alone.

    Args:
        n_records: number of records, none of which is noted yet.
    """

    def __init__(self, n_records: int) -> None:
        self._noted = np.zeros(n_records, bool)
        self._digests = np.empty((n_records, DIGEST_BYTES), np.uint8)

    def note(self, index: int, raw: np.ndarray) -> None:
        """Notes a record as it is now.

        Args:
            index: its position.
            raw: as decoded, uint8 (H, W, C).
        """
        self._noted[index], self._digests[index] = True, _digest(raw)

    def check(self, index: int, raw: np.ndarray) -> None:
        """Raises ValueError for a record that is not as it was noted. The message names none: which
        records are drawn for a step is secret.
        """
        if self._noted[index] and not np.array_equal(self._digests[index], _digest(raw)):
            raise ValueError(
                "the records changed since they were looked for in the ledgers, and no charge "
                "covers them: put them back as they were, and let no file change during a run"
            )


def _digest(raw: np.ndarray) -> np.ndarray:
    content = f"{raw.shape}:".encode() + np.ascontiguousarray(raw).tobytes()
    return np.frombuffer(blake2b(content, digest_size=DIGEST_BYTES).digest(), np.uint8)
