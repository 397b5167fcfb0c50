"""What a statement says of teachers that silos have handed over, and of what they were asked about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpgen.privacy.statements.certificate import CertificateError

KEY = "teachers"  # in a statement; absent where networks learned from records
METHOD = "teachers"  # in config.json
SENTENCE = "statement"
SET, RUN, PUBLIC = SOURCES = ("set", "run", "public")
IMAGES = {"source", "name", "n_images", "sha256", "origin", "guarantee"}


def told_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the part of a statement about the teachers of a run, from its configuration; None for
    a run that learned from records.

    Raises:
        CertificateError: the configuration holds no teachers that a run writes.
    """
    if config["method"] != METHOD:
        return None
    settings = config["settings"]
    return told(settings["names"], settings["images"])


def told(names: Any, images: Any) -> dict[str, Any]:  # noqa: ANN401
    """Returns the part of a statement about teachers.

    Args:
        names: names of their slots, in order.
        images: what they were asked about, as JSON values: where the images come from, by what name
            and how many they are, and the SHA-256 of their pixels; of a set or a run also the
            digest of its statement (``origin``) and the sentence of its guarantee.

    Raises:
        CertificateError: these are not such values.
    """
    whole = isinstance(names, list) and names and all(type(name) is str for name in names)
    if not whole or len(set(names)) != len(names):
        raise CertificateError("teachers have different names, one for each slot")
    _check_images(images)
    return {
        "names": list(names), "images": dict(images), SENTENCE: _words(len(names), images)
    }  # fmt: skip


def words_of(statement: Mapping[str, Any]) -> str | None:
    """Returns the words of a statement on its teachers; None if there were none."""
    return str(statement[KEY][SENTENCE]) if KEY in statement else None


def _check_images(images: Any) -> None:  # noqa: ANN401
    fine = isinstance(images, Mapping) and images.keys() == IMAGES
    fine = fine and images["source"] in SOURCES
    fine = fine and type(images["n_images"]) is int and images["n_images"] > 0
    fine = fine and all(type(images[name]) is str and images[name] for name in ("name", "sha256"))
    if fine:
        kind = type(None) if images["source"] == PUBLIC else str
        fine = all(type(images[name]) is kind for name in ("origin", "guarantee"))
    if not fine:
        raise CertificateError(
            "what teachers were asked about is stated by source, name, number, digest, and the "
            "statement that it comes with"
        )


def _words(n: int, images: Mapping[str, Any]) -> str:
    declared = (
        f"No record is behind two of the {n} teachers, they were trained independently of each "
        "other and from no common private start, and their number and names are public: so whoever "
        "ran the transcription declared. Nobody checked it, and for a record behind several "
        "teachers the guarantee is weaker."
    )
    many = f"{images['n_images']} images (SHA-256 of the pixels {images['sha256']})"
    if images["source"] == PUBLIC:
        return (
            f"{declared} They vote on images among {many} named {images['name']!r}, which whoever "
            "ran the transcription declared public. Nobody checked that they are, nor that no "
            "silo's record is among them, and the guarantee does not cover them."
        )
    return (
        f"{declared} They vote on images among {many} of the {images['source']} "
        f"{images['name']!r}, which is another release (statement {images['origin'][:12]}): "
        f"{images['guarantee']} A record of its data that is also behind a teacher is in both "
        "releases, and what they cost adds up there."
    )
