"""Code that loads a set of each format with other libraries, for dataset cards; tests run it."""

from __future__ import annotations

DATASETS = """\
from datasets import load_dataset

images = load_dataset("FOLDER", split="train")
"""
IMAGE_FOLDER = """\
from torchvision.datasets import ImageFolder

images = ImageFolder("FOLDER")  # numbers the class folders that are there, by name
"""
WEBDATASET = """\
import glob

import webdataset

shards = sorted(glob.glob("FOLDER/shard-*.tar"))
images = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls")
"""
ARRAYS = """\
import glob

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Picture

shards = sorted(glob.glob("FOLDER/images-*.npz"))


def rows():
    for path in shards:
        with np.load(path) as shard:
            for pixels, label in zip(shard["images"], shard["labels"]):
                yield {"image": Picture.fromarray(pixels.squeeze()), "label": int(label)}


names = np.load(shards[0])["class_names"].tolist()
features = Features({"image": Image(), "label": ClassLabel(names=names)})
images = Dataset.from_generator(rows, features=features)
"""
OWN = """\
import dpgen

images = dpgen.open_images("FOLDER")
"""
NO_READER = (
    "`load_dataset` has no reader of npz archives. This makes the same of them; or draw the set "
    "again with `--format parquet`."
)


def loading(layout: str) -> str:
    """Writes the code in Markdown.

    Args:
        layout: format of the set.
    """
    if layout == "npz":
        return f"{NO_READER}\n\n{_block(ARRAYS)}"
    more = {"folder": IMAGE_FOLDER, "parquet": "", "webdataset": WEBDATASET}
    if layout not in more:
        return _block(OWN)
    shown = [DATASETS] + ([more[layout]] if more[layout] else [])
    return "\n".join(map(_block, shown))


def _block(code: str) -> str:
    return f"```python\n{code}```\n"
