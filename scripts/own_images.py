"""Make six small image data sets, as people have them, to try dpgen on data that are not its own.

    python scripts/own_images.py FOLDER

    grey28   PNG, the embedded digits 0 to 3 at 28x28
    rgb32    JPEG, discs, squares and stripes in colour
    rgb64    PNG beside a note, a Thumbs.db and a metadata.csv: round and long cells
    grey16   PNG of 16 bits that hold 12: --value-range 0,4095; a ring or a bar of bright pixels
    dicom    Hounsfield units with a window: lungs with and without a nodule; needs pydicom
    rgb128   JPEG, leaves and flowers of the same colours, turned and moved: too few for shapes

Each has the folders train and test with one folder per class. No personal data: all is drawn or in
scikit-learn. The same pixels come out each time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Draw = Callable[[np.random.Generator, int], np.ndarray]
TEST_SHARE = 0.2


def grid(rng: np.random.Generator, side: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns coordinates (side, side) down and across in [-1, 1], moved by up to ``spread``."""
    down, across = np.meshgrid(*[np.linspace(-1, 1, side)] * 2, indexing="ij")
    moved = rng.uniform(-spread, spread, 2)
    return down - moved[0], across - moved[1]


def in_colour(rng: np.random.Generator, mask: np.ndarray, ink: tuple, paper: tuple) -> np.ndarray:
    """Paints ``ink`` where ``mask`` is 1 on ``paper``, with a little noise: uint8 (H, W, 3)."""
    picture = mask[..., None] * np.array(ink) + (1 - mask[..., None]) * np.array(paper)
    noisy = picture + rng.normal(0, 8, 3) + rng.normal(0, 4, picture.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def shape32(rng: np.random.Generator, label: int) -> np.ndarray:
    """Draws a red disc, a blue square, or green stripes; 32x32 RGB."""
    down, across = grid(rng, 32, 0.25)
    size = rng.uniform(0.4, 0.6)
    masks = (
        np.hypot(down, across) < size,
        np.maximum(abs(down), abs(across)) < size,
        np.sin(9 * (down + across)) > 0,
    )
    inks = ((200, 50, 40), (40, 70, 200), (40, 150, 60))
    return in_colour(rng, masks[label].astype(float), inks[label], (225, 220, 200))


def cell64(rng: np.random.Generator, label: int) -> np.ndarray:
    """Draws a round cell with one nucleus or a long one with two; 64x64 RGB, pink and violet."""
    down, across = grid(rng, 64, 0.2)
    length = 1.0 if label == 0 else 2.2
    body = np.hypot(down * length, across / (1.0 if label == 0 else 1.3)) < 0.6
    nuclei = np.zeros_like(down, bool)
    for place in (0.0,) if label == 0 else (-0.35, 0.35):
        nuclei |= np.hypot(down, across - place) < (0.25 if label == 0 else 0.14)
    picture = in_colour(rng, body.astype(float), (225, 140, 180), (245, 235, 240)).astype(float)
    return np.where(nuclei[..., None], np.array([90, 50, 130]), picture).astype(np.uint8)


def deep32(rng: np.random.Generator, label: int) -> np.ndarray:
    """Draws a bright ring or bar in 12 of 16 bits, 32x32 grey."""
    down, across = grid(rng, 32, 0.2)
    ring = abs(np.hypot(down, across) - rng.uniform(0.45, 0.6)) < 0.15
    bar = (abs(across) < 0.2) & (abs(down) < 0.8)
    values = 500 + 2600 * (ring if label == 0 else bar) + rng.normal(0, 80, down.shape)
    return values.clip(0, 4095).astype(np.uint16)


def lung(rng: np.random.Generator, label: int) -> np.ndarray:
    """Draws a chest of 64x64 in Hounsfield units, air -850, tissue 40, with a nodule for label 1.
    """
    down, across = grid(rng, 64, 0.08)
    values = np.full(down.shape, -1000.0)
    values[np.hypot(down / 0.75, across / 0.95) < 1] = 40
    for side in (-0.42, 0.42):
        values[np.hypot(down / 0.5, (across - side) / 0.3) < 1] = -850
    if label:
        place = rng.uniform(-0.2, 0.2), rng.choice([-0.42, 0.42])
        values[np.hypot(down - place[0], across - place[1]) < 0.18] = 60
    return values + rng.normal(0, 25, values.shape)


def plant128(rng: np.random.Generator, label: int) -> np.ndarray:
    """Draws a leaf or a flower of five petals, 128x128 RGB: of any size, turn and place, and of the
    same colours.
    """
    down, across = grid(rng, 128, 0.3)
    turn, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.6)
    if label == 0:
        along = down * np.cos(turn) + across * np.sin(turn)
        beside = across * np.cos(turn) - down * np.sin(turn)
        mask = abs(along) + abs(beside) / 0.45 < size
    else:
        mask = np.zeros_like(down, bool)
        for angle in turn + np.arange(5) * 2 * np.pi / 5:
            petal = np.hypot(down - 0.6 * size * np.cos(angle), across - 0.6 * size * np.sin(angle))
            mask |= petal < 0.36 * size
    ink, paper = rng.uniform((150, 60, 80), (220, 120, 180)), rng.uniform(60, 110, 3)
    return in_colour(rng, mask.astype(float), tuple(ink), tuple(paper))


