"""Bugs in what is compared with public images before a network learns from them, and in what is
said of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.mutations.bug import Bug


def none_found(original: Callable[..., Any]) -> Callable[..., int]:
    return lambda *given: 0


def as_decoded(original: Callable[..., int]) -> Callable[..., int]:
    """Compared before the resize to the shape of the records."""

    def overlap(source: Any, other: Any) -> int:  # noqa: ANN401
        found = [{pixels.tobytes() for pixels, _ in one.raw_records()} for one in (source, other)]
        return len(found[0] & found[1])

    return overlap


def of_no_other_data(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda: SimpleNamespace(sharing=lambda marks, *, own: [])


def of_their_shape(original: Any) -> property:  # noqa: ANN401
    """All images of one number and size have one digest."""

    def sha256(images: Any) -> str:  # noqa: ANN401
        return hashlib.sha256(" ".join(map(str, images.pixels.shape)).encode()).hexdigest()

    return property(sha256)


def of_anything(original: Callable[..., Any]) -> Callable[..., Any]:
    """A saved state that does not say what was learned from."""
    return lambda name, checkpoints, state, learned: original(name, checkpoints, state)


def nothing(original: Callable[..., Any]) -> Callable[..., None]:
    return lambda *given: None


def silent(original: Callable[..., Any]) -> Callable[..., Any]:
    def stated(*given: Any) -> Any:  # noqa: ANN401
        *before, _, config = given
        return original(*before, None, config)

    return stated


BUGS = (
    Bug(
        "public images not compared with the records",
        "a network learns from records without clip and noise before the first private step",
        "public start", {"dpgen.data.account.AccountedData.n_shared_with": none_found},
    ),
    Bug(
        "public images compared before they are resized",
        "a record with a border around it is no public image once the border is cut away",
        "public start", {"dpgen.data.account.overlap": as_decoded},
    ),
    Bug(
        "public images not compared with records of other data",
        "what was charged to one ledger is published by a run on another one",
        "public start", {"dpgen.data.public.known_ledgers": of_no_other_data},
    ),
    Bug(
        "public images known by their shape",
        "a run goes on from other images than its certificate names, which may be anybody's",
        "public start", {"dpgen.images.public_images.PublicImages.sha256": of_their_shape},
    ),
    Bug(
        "state of a training on public images not bound to them",
        "weights that have learned from other images begin a run that does not name these",
        "public start", {"dpgen.training.public_start.Kept": of_anything},
    ),
    Bug(
        "a certificate silent about public images",
        "nobody can ask whether they are public",
        "public start", {"dpgen.generator.interface.stated": silent},
    ),
    Bug(
        "images that were public once accepted as private records",
        "a network has learned from them without protection, and no charge covers that",
        "public start", {"dpgen.data.account.require_never_public": nothing},
    ),
    Bug(
        "public images not noted before they are learned from",
        "they are private records of a later run, and a network has learned from them without "
        "protection",
        "public start", {"dpgen.generator.public_start.Start.note": nothing},
    ),
)  # fmt: skip
