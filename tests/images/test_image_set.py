"""Images are a data set for a DataLoader, show themselves in a notebook and can be saved."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dpgen import Samples, open_images
from dpgen.data.formats.table import written
from dpgen.data.sources import open_source, read_images
from dpgen.images.images import Images, to_float

U = torch.randint(256, (7, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 0, 1, 1, 0, 1])


def images(kind: type[Images] = Images) -> Images:
    return kind(to_float(U), LABELS, ("ill", "well"))


def test_images_have_a_length_and_give_pairs_by_position() -> None:
    some = images()
    pixels, label = some[1]
    assert len(some) == 7 and torch.equal(pixels, some.pixels[1])
    assert label == 1 and type(label) is int
    assert some[-1][1] == 1 and some[torch.tensor(2)][1] == 0 and some[np.int64(3)][1] == 1
    with pytest.raises(IndexError, match="image 7 of 7"):
        some[7]
    assert [label for _, label in some] == LABELS.tolist()


@pytest.mark.parametrize(
    ("index", "chosen"),
    [
        (slice(2, 5), [2, 3, 4]),
        ([6, 0], [6, 0]),
        ((6, 0), [6, 0]),
        (LABELS == 0, [0, 2, 5]),
        (torch.tensor([3, 3]), [3, 3]),
        (slice(0, 0), []),
    ],
    ids=["slice", "list", "tuple", "mask", "positions", "none"],
)
def test_some_of_the_images_are_images_of_the_same_classes(
    index: object, chosen: list[int]
) -> None:
    part = images(Samples)[index]  # type: ignore[call-overload]
    assert type(part) is Samples and part.class_names == ("ill", "well")
    assert torch.equal(part.pixels, to_float(U)[chosen]) and part.labels.tolist() == [
        int(LABELS[k]) for k in chosen
    ]


def test_a_data_loader_makes_batches_of_them() -> None:
    batches = list(DataLoader(images(), batch_size=4))  # type: ignore[arg-type]
    assert [tuple(pixels.shape) for pixels, _ in batches] == [(4, 1, 8, 8), (3, 1, 8, 8)]
    assert torch.equal(torch.cat([pixels for pixels, _ in batches]), to_float(U))
    assert torch.equal(torch.cat([labels for _, labels in batches]), LABELS)


def test_joined_images_keep_their_order_and_classes() -> None:
    some = images()
    whole = Images.joined([some[:3], some[3:]])
    assert torch.equal(whole.pixels, some.pixels) and whole.class_names == ("ill", "well")


def test_the_picture_of_one_image_is_exact_in_grey_and_in_colour() -> None:
    assert np.array_equal(np.asarray(images().to_pil(2)), U[2, 0].numpy())
    colour = U.expand(-1, 3, -1, -1).clone()
    colour[:, 1] = 255 - colour[:, 1]
    shown = Images(to_float(colour), LABELS).to_pil(0)
    assert shown.mode == "RGB"
    assert np.array_equal(np.asarray(shown), colour[0].permute(1, 2, 0).numpy())


def test_a_notebook_shows_a_picture_by_class_and_nothing_of_no_images() -> None:
    data = images()._repr_png_()
    assert data is not None
    picture = Image.open(BytesIO(data))
    assert picture.mode == "L" and picture.size[0] > picture.size[1] > 2 * 64
    assert Images(to_float(U), LABELS)._repr_png_() == data  # names are not needed
    assert images()[:0]._repr_png_() is None


def test_their_words_tell_number_shape_and_classes() -> None:
    assert repr(images()) == "Images(7 of 1x8x8, 2 classes)"
    assert repr(Samples(to_float(U), LABELS)) == "Samples(7 of 1x8x8)"


@pytest.mark.parametrize("layout", written())
def test_saved_samples_are_read_back_with_their_labels_and_classes(
    layout: str, tmp_path: Path
) -> None:
    some = images(Samples)
    assert isinstance(some, Samples)
    folder = some.save(tmp_path / "out", layout)
    source = open_source(folder)
    pixels, labels = source.read(range(len(source)))
    order = torch.argsort(LABELS, stable=True) if layout == "folder" else torch.arange(7)
    assert source.class_names == ("ill", "well")
    assert torch.equal(pixels, U[order]) and torch.equal(labels, LABELS[order])
    with pytest.raises(ValueError, match="empty"):
        some.save(tmp_path / "out", layout)


def test_images_that_name_their_classes_need_no_declaration() -> None:
    assert open_images(images()).facts.class_names == ("ill", "well")
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.0"):
        open_images(Images(to_float(U), LABELS, ("all",)))
    again = read_images(images())
    assert torch.equal(again.labels, LABELS)
