"""Private records by slot, as the mechanisms read them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dpgen.data.silos import OfSilos
from dpgen.data.sources import Source
from dpgen.images.images import PublicFacts, to_float


class RecordSlots:
    """Records by slot, as mechanisms read them. A record with a label outside the declared classes
    is invalid and contributes zero.
    """

    def __init__(self, source: Source, facts: PublicFacts) -> None:
        self._source, self._n_classes = source, facts.n_classes
        self.n_slots = len(source)

    def silo_of(self, slots: np.ndarray) -> np.ndarray:
        """Returns the number of each record's silo, (B,) int64. Raises TypeError where the data
        were opened without silos.
        """
        if not isinstance(self._source, OfSilos):
            raise TypeError("these records were opened without silos")
        return self._source.silo_of(slots)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        pixels, labels = self._source.read(slots)
        valid = (labels >= 0) & (labels < self._n_classes)
        return to_float(pixels), torch.where(valid, labels, 0), valid
