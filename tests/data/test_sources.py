from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import dpgen.data.sources as sources
from dpgen.data.formats.pictures import encode_png
from dpgen.data.sources import Source, open_source, read_images
from dpgen.images.images import Images, to_uint8

SHARED = Path(os.environ.get("DPGEN_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")
PIXELS = np.random.default_rng(5).integers(0, 256, (6, 8, 8, 3), np.uint8)


def folder(path: Path) -> Path:
    for i, pixels in enumerate(PIXELS):
        path.joinpath(str(i % 2)).mkdir(parents=True, exist_ok=True)
        path.joinpath(str(i % 2), f"{i}.png").write_bytes(encode_png(pixels))
    return path


def identity(source: Source) -> list[tuple[bytes, tuple[int, ...], int]]:
    return sorted((raw.tobytes(), raw.shape, label) for raw, label in source.raw_records())


def test_an_unknown_name_is_answered_with_the_known_one() -> None:
    with pytest.raises(FileNotFoundError, match="'digts': did you mean 'digits'"):
        open_source("digts")
    with pytest.raises(
        FileNotFoundError, match="'no/such/path': name a file, a folder, or 'digits'"
    ):
        open_source("no/such/path")


def test_a_folder_called_digits_is_reached_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert open_source("digits").public
    for path in ("./digits", Path("digits")):
        source = open_source(path)
        assert (source.kind, source.public, len(source)) == ("folder", False, 6)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"split": "holdout"}, "train, test, validation or all"),
        ({"split": "validation"}, "digits has no validation split"),
        ({"size": 0}, "size"),
        ({"size": 8.0}, "size"),
        ({"channels": 2}, "1 or 3, got 2"),
        ({"value_range": (0, 1)}, "8-bit"),
        ({"value_range": (0, float("nan"))}, "finite"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        open_source("digits", **arguments)


@pytest.mark.parametrize("bad", [[6], [-1], [0, 7]])
def test_positions_outside_the_data_are_refused(tmp_path: Path, bad: list[int]) -> None:
    with pytest.raises(IndexError, match=r"0\.\.5"):
        open_source(folder(tmp_path)).read(bad)


def test_fractional_positions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        open_source(folder(tmp_path)).read([0.5])


def test_no_positions_are_an_empty_batch(tmp_path: Path) -> None:
    for indices in ([], np.array([], np.int64)):
        pixels, labels = open_source(folder(tmp_path)).read(indices)
        assert pixels.shape == (0, 3, 8, 8) and pixels.dtype == torch.uint8
        assert labels.shape == (0,) and labels.dtype == torch.int64


@pytest.mark.parametrize("options", [{}, {"size": 5}, {"channels": 1}, {"size": 12, "channels": 1}])
def test_a_set_too_large_to_keep_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, int]
) -> None:
    kept = open_source(folder(tmp_path), **options)
    monkeypatch.setattr(sources, "CACHE_BYTES", 0)
    lazy = open_source(tmp_path, **options)
    for a, b in zip(kept.read([4, 1, 1]), lazy.read([4, 1, 1]), strict=True):
        assert torch.equal(a, b)
    assert identity(kept) == identity(lazy)


def test_a_kept_set_outlives_its_files(tmp_path: Path) -> None:
    source = open_source(folder(tmp_path))
    next(tmp_path.glob("0/*.png")).unlink()
    assert len(source.read(range(6))[0]) == 6


def test_the_identity_does_not_depend_on_format_size_or_channels(tmp_path: Path) -> None:
    labels = np.arange(6) % 2
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=labels)
    array = open_source(tmp_path / "a.npz", size=4, channels=1, classes=2)
    assert identity(open_source(folder(tmp_path / "f"))) == identity(array)


def test_what_read_returns_may_be_changed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS)
    source = open_source(tmp_path)
    source.read([0])[0].zero_()
    assert np.array_equal(source.read([0])[0][0].permute(1, 2, 0).numpy(), PIXELS[0])


def test_read_images_returns_floats_that_round_to_the_pixels(tmp_path: Path) -> None:
    images = read_images(folder(tmp_path))
    assert isinstance(images, Images) and images.pixels.dtype == torch.float32
    order = [0, 2, 4, 1, 3, 5]
    assert np.array_equal(to_uint8(images.pixels).permute(0, 2, 3, 1).numpy(), PIXELS[order])
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="MNIST is not beside this checkout")
def test_mnist_is_read_as_published() -> None:
    splits = ("train", "test")
    train, test = (open_source(SHARED / "mnist", split=split, classes=10) for split in splits)
    assert (len(train), len(test), train.shape) == (60000, 10000, (1, 28, 28))
    assert train.read([0])[1].tolist() == [5] and test.read([0])[1].tolist() == [7]
    assert train.class_names == tuple("0123456789") and not train.public
    pixels, labels = train.read(range(60000))
    assert torch.bincount(labels)[:3].tolist() == [5923, 6742, 5958]
    assert pixels.double().mean().div(255).item() == pytest.approx(0.1307, abs=5e-5)


@pytest.mark.skipif(
    not (SHARED / "cifar10").is_dir(), reason="CIFAR-10 is not beside this checkout"
)
def test_cifar_10_is_read_as_published() -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs the extra `parquet`")
    source = open_source(SHARED / "cifar10", split="test")
    assert (len(source), source.shape) == (10000, (3, 32, 32))
    assert source.class_names == (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    labels = source.read(range(10000))[1]
    assert torch.bincount(labels).tolist() == [1000] * 10
    # This copy names its pictures by class: cat_0577.jpg.
    rows = pq.read_table(next((SHARED / "cifar10").glob("test-*"))).column("image").to_pylist()
    assert [row["path"].split("_")[0] for row in rows] == [source.class_names[i] for i in labels]