def save_dicom(hounsfield: np.ndarray, path: Path) -> None:
    """Writes a CT slice as scanners do: 16 bits, intercept -1024, a lung window in the tags."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[str(path)])
    made.Modality, made.PatientName, made.PatientID = "CT", "Nobody^At All", "0"
    made.PhotometricInterpretation, made.SamplesPerPixel = "MONOCHROME2", 1
    made.Rows, made.Columns = hounsfield.shape
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    made.WindowCenter, made.WindowWidth = -400, 1200
    made.PixelData = (hounsfield + 1024).clip(0, 65535).astype("<u2").tobytes()
    made.save_as(path, enforce_file_format=True)


def save_picture(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path)


def place(folder: Path, i: int, n: int, name: str, suffix: str) -> Path:
    """Returns the path of record ``i`` of ``n`` of a class; the last fifth is the test split."""
    split = "test" if i >= n * (1 - TEST_SHARE) else "train"
    path = folder / split / name / f"{i:04d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def digits(folder: Path) -> None:
    """Writes the digits 0 to 3 of scikit-learn, resized from 8x8 to 28x28."""
    from sklearn.datasets import load_digits

    found = load_digits()
    for label in range(4):
        pictures = found.images[found.target == label]
        for i, pixels in enumerate(pictures):
            small = Image.fromarray((pixels * 255 / 16).astype(np.uint8))
            save_picture(
                np.asarray(small.resize((28, 28), Image.Resampling.BICUBIC)),
                place(folder, i, len(pictures), str(label), ".png"),
            )


def odd_files(folder: Path) -> None:
    """Adds files that are often found beside images: a note, a thumbnail index, a table of
    patients.
    """
    (folder / "train" / "read me.txt").write_text("From the archive, ask Eve before copying.\n")
    (folder / "train" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(508))
    rows = [
        f"{path.relative_to(folder / 'train').as_posix()},{40 + i % 40}"
        for i, path in enumerate(sorted((folder / "train").glob("*/*.png")))
    ]
    (folder / "train" / "metadata.csv").write_text("\n".join(["file_name,age", *rows]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rng = np.random.default_rng(0)
    digits(folder / "grey28")
    drawn: tuple[tuple[str, Draw, tuple[str, ...], int, str], ...] = (
        ("rgb32", shape32, ("disc", "square", "stripes"), 400, ".jpg"),
        ("rgb64", cell64, ("round", "long"), 450, ".png"),
        ("grey16", deep32, ("ring", "bar"), 450, ".png"),
        ("dicom", lung, ("well", "nodule"), 450, ".dcm"),
        ("rgb128", plant128, ("leaf", "flower"), 400, ".jpg"),
    )
    for name, draw, classes, n, suffix in drawn:
        for label, class_name in enumerate(classes):
            for i in range(n):
                path = place(folder / name, i, n, class_name, suffix)
                (save_dicom if suffix == ".dcm" else save_picture)(draw(rng, label), path)
    odd_files(folder / "rgb64")


if __name__ == "__main__":
    main()
