"""What the pages of a set are about: its statement or notice, its files, its curator's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpgen.data.formats.table import FORMATS, written
from dpgen.privacy.statements.attack import Attack, attack_of
from dpgen.privacy.statements.certificate import CertificateError, sha256_file
from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.release.release_file import ReleaseFile

MARK = "dpgen-pages/1"  # in every page: what may be written again
MARKED = f"{MARK} (dpgen {version('dpgen')})"  # and who wrote it


@dataclass(frozen=True)
class Subject:
    """A synthetic set.

    Args:
        folder: where it lies; its images are there.
        document: its certificate or notice, intact.
        words: what its curator says of it.
    """

    folder: Path
    document: Certificate | Notice
    words: ReleaseFile

    def __post_init__(self) -> None:
        kind = self.content["artifact"]["kind"]
        if kind != "synthetic_dataset":
            raise CertificateError(
                f"{self.folder} is a trained run and no synthetic set: dpgen sample draws one"
            )
        if self.layout not in written():
            raise CertificateError(f"{self.folder} has the unknown format {self.layout!r:.60}")

    @property
    def content(self) -> Mapping[str, Any]:
        return self.document.content

    @property
    def certified(self) -> bool:
        return isinstance(self.document, Certificate)

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        """Returns the statements of the sets that a mixture was made of; of any other, its own."""
        mixture = self.content.get("mixture")
        return [self.content] if mixture is None else list(mixture["parts"])

    @property
    def facts(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.parts[0]["facts"]
        return found

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.facts["class_names"])

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.facts["shape"]
        return channels, height, width

    @property
    def layout(self) -> str:
        return str(self.content["synthetic_dataset"]["format"])

    @property
    def n_images(self) -> int:
        return int(self.content["synthetic_dataset"]["samples"])

    @property
    def created(self) -> str:
        return str(self.content["artifact"]["created"])

    @property
    def methods(self) -> str:
        """Returns the methods that made it: id and version."""
        made = {(part["mechanism"]["id"], part["mechanism"]["version"]) for part in self.parts}
        return ", ".join(f"{name} (dpgen {version})" for name, version in sorted(made))

    @property
    def name(self) -> str:
        """Names the set as its curator does, or by its content; never by its folder."""
        made_of = "mixture" if "mixture" in self.content else self.content["mechanism"]["id"]
        return self.words.of("name") or f"{self.n_images} synthetic images ({made_of})"

    @property
    def description(self) -> str:
        channels, height, width = self.shape
        colour = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
        said = self.words.of("description")
        drawn = (
            f"{self.n_images} synthetic {colour} images of {width}x{height} pixels in "
            f"{len(self.class_names)} {'class' if len(self.class_names) == 1 else 'classes'}, "
            "drawn from a generative model"
        )
        return f"{said} {drawn}" if said else drawn

    def shards(self) -> list[Path]:
        """Returns the files that hold the images; none for a folder, in which each image is one."""
        pattern = FORMATS[self.layout].shards
        return sorted(self.folder.glob(pattern)) if pattern else []

    def hashes(self) -> dict[str, str]:
        """Returns the SHA-256 of the files that are few enough to be listed, by name."""
        listed = [self.folder / self.document.name, *self.shards()]
        if (classes := self.folder / "dataset.json").is_file():
            listed.append(classes)
        return {path.name: sha256_file(path) for path in listed}

    def attack(self) -> Attack:
        """Returns what an attacker gains at most from all that was released: computed from the
        events of the statement, each rate an upper bound. Needs a certificate.
        """
        return attack_of(self.content)
