"""A part of a synthetic set: a share of its blocks as uint8, and what they are a part of.

A part is no set: it has no statement of its own, nothing reads it as data, and `dpgen join` makes
the set of all parts. Its images lie in npz files whatever the format of the set; its
``dpgen-part.json`` holds the model's statement and everything that the images of the whole set
depend on, and is sealed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from dpgen.data.export import write_images
from dpgen.generator.drawing import Redraws, block_size, n_blocks
from dpgen.images.images import Images
from dpgen.privacy.statements.certificate import (
    LARGEST_STATEMENT,
    PART,
    intact,
    sha256_file,
    statement_bytes,
)
from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.settings import from_dict
from dpgen.storage.canonical import digest
from dpgen.storage.files import parse_json, read_text

SCHEMA = "dpgen-part/2"
FILE_BLOCKS = 40  # blocks in a file: 10,240 images, fewer of large ones
KEYS = {"schema", "part", "of", "set", "document", "model", "redraws", "files", "sha256"}


@dataclass(frozen=True)
class Share:
    """Which part of a set: ``index``, counted from 1, of ``of`` parts."""

    index: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.of:
            raise ValueError(
                f"--shard must be i/n with 1 <= i <= n, as 2/8, got {self.index}/{self.of}"
            )

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Reads a share as it is written, 2/8."""
        words = text.split("/")
        if len(words) != 2 or not all(word.isdecimal() and word.isascii() for word in words):
            raise ValueError(f"--shard must be i/n with 1 <= i <= n, as 2/8, got {text!r:.60}")
        return cls(*map(int, words))

    def blocks(self, n_images: int, shape: tuple[int, int, int]) -> range:
        """Returns the numbers of this part's blocks: consecutive, of about the same number in every
        part, and at least one.

        Args:
            n_images: number of images in the whole set.
            shape: (C, H, W) of an image.
        """
        total = n_blocks(n_images, shape)
        if self.of > total:
            raise ValueError(
                f"--shard must be of at most {total} parts, got {self.index}/{self.of}: "
                f"{n_images} images are drawn in {total} blocks of {block_size(shape)}"
            )
        return range((self.index - 1) * total // self.of, self.index * total // self.of)


@dataclass(frozen=True)
class Whole:
    """The set that a part is of: everything that its images and its statement depend on.

    Args:
        document: the model's certificate or notice.
        synthetic: what the statement of the set says of the set.
        labels: SHA-256 of its labels, in order.
        shape: (C, H, W) of an image.
        class_names: one per class, in label order.
        device: kind of device on which the images are computed.
        version: version of dpgen.
    """

    document: Certificate | Notice
    synthetic: Mapping[str, Any]
    labels: str
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    device: str
    version: str

    @property
    def content(self) -> dict[str, Any]:
        """Returns all but the document, as it is written into a part."""
        return {
            "synthetic": dict(self.synthetic), "labels": self.labels, "shape": list(self.shape),
            "class_names": list(self.class_names), "device": self.device, "version": self.version,
        }  # fmt: skip

    def difference(self, other: Whole) -> str | None:
        """Names the first thing that differs between two sets; None if they are one set."""
        if self.document != other.document:
            return "model"
        one = {**self.content, **self.synthetic}
        two = {**other.content, **other.synthetic}
        names = [*self.synthetic, *self.content, *two]
        return next((name for name in names if one.get(name) != two.get(name)), None)


@dataclass(frozen=True)
class Part:
    """A part that was read: its folder, its share, its set, what was drawn again for it, and the
    names of its files in order.
    """

    folder: Path
    share: Share
    whole: Whole
    redraws: Redraws
    files: tuple[str, ...]


def whole_of(
    document: Certificate | Notice, synthetic: Mapping[str, Any], labels: Tensor,
    shape: tuple[int, int, int], class_names: Sequence[str], device: str,
) -> Whole:  # fmt: skip
    """Describes the set that is about to be drawn; arguments as for `Whole`, and its labels (N,).
    """
    mark = hashlib.sha256(labels.numpy().astype("<i8").tobytes()).hexdigest()
    return Whole(
        document, synthetic, mark, shape, tuple(class_names), device, version("dpgen")
    )  # fmt: skip


def write_part(
    blocks: Iterable[Images], out: Path, share: Share, whole: Whole, redraws: Redraws
) -> int:
    """Writes the blocks of a share and returns the number of their images. The folder appears
    complete or not at all.

    Args:
        redraws: what was drawn again, counted while the blocks are drawn.
    """
    n_images = images_in(share, whole)

    def described(folder: Path) -> dict[str, Any]:
        body = {
            "schema": SCHEMA,
            "part": share.index,
            "of": share.of,
            "set": whole.content,
            "document": whole.document.name,
            "model": dict(whole.document.content),
            "redraws": redraws.told,
            "files": {path.name: sha256_file(path) for path in sorted(folder.iterdir())},
        }
        return {**body, "sha256": digest(body)}

    write_images(
        blocks,
        out,
        format="npz",
        n_images=n_images,
        class_names=whole.class_names,
        shard_size=FILE_BLOCKS * block_size(whole.shape),
        certificate=described,
        certificate_name=PART,
    )
    return n_images


def images_in(share: Share, whole: Whole) -> int:
    """Returns the number of images in a share of a set."""
    n_images, size = int(whole.synthetic["samples"]), block_size(whole.shape)
    blocks = share.blocks(n_images, whole.shape)
    return min(blocks.stop * size, n_images) - blocks.start * size


def read_part(folder: Path) -> Part:
    """Reads what a folder is a part of, and checks its seal and every file.

    Raises:
        ValueError: the folder is no part, or was changed since it was written.
    """
    path = folder / PART
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist")
    if not path.is_file():
        raise ValueError(f"{folder} is no part of a set, as `dpgen sample --shard` makes it")
    text = read_text(path, 4 * LARGEST_STATEMENT)
    content = parse_json(text, str(path))
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ValueError(
            f"{path} must have the schema {SCHEMA!r}, got {schema!r:.60}: use the version of dpgen "
            "that wrote it"
        )
    cure = "draw the part again"
    if content.keys() != KEYS or not intact(content) or text.encode() != statement_bytes(content):
        raise ValueError(f"{path} was changed since it was written: {cure}")
    try:
        kind = {one.name: one for one in (Certificate, Notice)}[content["document"]]
        told = dict(content["set"])
        told |= {name: tuple(told[name]) for name in ("shape", "class_names")}
        whole = Whole(kind(content["model"]), **told)
        share, files = Share(content["part"], content["of"]), dict(content["files"])
        redraws = from_dict(Redraws, content["redraws"], "redraws.")
        _ = str(whole.synthetic["format"])
        if not redraws.possible(images_in(share, whole)):
            raise ValueError(f"counts of redraws, got {redraws.told}")
        sound = isinstance(whole.document, Notice) or intact(whole.document.content)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"{path} lacks or misplaces {error}: {cure}") from None
    if not sound:
        raise ValueError(f"{path}: the model's statement in it was changed: {cure}")
    found = {entry.name for entry in folder.iterdir()} - {PART}
    wrong = sorted(found ^ files.keys())
    wrong += [
        name for name, mark in files.items()
        if name in found and ((folder / name).is_symlink() or sha256_file(folder / name) != mark)
    ]  # fmt: skip
    if wrong:
        raise ValueError(
            f"{folder}: {', '.join(wrong):.200} missing, foreign or changed since the part was "
            f"written: {cure}"
        )
    return Part(folder, share, whole, redraws, tuple(sorted(files)))
