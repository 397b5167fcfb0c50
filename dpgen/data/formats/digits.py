"""The embedded, public data set: 1,797 handwritten digits of 8x8 pixels, from scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dpgen.data.formats.location import Split
from dpgen.data.formats.records import Records, array_records
from dpgen.data.formats.splits import chosen_splits

TEST_RECORDS = 360


def digits_records(split: Split) -> Records:
    """Returns the digits, uint8 (N, 8, 8, 1) with u = round(v * 255 / 16): 1,437 to train, 360 to
    test.

    The split is stratified and drawn, not every fifth record: the stored order cycles through
    the classes.

    Source: E. Alpaydin and C. Kaynak (1998), UCI "Optical Recognition of Handwritten Digits".
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    order = np.arange(len(bunch.target))
    train, test = train_test_split(
        order, test_size=TEST_RECORDS, random_state=0, stratify=bunch.target
    )
    wanted = chosen_splits(("train", "test"), split, "digits")
    chosen = order if len(wanted) > 1 else train if "train" in wanted else test
    pixels = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target[chosen].astype(np.int64)
    names = tuple(str(digit) for digit in range(10))
    return replace(array_records("digits", pixels, labels, names, "digits"), public=True)
