"""What a statement says of the public images from which networks learned before the private stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpgen.privacy.statements.certificate import CertificateError

KEY = "public_start"  # in a statement and in config.json; absent where networks start untrained
SENTENCE = "statement"
IMAGES = {"name", "n_images", "sha256", "n_steps"}
CLASSES = {"names", "sha256"}
# What a statement says beside the shape and the number of records that it reveals unpaid.
COMPARED: Mapping[str, str | None] = {
    "what": "that no image that was declared public was found among the records",
    "how": "decoded pixels, compared exactly; not found are near-duplicates and images of one "
    "single colour",
    "event": None,
}


def images_told(
    name: str, n_images: int, sha256: str, n_steps: int,
    classes: tuple[list[str], str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Describes public images, as JSON values.

    Args:
        name: their name.
        n_images: number of images.
        sha256: of their pixels.
        n_steps: training steps on them.
        classes: private classes that were learned from public images of that name, and the SHA-256
            of the labels; None where labels were not used.
    """
    told: dict[str, Any] = {
        "name": name, "n_images": n_images, "sha256": sha256, "n_steps": n_steps,
    }  # fmt: skip
    if classes is not None:
        told["classes"] = {"names": classes[0], "sha256": classes[1]}
    return told


def start_told(start: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a statement about a public start: what it was, and in words.

    Args:
        start: ``{"images": images_told(...)}``, or such a part of a statement.

    Raises:
        CertificateError: it is no public start that a run writes.
    """
    if start.keys() - {SENTENCE} != {"images"}:
        raise CertificateError(f"a public start has images, got {sorted(start)!s:.200}")
    images = dict(start["images"])
    return {"images": images, SENTENCE: _words(images)}


def start_of(statement: Mapping[str, Any]) -> str | None:
    """Returns the words of a statement on its public start; None if there was none."""
    return str(statement[KEY][SENTENCE]) if KEY in statement else None


def _words(images: Mapping[str, Any]) -> str:
    keys = IMAGES | ({"classes"} if "classes" in images else set())
    whole = all(type(images.get(k)) is int and images[k] > 0 for k in ("n_images", "n_steps"))
    text = all(type(images.get(k)) is str and images[k] for k in ("name", "sha256"))
    if images.keys() != keys or not whole or not text:
        raise CertificateError("a start on public images states name, number, digest and steps")
    learned = ""
    if "classes" in images:
        if images["classes"].keys() != CLASSES:
            raise CertificateError("labels of public images are stated by names and a digest")
        names = ", ".join(images["classes"]["names"]) or "none"
        learned = (
            "Images whose class has the name of a private class were learned as that class: "
            f"{names} (SHA-256 of the labels {images['classes']['sha256']}). "
        )
    return (
        f"Before the private stages the network learned for {images['n_steps']} steps from "
        f"{images['n_images']} images that whoever ran the training declared public, named "
        f"{images['name']!r} (SHA-256 of the pixels {images['sha256']}). {learned}Nobody checked "
        "that they are public, and the guarantee does not cover them."
    )
