"""Samples: images that a generator drew, which can be saved in any format of a synthetic set."""

from __future__ import annotations

from pathlib import Path

from dpgen.data.export import write_images
from dpgen.images.images import Images


class Samples(Images):
    """Images that were drawn from a fitted generator."""

    def save(self, folder: str | Path, format: str = "folder") -> Path:  # noqa: A002
        """Writes the images with their labels and returns the folder.

        The folder appears complete or not at all, without a privacy statement: ``dpgen sample``
        makes a set with its certificate.

        Args:
            folder: the folder to make; absent or empty.
            format: ``folder``, ``npz``, ``parquet`` or ``webdataset``.

        Raises:
            ValueError: there is no such format, or the folder is not empty.
        """
        n_classes = int(self.labels.max()) + 1 if len(self) else 1
        names = self.class_names or tuple(map(str, range(n_classes)))
        return write_images(
            [self], folder, format=format, n_images=len(self), class_names=names
        )
