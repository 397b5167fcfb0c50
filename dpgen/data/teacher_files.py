"""Reads the teachers that silos hand over: a file or a folder for each, in one folder.

    NAME.safetensors   a classifier, as `dpgen.save_classifier` or a run writes it
    NAME/              a folder with one such file, and class names in its facts.json, if anywhere

Files are read without running any code. What a teacher is called follows from the name of its file
or folder alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpgen.images.classes import NO_CLASSES, Classes, class_list
from dpgen.images.images import check_class_names
from dpgen.privacy.mechanisms.isolation import isolated
from dpgen.privacy.mechanisms.teachers import Teacher
from dpgen.runs.classifier_file import CLASSIFIERS, class_names_of
from dpgen.runs.kinds import kind_of, numbers_of
from dpgen.runs.released import load_network, read_facts
from dpgen.storage.canonical import canonical
from dpgen.storage.tensors import tensors_digest

SUFFIX, FACTS = ".safetensors", "facts.json"
LONGEST_NAME, MOST_NAMES = 200, 10_000
AT_ONCE = 500  # queries that a teacher is asked together


@dataclass(frozen=True)
class Asked:
    """A network as a teacher: asked in parts, without gradients.

    Args:
        network: gives scores (B, K) of images (B, C, H, W) in [-1, 1].
    """

    network: nn.Module

    def __call__(self, queries: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([self.network(part) for part in queries.split(AT_ONCE)])


@dataclass(frozen=True)
class Given:
    """A teacher as it was handed over.

    Args:
        name: of its slot: that of its file or folder.
        path: the file.
        shape: (C, H, W) of its images.
        class_names: one per class; None where neither file nor folder states them.
        n_classes: number of classes.
        digest: 32 bytes of its kind, numbers and weights alone.
        teacher: answers queries (B, C, H, W) with scores (B, K).
    """

    name: str
    path: Path
    shape: tuple[int, int, int]
    class_names: tuple[str, ...] | None
    n_classes: int
    digest: bytes
    teacher: Teacher

    def check(self, n_classes: int) -> None:
        """Asks about two grey images. Raises ValueError for scores that nothing can be voted by."""
        with isolated(0):
            scores = self.teacher(torch.zeros(2, *self.shape))
        if tuple(scores.shape) != (2, n_classes) or not scores.isfinite().all():
            raise ValueError(
                f"{self.path} must give finite scores of {n_classes} classes, got shape "
                f"{tuple(scores.shape)} or numbers that are not finite"
            )


def read_given(
    folder: Path, classes: Classes | None
) -> tuple[list[Given], tuple[str, ...]]:  # fmt: skip
    """Reads all teachers in a folder, in the order of their names, and the names of their classes.

    Args:
        folder: the folder.
        classes: names, or number, of the classes where no file states them.

    Raises:
        ValueError: something else lies there, or teachers do not fit together.
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} must be a folder of teachers, and is none")
    entries = sorted((p for p in folder.iterdir() if p.name[0] != "."), key=lambda p: p.name)
    if not entries:
        raise ValueError(
            f"{folder} must hold a file or a folder for each silo, and is empty"
        )
    if len(entries) > MOST_NAMES:
        raise ValueError(f"{folder} must hold at most {MOST_NAMES}, got {len(entries)}")
    given = [_read(entry) for entry in entries]
    _check_names(given)
    names = _class_names(given, classes)
    first, seen = given[0], dict[bytes, Given]()
    for one in given:
        if (one.shape, one.n_classes) != (first.shape, len(names)):
            raise ValueError(
                f"all teachers must be of images of one shape in the same classes: {one.path} is "
                f"of {one.shape} in {one.n_classes}, {first.path} of {first.shape}, and there are "
                f"{len(names)} classes"
            )
        if (same := seen.setdefault(one.digest, one)) is not one:
            raise ValueError(
                f"{one.path} and {same.path} hold the same teacher: a silo has one slot, or its "
                "vote moves twice as much as is priced. Remove one of them"
            )
    return given, names


def _read(entry: Path) -> Given:
    """Reads the teacher of one file or folder."""
    stated: tuple[str, ...] | None = None
    path, name = entry, entry.name.removesuffix(SUFFIX)
    if entry.is_dir():
        found = sorted(entry.glob(f"*{SUFFIX}"))
        if len(found) != 1:
            told = ", ".join(one.name for one in found) or "none"
            raise ValueError(
                f"{entry} must hold one file of a classifier (*{SUFFIX}), got {told}: keep the one "
                "that is to be asked"
            )
        path, name = found[0], entry.name
        if (entry / FACTS).is_file():
            stated = _named(read_facts(entry).get("class_names"), entry / FACTS)
    elif entry.suffix != SUFFIX:
        raise ValueError(
            f"{entry} is no teacher: a folder of teachers holds NAME{SUFFIX} or NAME/ for each "
            "silo, and nothing else"
        )
    network: Any = load_network(path)
    kind = kind_of(network)
    if kind not in CLASSIFIERS:
        raise ValueError(f"{path} must hold a classifier, got a {kind}")
    own = class_names_of(path)
    if None not in (own, stated) and own != stated:
        raise ValueError(f"{path} names other classes than {entry / FACTS}: correct one of them")
    return Given(
        name, path, tuple(network.config.shape), own or stated, network.n_classes,
        _digest(kind, network), Asked(network),
    )  # fmt: skip


def _named(names: object, path: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or any(type(name) is not str for name in names):
        raise ValueError(f"class_names in {path} must be a list of names, got {names!r:.60}")
    return tuple(names)


def _digest(kind: str, network: nn.Module) -> bytes:
    """Computes the SHA-256 of what a teacher computes by."""
    told = canonical([kind, numbers_of(network)]).encode()
    return tensors_digest(network.state_dict(), begun=told)


def _check_names(given: list[Given]) -> None:
    seen: dict[str, Given] = {}
    for one in given:
        if len(one.name) > LONGEST_NAME or not one.name.isprintable():
            raise ValueError(
                f"the name of a teacher is published: it must have at most {LONGEST_NAME} "
                f"printable characters, got {one.name!r:.80}"
            )
        if (same := seen.setdefault(one.name, one)) is not one:
            raise ValueError(f"{one.path} and {same.path} have one name: rename one of them")


def _class_names(given: list[Given], classes: Classes | None) -> tuple[str, ...]:
    """Returns the class names that all teachers state, else those declared."""
    stated = [one for one in given if one.class_names is not None]
    for one in stated[1:]:
        if one.class_names != stated[0].class_names:
            raise ValueError(
                f"all teachers must name the same classes in the same order: {one.path} names "
                f"{one.class_names!s:.200}, {stated[0].path} {stated[0].class_names!s:.200}"
            )
    declared = None if classes is None else class_list(classes)
    if stated and declared not in (None, stated[0].class_names):
        raise ValueError(
            f"classes must be what {stated[0].path} states, {stated[0].class_names!s:.200}, got "
            f"{declared!s:.200}: drop --classes"
        )
    names = stated[0].class_names if stated else declared
    if names is None:
        raise ValueError(
            f"{given[0].path} does not say what its {given[0].n_classes} classes are called: "
            "declare them, in the order of the scores, with --classes NAME,NAME"
        )
    check_class_names(names)
    if len(names) < 2 or names == NO_CLASSES:
        raise ValueError(f"teachers vote on at least 2 classes, got {names}")
    return names
