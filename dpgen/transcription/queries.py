"""Images that given teachers are asked about: of a certified set or run, or declared public."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dpgen.configurations.teachers import QueryImages
from dpgen.data.once_public import note_public
from dpgen.data.public import open_public, require_unknown
from dpgen.data.sources import open_source
from dpgen.images.facts import PublicFacts
from dpgen.images.images import to_float, to_uint8
from dpgen.images.public_images import pixels_sha256
from dpgen.methods.loading import load
from dpgen.methods.planned import planned_checks
from dpgen.privacy.statements.certificate import CERTIFICATE, NOTICE, CertificateError
from dpgen.privacy.statements.document import Certificate, read_document
from dpgen.privacy.statements.given_teachers import PUBLIC, RUN, SET
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.privacy.statements.public_start import start_of
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import digest

N_DRAWN, MOST_IMAGES = 2000, 20_000
SEED = 0  # of images that are drawn from a run: the same at every resume


@dataclass(frozen=True, eq=False)
class Queries:
    """A pool of images, none of which is a silo's record.

    Args:
        told: what a statement says of them.
        images: (N, C, H, W) in [-1, 1].
        marks: of images that were declared public; None for others.
    """

    told: QueryImages
    images: Tensor
    marks: np.ndarray | None = None

    def note(self) -> None:
        """Notes in the installation that public images are about to be learned from."""
        if self.marks is not None:
            note_public(self.marks)


def read_queries(images: Path | None, public: Any, facts: PublicFacts) -> Queries:  # noqa: ANN401
    """Reads the images that teachers may be asked about.

    Args:
        images: a synthetic set with a certificate, or a run with one, from which 2000 are drawn;
            None for public images.
        public: images that whoever runs this declares public, as for `open_public`; None for those
            of a set or a run.
        facts: public facts of the teachers.

    Raises:
        UnverifiedClaim: the set or the run has no guarantee.
        CertificateError: its certificate does not hold.
        ValueError: both or neither are given, or the images are not of the teachers' shape.
    """
    if (images is None) == (public is None):
        raise ValueError(
            "teachers are asked about images: name those of a certified set or run, or images that "
            "you declare public (--public), one of the two"
        )
    if images is None:
        opened = open_public(public, facts)
        marks = require_unknown(opened)
        found = opened.images()
        _require_few(found.name, len(found))
        told = QueryImages(PUBLIC, found.name, len(found), found.sha256)
        return Queries(told, to_float(found.pixels), marks)
    document = _certified(images)
    is_set = document.content["artifact"]["kind"] == "synthetic_dataset"
    pixels = _read_set(images) if is_set else _drawn(images)
    name = images.resolve().name
    if tuple(pixels.shape[1:]) != facts.shape:
        raise ValueError(
            f"images of {images} must have the shape that the teachers take, {facts.shape}, got "
            f"{tuple(pixels.shape[1:])}"
        )
    told = QueryImages(
        SET if is_set else RUN, name, len(pixels), pixels_sha256(pixels),
        digest(document.content), " ".join([document.content["statement"], *_started(document)]),
    )  # fmt: skip
    return Queries(told, to_float(pixels))


def _started(document: Certificate) -> list[str]:
    """Returns what a statement says of the images or weights that its network began with: their
    owners' records may be behind a teacher, too.
    """
    told = start_of(document.content)
    return [] if told is None else [told]


def _certified(folder: Path) -> Certificate:
    """Returns the certificate of a set or a run that holds."""
    if not (folder / CERTIFICATE).is_file():
        if (folder / NOTICE).is_file():
            raise UnverifiedClaim(
                f"{folder} carries a notice, not a certificate: nothing bounds what its images say "
                "of their records, and whoever is asked about them adds to it. Take certified or "
                "public images"
            )
        raise ValueError(
            f"{folder} must be a synthetic set or a run with a certificate, and has none: "
            "images that everyone has are named with --public"
        )
    failed = [c.name for c in (*verify(folder), *planned_checks(folder)) if c.failed]
    if failed:
        raise CertificateError(f"{folder} does not hold ({', '.join(failed)}): see dpgen verify")
    document = read_document(folder)
    assert isinstance(document, Certificate)
    return document


def _read_set(folder: Path) -> Tensor:
    source = open_source(folder)
    _require_few(str(folder), len(source))
    return source.read(range(len(source)))[0]


def _drawn(folder: Path) -> Tensor:
    return to_uint8(load(folder).sample(N_DRAWN, seed=SEED).pixels)


def _require_few(name: str, n: int) -> None:
    if n > MOST_IMAGES:
        raise ValueError(f"{name} must have at most {MOST_IMAGES} images to ask about, got {n}")
