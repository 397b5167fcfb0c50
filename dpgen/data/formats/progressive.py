"""Huffman-coded scans of a progressive JPEG: walks their codes and says where they end.

A scan holds some coefficients of all blocks, or one more bit of them. Which coefficients are not
zero is kept from scan to scan, as a later one has a bit for each of those; values are skipped.

Reference: ITU-T T.81 (1992), section G.1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dpgen.data.formats.damage import Damaged
from dpgen.data.formats.huffman import Codes

ZEROS = 15  # of a run without a coefficient behind it: 16 zeros; less is the end of a band


@lru_cache(maxsize=64)
def symbol_table(definition: bytes) -> np.ndarray:
    """Returns what each 16-bit window begins with: uint16 (65536,), 0 where it begins with no code.

    The low byte is the length of the code, the high byte its symbol.

    Args:
        definition: 16 counts of codes by length, then the symbols.
    """
    lengths = np.repeat(np.arange(1, 17), list(definition[:16]))
    symbols = np.frombuffer(definition[16:], np.uint8).astype(np.int64)
    entries = np.repeat(symbols << 8 | lengths, 1 << (16 - lengths))
    if len(entries) > 2**16:
        raise Damaged("a Huffman table has more codes than fit")
    return np.pad(entries, (0, 2**16 - len(entries))).astype(np.uint16)


def walk_direct(codes: Codes, n_units: int, tables: Sequence[np.ndarray]) -> None:
    """Walks the first direct (DC) coefficients of so many units.

    Args:
        codes: of a part of the scan.
        n_units: blocks, or groups of blocks of several components.
        tables: of direct coefficients, for each block of a unit.
    """
    windows, position = codes.windows, 0
    views = [table.data for table in tables]
    try:
        for _ in range(n_units):
            for table in views:
                found = table[windows[position]]
                if not found:
                    raise Damaged("its compressed data hold a code that is none")
                position += found
    except IndexError:
        position = codes.n_bits + 1
    codes.require_end(position)


def walk_first(
    codes: Codes, blocks: list[int], part: range, band: tuple[int, int], table: np.ndarray
) -> None:
    """Walks the first bits of a band of coefficients, and marks those that are not zero.

    Args:
        codes: of a part of the scan.
        blocks: of one component; bit k of each says whether its coefficient k is not zero.
        part: positions of the blocks that this part of the scan holds.
        band: first and last coefficient.
        table: of the band's symbols.
    """
    windows, position, run, view = codes.windows, 0, 0, table.data
    first, last = band
    try:
        for i in part:
            if run:
                run -= 1
                continue
            k = first
            while k <= last:
                found = view[windows[position]]
                position += found & 255
                zeros, size = found >> 12, found >> 8 & 15
                if size:
                    k += zeros
                    blocks[i] |= 1 << k
                    position += size
                elif zeros == ZEROS:
                    k += ZEROS
                elif found:
                    run = (1 << zeros) - 1
                    if zeros:  # bits of the length; without any the data may end here
                        run += windows[position] >> (16 - zeros)
                    position += zeros
                    break
                else:
                    raise Damaged("its compressed data hold a code that is none")
                k += 1
            if k > last + 1:
                raise Damaged("its compressed data hold a coefficient beyond its scan")
    except IndexError:
        position, run = codes.n_bits + 1, 0
    _require_no_run(run)
    codes.require_end(position)


def walk_further(
    codes: Codes, blocks: list[int], part: range, band: tuple[int, int], table: np.ndarray
) -> None:
    """Walks one more bit of a band of coefficients, and marks those that are no longer zero.
    Arguments as for `walk_first`.
    """
    windows, position, run, view = codes.windows, 0, 0, table.data
    first, last = band
    whole = (1 << last + 1) - (1 << first)
    try:
        for i in part:
            known = blocks[i] & whole
            k = first
            while not run and k <= last:
                found = view[windows[position]]
                position += found & 255
                zeros, size = found >> 12, found >> 8 & 15
                if size > 1 or not found:
                    raise Damaged("its compressed data hold a code that is none")
                if not size and zeros != ZEROS:
                    run = 1 << zeros
                    if zeros:
                        run += windows[position] >> (16 - zeros)
                    position += zeros
                    break
                position += size  # the sign of a new coefficient
                while k <= last:  # over as many zeros, with a bit for each that is none
                    if known >> k & 1:
                        position += 1
                    elif zeros:
                        zeros -= 1
                    else:
                        break
                    k += 1
                if size and k <= last:
                    blocks[i] |= 1 << k
                elif size or zeros:
                    raise Damaged("its compressed data hold a coefficient beyond its scan")
                k += 1
            if run:
                position += (known >> k).bit_count()
                run -= 1
    except IndexError:
        position, run = codes.n_bits + 1, 0
    _require_no_run(run)
    codes.require_end(position)


def _require_no_run(run: int) -> None:
    if run:
        raise Damaged(f"its compressed data end {run} blocks behind the last one")
