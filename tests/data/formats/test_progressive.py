"""Scans of a progressive JPEG, bit by bit: what fits its blocks is walked, what does not is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dpgen.data.formats.damage import Damaged
from dpgen.data.formats.huffman import Codes
from dpgen.data.formats.progressive import symbol_table, walk_first, walk_further

Walk = Callable[..., None]


def walked(
    walk: Walk, bits: str, symbols: list[int], blocks: list[int], band: tuple[int, int] = (1, 63)
) -> list[int]:
    """The blocks after a walk over these bits; the symbols have the codes 00, 01 and 10."""
    counts = [0, len(symbols), *[0] * 14]
    table = symbol_table(bytes(counts + symbols))
    padded = bits + "1" * (-len(bits) % 8)
    codes = Codes(bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8)))
    walk(codes, blocks, range(len(blocks)), band, table)
    return blocks


def test_new_coefficients_are_marked_and_runs_of_ends_skip_blocks() -> None:
    # 2 zeros and a coefficient of 1 bit; an end of this block and of 3 more (2 + 1 in a bit)
    assert walked(walk_first, "00" "1" "01" "1", [0x21, 0x10], [0, 0, 0]) == [1 << 3, 0, 0]
    # 16 zeros, then a coefficient, then the end
    assert walked(walk_first, "10" "00" "1" "01", [0x01, 0x00, 0xF0], [0]) == [1 << 17]


def test_known_coefficients_have_a_bit_each_and_are_no_zeros_of_a_run() -> None:
    known = 1 << 1 | 1 << 4
    # 1 zero before the new coefficient, its sign, a bit for the known first one; then the end,
    # and a bit for the known fourth one; a second block ends at once
    found = walked(walk_further, "00" "1" "1" "01" "0" "01", [0x11, 0x00], [known, 0])
    assert found == [known | 1 << 3, 0]


@pytest.mark.parametrize(
    ("walk", "bits", "symbols", "band", "why"),
    [
        (walk_first, "01" "1", [0x01, 0x10], (1, 63), "end 1 blocks behind the last one"),
        (walk_further, "01" "1", [0x01, 0x10], (1, 63), "end 1 blocks behind the last one"),
        (walk_first, "00" "1" "01", [0x51, 0x00], (1, 5), "a coefficient beyond its scan"),
        (walk_further, "00" "1" "01", [0x11, 0x00], (1, 1), "a coefficient beyond its scan"),
        (walk_further, "00" "11" "01", [0x02, 0x00], (1, 5), "a code that is none"),
        (walk_first, "11", [0x01, 0x00], (1, 5), "a code that is none"),
        (walk_first, "01" "01" + "10" * 40, [0x01, 0x00], (1, 5), "behind the last block"),
        (walk_first, "01", [0x01, 0x00], (1, 5), None),
    ],
    ids=["run", "later run", "beyond", "later beyond", "size", "no code", "longer", "whole"],
)
def test_what_does_not_fit_the_blocks_is_damage(
    walk: Walk, bits: str, symbols: list[int], band: tuple[int, int], why: str | None
) -> None:
    two = [0, 0] if why is None or "behind" in why else [0]
    if why is None:
        assert walked(walk, bits * 2, symbols, two, band) == [0, 0]
        return
    with pytest.raises(Damaged, match=why):
        walked(walk, bits, symbols, two, band)


def test_data_that_end_too_early_are_damage() -> None:
    for walk in (walk_first, walk_further):
        with pytest.raises(Damaged, match="end before the last block"):
            walked(walk, "01" "01" "01" "01", [0x01, 0x00], [0] * 5)
