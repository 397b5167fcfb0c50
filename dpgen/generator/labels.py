"""The labels of drawn images: given as a list, as counts by class, or by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dpgen.settings import nearest

Labels = Tensor | Sequence[int | str] | Mapping[str, int] | str
# In the place of labels: equally many images of each class, or the shares that the run released.
UNIFORM, RELEASED = "uniform", "released"


def labels_of(
    given: Labels | None,
    n: int | None,
    class_names: tuple[str, ...],
    shares: Sequence[float] | None = None,
) -> Tensor:
    """Returns the labels (n,), int64, one per image.

    Args:
        given: positions or names of classes, one per image; or the number of images of each class
            by name, in an order in which every stretch has about the same balance; 0 or no entry
            for none. `RELEASED` takes ``n`` images in the proportions of ``shares``, `UNIFORM`
            and None give image i the class ``i % n_classes``.
        n: number of images; None takes as many as there are labels.
        class_names: names of all classes, in label order.
        shares: proportions of the classes, in label order, 1 in all; None: the run released none.

    Raises:
        ValueError: a class does not exist (the nearest is named), or the labels are not ``n``.
    """
    if given is None or is_uniform(given):
        return torch.arange(required(n)) % len(class_names)
    if isinstance(given, str):
        given = dict(zip(class_names, _shared_out(given, n, shares), strict=True))
    labels = _in_turn(given, class_names) if isinstance(given, Mapping) else _listed(
        given, class_names
    )  # fmt: skip
    _check_number(len(labels) if n is None else n)
    if labels.shape != (len(labels) if n is None else n,):
        raise ValueError(f"labels must be as many as n = {n}, got {tuple(labels.shape)}")
    last = len(class_names) - 1
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= last:
        raise ValueError(
            f"labels must lie in [0, {last}], got {int(labels.min())} to {int(labels.max())}"
        )
    return labels


def is_uniform(given: Labels) -> bool:
    """Returns whether equally many images of each class are asked for by name."""
    return isinstance(given, str) and given == UNIFORM


def required(n: int | None) -> int:
    """Returns the number of images. Raises ValueError where none is given, or none is wanted."""
    if n is None:
        raise ValueError("n must be given where labels are not: how many images?")
    _check_number(n)
    return n


def _check_number(n: int) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")


def position_of(name: str, class_names: tuple[str, ...]) -> int:
    """Returns the label of a class. Raises ValueError, naming the nearest class, if there is none.
    """
    if name not in class_names:
        raise ValueError(f"there is no class {name!r:.60}: {nearest(name, list(class_names))}")
    return class_names.index(name)


def _listed(given: Tensor | Sequence[int | str], class_names: tuple[str, ...]) -> Tensor:
    if isinstance(given, Tensor):
        if given.is_floating_point() or given.dtype == torch.bool:
            raise ValueError(f"labels must be whole numbers, got {given.dtype}")
        return given.to(torch.int64)
    number = {name: k for k, name in enumerate(class_names)}
    found = []
    for one in given:
        if isinstance(one, str):
            found.append(number[one] if one in number else position_of(one, class_names))
        else:
            found.append(int(one))
    return torch.tensor(found, dtype=torch.int64)


def _shared_out(given: str, n: int | None, shares: Sequence[float] | None) -> list[int]:
    """Returns how many of ``n`` images each class gets: the nearest whole numbers that add up."""
    if given != RELEASED:
        raise ValueError(
            f"labels must be one per image, counts by class, {UNIFORM!r} or {RELEASED!r}, got "
            f"{given!r:.60}"
        )
    if shares is None:
        raise ValueError(
            "the run holds no released class counts: a warm start or the sketch measures them, for "
            "two classes and more, and a run of an earlier version did not keep them; give counts "
            "that may be known, as ill=100,well=50 ({'ill': 100, 'well': 50} in Python)"
        )
    if n is None:
        raise ValueError("n must be given with released labels: how many images?")
    _check_number(n)
    wanted = torch.tensor(shares, dtype=torch.float64) * n
    counts = wanted.floor()
    most_missed = (wanted - counts).argsort(descending=True, stable=True)
    counts[most_missed[: n - int(counts.sum())]] += 1
    return [int(count) for count in counts.tolist()]


def _in_turn(counts: Mapping[str, int], class_names: tuple[str, ...]) -> Tensor:
    """Orders labels by count, spread evenly; equal counts give 0, 1, 2 and so on, repeatedly."""
    places, labels = [], []
    for name, count in sorted(counts.items(), key=lambda one: position_of(one[0], class_names)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(
                f"the count of class {name!r:.60} must be a whole number of at least 0, "
                f"got {count!r:.60}"
            )
        places.append((torch.arange(count, dtype=torch.float64) + 0.5) / max(count, 1))
        labels.append(torch.full((count,), position_of(name, class_names)))
    if not sum(map(len, labels)):
        raise ValueError("labels must count at least one image, got none")
    return torch.cat(labels)[torch.cat(places).argsort(stable=True)]
