from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from dpgen.data.sources import open_source


def test_the_digits_are_public_and_their_splits_are_all_of_them() -> None:
    train, test = open_source("digits", split="train"), open_source("digits", split="test")
    whole = open_source("digits")
    assert whole.public and (len(train), len(test), len(whole)) == (1437, 360, 1797)
    parts = [record.tobytes() for part in (train, test) for record, _ in part.raw_records()]
    assert sorted(parts) == sorted(record.tobytes() for record, _ in whole.raw_records())


def test_the_test_split_holds_every_class_in_its_share() -> None:
    labels = open_source("digits", split="test").read(range(360))[1].numpy()
    whole = load_digits().target
    assert np.abs(np.bincount(labels) - np.bincount(whole) * 360 / 1797).max() <= 1


def test_digit_pixels_are_sixteenths_of_white() -> None:
    pixels, labels = open_source("digits").read(range(1797))
    bunch = load_digits()
    assert np.array_equal(pixels.numpy()[:, 0], np.rint(bunch.images * 255 / 16))
    assert np.array_equal(labels.numpy(), bunch.target)
