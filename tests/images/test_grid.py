from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpgen.images.grid import MARGIN, grid, save_grid
from dpgen.images.images import Images, to_float


def flat_images(
    values: list[int], labels: list[int], *, channels: int = 1, side: int = 8
) -> Images:
    """Image i is ``values[i]`` everywhere."""
    pixels = torch.tensor(values, dtype=torch.uint8)[:, None, None, None]
    return Images(to_float(pixels.expand(-1, channels, side, side)), torch.tensor(labels))


def centres(picture: torch.Tensor, n_rows: int, n_columns: int) -> list[list[int]]:
    """The first channel in the middle of every cell."""
    height, width = (picture.shape[0] - MARGIN) // n_rows, (picture.shape[1] - MARGIN) // n_columns
    return [
        [
            int(picture[MARGIN + i * height + height // 2, MARGIN + j * width + width // 2, 0])
            for j in range(n_columns)
        ]
        for i in range(n_rows)
    ]


def test_row_k_holds_class_k_in_the_order_given() -> None:
    picture = grid(flat_images([10, 20, 30, 40, 50], [1, 0, 1, 0, 1]), 3, n_columns=2)
    # The third image of class 1 does not fit; class 2 is blank.
    assert centres(picture, 3, 2) == [[20, 40], [10, 30], [255, 255]]


def test_a_single_class_fills_rows() -> None:
    picture = grid(flat_images([1, 2, 3, 4, 5], [0] * 5), 1, n_columns=2)
    assert centres(picture, 3, 2) == [[1, 2], [3, 4], [5, 255]]


def test_small_images_are_magnified_by_repeating_pixels() -> None:
    pixels = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    picture = grid(Images(to_float(pixels), torch.tensor([0])), 1, n_columns=1)
    assert picture.shape == (64 + 2 * MARGIN, 64 + 2 * MARGIN, 1)
    inside = picture[MARGIN:-MARGIN, MARGIN:-MARGIN, 0]
    assert torch.equal(inside, pixels[0, 0].repeat_interleave(8, 0).repeat_interleave(8, 1))


def test_large_images_keep_their_pixels() -> None:
    assert grid(flat_images([7], [0], side=100), 1, n_columns=1).shape[0] == 100 + 2 * MARGIN


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_saved_picture_reads_back_unchanged(tmp_path: Path, channels: int, mode: str) -> None:
    images = flat_images([10, 200], [0, 1], channels=channels)
    save_grid(images, tmp_path / "preview.png", 2, n_columns=3)
    with Image.open(tmp_path / "preview.png") as picture:
        assert picture.mode == mode
        read = np.atleast_3d(np.asarray(picture))
    assert np.array_equal(read, grid(images, 2, n_columns=3).numpy())


def test_a_disk_that_fills_leaves_the_old_picture_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "grid.png"
    save_grid(flat_images([0, 255], [0, 1]), path, 2)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_grid(flat_images([9, 99], [0, 1]), path, 2)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    images = flat_images([1], [0])
    with pytest.raises(ValueError, match="n_columns must be at least 1, got 0"):
        grid(images, 1, n_columns=0)
    with pytest.raises(ValueError, match="C 1 or 3"):
        grid(flat_images([1], [0], channels=2), 1)
    with pytest.raises(ValueError, match="N of at least 1"):
        grid(flat_images([], []), 1)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\), got 3 to 3"):
        grid(flat_images([1], [3]), 1)
    with pytest.raises(ValueError, match="path must end in .png"):
        save_grid(images, tmp_path / "preview.jpg", 1)
