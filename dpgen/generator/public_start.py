"""What networks learn from before the private stages: public images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dpgen.data.account import AccountedData
from dpgen.data.once_public import note_public
from dpgen.data.public import open_public, require_public
from dpgen.images.public_images import PublicImages
from dpgen.privacy.statements.public_start import KEY, images_told, start_told

if TYPE_CHECKING:
    from dpgen.generator.interface import PrivateGenerator


@dataclass(frozen=True)
class Start:
    """A start that depends on no private record.

    Args:
        settings: the generator's settings for a run that starts so.
        told: what it is, as the configuration and the statement of a run hold it; None if networks
            start untrained.
        images: the public images; None for none.
        marks: their marks, by which the installation knows later that they were public.
    """

    settings: Any
    told: Mapping[str, Any] | None = None
    images: PublicImages | None = None
    marks: np.ndarray | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Returns what ``config.json`` says of it: a run is resumed with this start only."""
        return {} if self.told is None else {KEY: dict(self.told)}

    def note(self) -> None:
        """Notes in the installation that the images are about to be learned from."""
        if self.marks is not None:
            note_public(self.marks)


def settings_of(generator: PrivateGenerator, given: bool) -> Any:  # noqa: ANN401
    """Returns the settings of a generator for a run with public images, or without.

    Args:
        generator: a generator; it is not changed.
        given: whether there are public images.

    Raises:
        ValueError: its mode cannot start from public images, or it has settings for a training on
            public images, and there are none.
    """
    settings, able = generator.settings, generator.settings.mode in generator.public_modes
    if given and not able:
        raise ValueError(
            f"mode {settings.mode!r} of {type(generator).__name__} must start without public "
            "images: it has no network that could learn from them. Drop --public, or take dp-sad, "
            "dpdm, or pge in mode dpsgd"
        )
    if given:
        return replace(settings, teacher=settings.teacher.publicly())
    if able and settings.teacher.public is not None:
        raise ValueError(
            "teacher.public.* are settings of a training on public images, and none were given: "
            "name them with --public DATA, or drop these settings"
        )
    return settings


def begin_publicly(
    generator: PrivateGenerator, data: AccountedData, public: Any  # noqa: ANN401
) -> Start:
    """Opens what a run starts from, and checks it against the private records.

    Args:
        generator: it is not changed.
        data: the private records, with their ledger open.
        public: public images, as for `dpgen.data.public.open_public`; None for none.

    Raises:
        ValueError: as for `settings_of`, `open_public` and `require_public`.
    """
    settings = settings_of(generator, public is not None)
    if public is None:
        return Start(settings)
    opened = open_public(public, data.facts)
    marks = require_public(opened, data)
    images, own, names = opened.images(), settings.teacher.public, data.facts.class_names
    classes = None
    if own.labels == "names":
        classes = images.shared_classes(names), images.labels_sha256(names)
    told = {
        "images": images_told(images.name, len(images), images.sha256, own.n_steps, classes)
    }
    start_told(told)  # what cannot be stated at the end is refused at the beginning
    return Start(settings, told, images, marks)
