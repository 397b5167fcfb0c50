"""Huffman-coded blocks of a sequential JPEG: walks their codes and says where they end.

Coefficients are skipped, not computed: that takes about as long as decoding the picture.

Reference: ITU-T T.81 (1992), annex C and section F.2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dpgen.data.formats.damage import Damaged

N_COEFFICIENTS = 64  # of a block
END_OF_BLOCK = 128  # more coefficients than there are: the rest of the block is zero
MOST_PADDING = 8  # bytes of one value that some cameras put behind the last block


@lru_cache(maxsize=64)
def code_table(definition: bytes, direct: bool) -> np.ndarray:
    """Returns what each 16-bit window begins with: uint16 (65536,), 0 where it begins with no code.

    The low byte is how many bits code and value take, the high byte how many coefficients they
    stand for (direct: none, it is the first).

    Args:
        definition: 16 counts of codes by length, then the symbols.
        direct: whether the table is one of direct (DC) coefficients.
    """
    lengths = np.repeat(np.arange(1, 17), list(definition[:16]))
    symbols = np.frombuffer(definition[16:], np.uint8).astype(np.int64)
    runs, sizes = (np.zeros_like(symbols), symbols) if direct else (symbols >> 4, symbols & 15)
    steps = np.where((sizes == 0) & (runs < 15), END_OF_BLOCK, runs + 1)
    entries = np.repeat(lengths + sizes + (0 if direct else steps << 8), 1 << (16 - lengths))
    if len(entries) > 2**16:
        raise Damaged("a Huffman table has more codes than fit")
    return np.pad(entries, (0, 2**16 - len(entries))).astype(np.uint16)


class Codes:
    """Compressed data between two markers, to be walked bit by bit.

    Args:
        content: as in the file.
    """

    def __init__(self, content: bytes) -> None:
        self._plain = content.replace(b"\xff\0", b"\xff")
        self.n_bits = 8 * len(self._plain)
        # An element of a memoryview is a plain int, in a third of the time that an array takes.
        self.windows = _windows(self._plain + b"\xff" * 2).data  # the 16 bits from each bit on

    def require_end(self, position: int) -> None:
        """Refuses data that do not end where the codes end, at this bit."""
        if position > self.n_bits:
            raise Damaged("its compressed data end before the last block")
        left = self._plain[-(-position // 8) :]
        if len(left) > MOST_PADDING or len(set(left)) > 1:
            raise Damaged(f"its compressed data go on for {len(left)} bytes behind the last block")


def require_blocks(
    codes: Codes, n_units: int, tables: Sequence[tuple[np.ndarray, np.ndarray]]
) -> None:
    """Refuses compressed data that are not exactly so many units, to the last byte.

    Args:
        codes: of a part of the scan.
        n_units: blocks, or groups of blocks of several components.
        tables: of direct and other coefficients, for each block of a unit.

    Raises:
        Damaged: with what is wrong.
    """
    windows, position = codes.windows, 0
    views = [(direct.data, other.data) for direct, other in tables]
    try:
        for _ in range(n_units):
            for direct, other in views:
                found = direct[windows[position]]
                if not found:
                    raise Damaged("its compressed data hold a code that is none")
                position += found
                n = 1
                while n < N_COEFFICIENTS:
                    found = other[windows[position]]
                    if not found:
                        raise Damaged("its compressed data hold a code that is none")
                    position += found & 255
                    n += found >> 8
                if N_COEFFICIENTS < n < END_OF_BLOCK:
                    raise Damaged("its compressed data hold a block of more than 64 coefficients")
    except IndexError:
        position = codes.n_bits + 1
    codes.require_end(position)


def _windows(data: bytes) -> np.ndarray:
    """Returns the 16 bits from each bit on, uint16 (8 (len(data) - 2),)."""
    three = np.frombuffer(data, np.uint8).astype(np.uint32)
    joined = three[:-2] << 16 | three[1:-1] << 8 | three[2:]
    shifts = np.arange(8, 0, -1, dtype=np.uint32)
    return (joined[:, None] >> shifts & 0xFFFF).astype(np.uint16).reshape(-1)
