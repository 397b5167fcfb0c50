"""What networks learn from before the private stages, or begin with: public images, or weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpgen.data.account import AccountedData
from dpgen.data.once_public import note_public
from dpgen.data.public import open_public, require_public
from dpgen.images.facts import PublicFacts
from dpgen.images.public_images import PublicImages
from dpgen.privacy.statements.certificate import CERTIFICATE, CertificateError
from dpgen.privacy.statements.public_start import (
    KEY,
    data_sets_of,
    images_told,
    run_told,
    start_told,
    weights_told,
)
from dpgen.privacy.verification.check import Check
from dpgen.privacy.verification.promise import PUBLIC, promise_checks
from dpgen.privacy.verification.verify import reading, verify
from dpgen.runs.initial_weights import InitialWeights
from dpgen.runs.weights_folder import weights_of

if TYPE_CHECKING:
    from dpgen.generator.interface import PrivateGenerator


@dataclass(frozen=True)
class Start:
    """A start that depends on no private record.

    Args:
        settings: the generator's settings for a run that starts so.
        told: what it is, as the configuration and the statement of a run hold it; None if networks
            start untrained.
        given: the public images, or the weights; None for neither.
        marks: marks of public images, by which the installation knows later that they were public.
    """

    settings: Any
    told: Mapping[str, Any] | None = None
    given: PublicImages | InitialWeights | None = None
    marks: np.ndarray | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Returns what ``config.json`` says of it: a run is resumed with this start only."""
        return {} if self.told is None else {KEY: dict(self.told)}

    def note(self) -> None:
        """Notes in the installation that the images are about to be learned from."""
        if self.marks is not None:
            note_public(self.marks)


def settings_of(
    generator: PrivateGenerator, given: bool, weights: InitialWeights | None = None
) -> Any:  # noqa: ANN401
    """Returns the settings of a generator for a run with public images, or with weights to begin
    with, or with neither.

    Args:
        generator: a generator; it is not changed.
        given: whether there are public images.
        weights: the weights; None for none.

    Raises:
        ValueError: its mode cannot start so, there are images and weights, or it has settings for a
            start that was not given.
    """
    settings, able = generator.settings, generator.settings.mode in generator.public_modes
    if given and weights is not None:
        raise ValueError(
            "--init FOLDER and --public DATA are two starts, and a run has one: name one of them"
        )
    if (given or weights is not None) and not able:
        kind, lacking, option = (
            ("public images", "learn from them", "--public") if given
            else ("other weights", "begin with them", "--init")
        )  # fmt: skip
        raise ValueError(
            f"mode {settings.mode!r} of {type(generator).__name__} must start without {kind}: it "
            f"has no network that could {lacking}. Drop {option}, or take dp-sad, dpdm, or pge in "
            "mode dpsgd"
        )
    if able and not given and settings.teacher.public is not None:
        raise ValueError(
            "teacher.public.* are settings of a training on public images, and none were given: "
            "name them with --public DATA, or drop these settings"
        )
    own = settings.teacher.init if able else None
    if own is not None and (weights is None or own != weights.size):
        raise ValueError(
            "teacher.init.* say which network other weights belong to, "
            + ("and none were given" if weights is None else "and these belong to another")
            + ": drop these settings, and name the weights with --init FOLDER"
        )
    if weights is not None:
        return replace(settings, teacher=replace(settings.teacher, init=weights.size))
    return replace(settings, teacher=settings.teacher.publicly()) if given else settings


def open_weights(folder: Any, facts: PublicFacts) -> InitialWeights:  # noqa: ANN401
    """Opens weights with which a network may begin; those of a run after its certificate was
    checked.

    Args:
        folder: the folder of a run, or of diffusers, or `InitialWeights`.
        facts: public facts of the private records.

    Raises:
        ValueError, CertificateError, FileNotFoundError: as for `weights_of`.
    """
    if isinstance(folder, InitialWeights):
        return folder
    path = Path(folder)
    if (path / CERTIFICATE).is_file():
        _require_held(path, verify(path))
    weights = weights_of(path, facts.shape)
    if weights.run is not None and weights.exported:
        with reading(path):  # of its run there is nothing here but the certificate
            _require_held(path, promise_checks(weights.run))
    return weights


def _require_held(path: Path, checks: Iterable[Check]) -> None:
    failed = [check.name for check in checks if check.failed]
    if failed:
        raise CertificateError(
            f"--init {path}: the certificate of its run does not hold ({', '.join(failed):.200}): "
            "see dpgen verify"
        )


def begin_publicly(
    generator: PrivateGenerator, data: AccountedData, public: Any, init: Any = None  # noqa: ANN401
) -> Start:
    """Opens what a run starts from, and checks it against the private records.

    Args:
        generator: it is not changed.
        data: the private records, with their ledger open.
        public: public images, as for `dpgen.data.public.open_public`; None for none.
        init: weights, as for `open_weights`; None for none.

    Raises:
        ValueError: as for `settings_of`, `open_public`, `require_public` and `open_weights`; or the
            weights were learned from the same records.
    """
    weights = None if init is None else open_weights(init, data.facts)
    settings = settings_of(generator, public is not None, weights)
    if weights is not None:
        return _begun_with(weights, settings, data)
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


def _begun_with(weights: InitialWeights, settings: Any, data: AccountedData) -> Start:  # noqa: ANN401
    run = None
    if weights.run is not None:
        run = run_told(weights.run, exported=weights.exported)
    classes = weights.shared_classes(data.facts.class_names)
    told = {"weights": weights_told(weights.name, weights.sha256, classes, run)}
    start_told(told)
    if run is not None and weights.run is not None:
        _require_other_records(told, weights.run, data)
    return Start(settings, told, weights)


def _require_other_records(
    told: Mapping[str, Any], statement: Mapping[str, Any], data: AccountedData
) -> None:
    """Refuses weights that were learned from these records: the certificate would state the epsilon
    of this run alone for a model that depends on them through both.
    """
    known = {data.ledger.dataset, *(overlap.dataset for overlap in data.overlaps())}
    facts, own = statement["facts"], data.facts.to_dict()
    names = ("shape", "class_names", "n_records")
    # The ledgers of public data lie in run folders: they are known by their facts alone, also where
    # the records were public to one of the two runs only.
    public = data.public or statement["data_set"]["ledger"] in PUBLIC
    alike = public and all(facts[name] == own[name] for name in names)
    if alike or known & set(data_sets_of(told)):
        raise ValueError(
            "the weights of --init must be learned from other records, these were learned from "
            + ("data of the same size and classes" if alike else "some of these records")
            + ": the model would depend on them through both runs, and its certificate would state "
            "the epsilon of the second alone. Nothing was charged. Spend the whole budget in one "
            "run, or begin with weights of other records"
        )
