"""What `dpgen evaluate` measures: synthetic sets against real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache as cache_results
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor

from dpgen.data.identity import fingerprint, home, installation_key
from dpgen.data.sources import RecordSource, Source, open_source
from dpgen.evaluation.classifiers import ReleasedClassifier, classifier_scores
from dpgen.evaluation.evaluation import Protocol, evaluate
from dpgen.evaluation.extraction import extract
from dpgen.evaluation.fairness import fairness_scores
from dpgen.evaluation.feature_networks import feature_network
from dpgen.evaluation.features import FeatureNetwork
from dpgen.evaluation.fidelity_protocol import FidelityProtocol
from dpgen.evaluation.nearest import Copying, copying, nearest, save_nearest
from dpgen.evaluation.scores import RealScores, Scores, SetScores
from dpgen.images.classes import Classes
from dpgen.images.fair_classes import FairClasses
from dpgen.images.grid import save_panels
from dpgen.images.images import Images, to_float, to_uint8
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.progress import progress_bar
from dpgen.storage.files import read_json

N_SHOWN = 10  # samples in a picture of nearest records
REAL = ""  # among the sets: no path is empty
NOT_ASKED = "--no-real was given"


def scores(
    sets: Sequence[Path],
    reference: str,
    *,
    split: str = "test",
    size: int | None = None,
    channels: int | None = None,
    value_range: tuple[float, float] | None = None,
    classes: Classes | None = None,
    networks: Sequence[str] = ("cnn",),
    seeds: int = 1,
    features: str = "classifier",
    features_range: tuple[float, float] | None = None,
    features_size: int | None = None,
    inception_weights: Path | None = None,
    cache: Path | None = None,
    preview: Path | None = None,
    nearest_to: Path | None = None,
    label_column: str | None = None,
    real: bool = True,
    classifiers: Mapping[str, ReleasedClassifier] | None = None,
    fair: FairClasses | None = None,
    show: bool = False,
) -> Scores:
    """Compares synthetic sets with real images, and measures released classifiers on them.

    Args:
        sets: what `dpgen sample` wrote, or any images in a format that dpgen reads; none where only
            classifiers are measured.
        reference: `digits` or a path; the real images.
        split: which of them.
        value_range: (low, high), black and white of a reference of floats or of deep grey.
        classes: how many, or their names, of a set or a reference with labels that does not say; a
            reference that does not say has those of the first set.
        networks: classifiers whose accuracy is measured, keys of `utility.NETWORKS`.
        seeds: classifiers of each kind, per set.
        features: the network that fidelity looks through: a key of `FEATURE_NETWORKS`, or the path
            of one of the user's own, as `own_features` takes it; "none" for no fidelity.
        features_range, features_size: what a TorchScript file expects of images: values of black
            and white, side in pixels.
        cache: folder for the reference's features, which are as private as the reference.
        preview: where to draw a strip a set.
        nearest_to: folder for pictures of samples beside the nearest records of the reference's
            training split, which are private.
        label_column: of the reference, as for `open_source`.
        real: whether to measure real images of the reference's other split, too: what a generator
            can hope for. As many as the largest set has, where there are as many.
        classifiers: released classifiers to measure on the reference, by name.
        fair: target and group of each class: measures how classifiers treat groups, too.
        show: progress on standard error.

    Under a launcher several processes share the features; classifiers are trained by the first one
    alone, and only its scores are whole.
    """
    if not sets:
        for option, file in (("--nearest", nearest_to), ("--preview", preview)):
            if file is not None:
                raise ValueError(f"{option} shows synthetic images: name a set, too")
        if fair is not None:
            raise ValueError("--fair measures classifiers of synthetic images: name a set, too")
        features, networks, real = "none", (), False
    if nearest_to is not None and features == "none":
        raise ValueError("nearest records are found by features: take --features classifier")
    if features == "none" and (features_range is not None or features_size is not None):
        raise ValueError("--features-range and --features-size are of features: name --features")
    if nearest_to is not None and split != "test":
        raise ValueError(
            f"nearest records compare with held-out images: --split must be test, got {split}"
        )
    with progress_bar("reading images", len(sets) + 1, show=show and _is_first()) as advance:
        opened = {}
        for path in sets:
            opened[str(path)] = open_source(path, classes=classes)
            advance()
        # A reference that names no classes has those of the sets, or of the classifiers.
        classes_of = [one.class_names for one in opened.values()]
        classes_of += [one.class_names for one in (classifiers or {}).values()]
        if not classes_of:
            raise ValueError("name a set, or a run with a private classifier")
        named = classes_of[0]

        @cache_results
        def records(split: str) -> RecordSource:
            return open_source(
                reference, split=split, size=size, channels=channels,  # type: ignore[arg-type]
                value_range=value_range, classes=classes, else_classes=named,
                label_column=label_column,
            )  # fmt: skip

        source = records(split)
        fair = None if fair is None else fair.of(source.class_names)
        tested, n_classes = _read(source), len(source.class_names)
        loaded = {path: _synthetic(path, made, source) for path, made in opened.items()}
        largest = max((len(images.labels) for images in loaded.values()), default=0)
        other = _other_split(records, split, tested, largest) if real else NOT_ASKED
        judged = {
            name: classifier_scores(name, one, tested, source.class_names)
            for name, one in (classifiers or {}).items()
        }
        advance()

    def training() -> Images:
        return _read(records("train"))

    network, accelerator = None, Accelerator()
    if features != "none":
        network = feature_network(
            features, training, n_classes, weights=inception_weights, cache=cache,
            accelerator=accelerator, show=show and accelerator.is_main_process,
            value_range=features_range, size=features_size,
        )  # fmt: skip
    protocol = Protocol(
        FidelityProtocol(reference_split=split),  # type: ignore[arg-type]
        tuple(networks),
        tuple(range(seeds)),
        _n_records(records, split),
    )
    compared = loaded if isinstance(other, str) else {**loaded, REAL: other.images}
    found = evaluate(
        compared, tested, protocol, n_classes=n_classes, network=network,
        private=not source.public, accelerator=accelerator, cache=cache, show=show,
    ) if compared else {}  # fmt: skip
    fairness = None
    if fair is not None and accelerator.is_main_process:
        fairness = fairness_scores(
            compared, tested, fair, networks=protocol.networks, seeds=protocol.seeds,
            n_records=protocol.n_records, device=accelerator.device, show=show,
        )  # fmt: skip
    if preview is not None:
        save_panels({"real": tested, **loaded}, preview, n_classes)
    copied: dict[str, Copying | None] = dict.fromkeys(loaded)
    if nearest_to is not None and network is not None:
        copied |= _copied(loaded, training(), tested, network, nearest_to, accelerator, show)
    made = {
        str(path): SetScores(found[str(path)], copied[str(path)], learned_from(path, source, split))
        for path in sets
    }
    return Scores(
        reference, split, len(tested.labels), not source.public, source.class_names, made,
        other if isinstance(other, str) else RealScores(found[REAL], other.split, other.n_there),
        judged, fairness,
    )  # fmt: skip


def _n_records(records: Callable[[str], RecordSource], split: str) -> int:
    """Counts the real images of the training split, or of the reference where there is none."""
    try:
        return len(records("train"))
    except ValueError:
        return len(records(split))


class _Other(NamedTuple):
    """Real images that the reference has besides those that sets are compared with."""

    images: Images
    split: str
    n_there: int


def _other_split(
    records: Callable[[str], RecordSource], split: str, tested: Images, most: int
) -> _Other | str:
    """Returns real images of the other split, at most so many, drawn by a fixed seed; a reason
    where there are none.
    """
    if split == "all":
        return "every real image is in the reference, and none is left to compare with it"
    other = "train" if split == "test" else "test"
    try:
        source = records(other)
    except ValueError as error:
        return f"the {other} split cannot be read: {error}"
    if source.class_names != records(split).class_names or source.shape != records(split).shape:
        return f"the {other} split has other classes or another shape"
    if len(source) < 2:
        return f"the {other} split has {len(source)} image"
    if len(source) == len(tested.labels) and _read(source).pixels.equal(tested.pixels):
        return "the reference has one split only"
    generator = torch.Generator().manual_seed(FidelityProtocol().seed)
    drawn = torch.randperm(len(source), generator=generator)[:most].sort().values
    return _Other(_read(source, drawn.numpy()), other, len(source))


def _is_first() -> bool:
    return bool(PartialState().is_main_process)


def learned_from(path: Path, source: Source, split: str) -> bool:
    """Returns whether a set's generator learned from these very records, as far as its privacy
    statement and this installation's ledgers tell.
    """
    files = [path / name for name in ("privacy.json", "notice.json")]
    held = next((file for file in files if file.is_file()), None)
    if held is None:
        return False
    try:
        data_set = dict(read_json(held)["data_set"])
    except (ValueError, KeyError, TypeError):
        return False
    if source.public:
        return split != "test" and "public" in str(data_set.get("ledger"))
    if not (home() / "key").exists():
        return False
    ledger = home() / "ledgers" / f"{fingerprint(source, installation_key())}.jsonl"
    return ledger.exists() and PrivacyLedger(ledger).dataset == data_set.get("name")


def _copied(
    sets: Mapping[str, Images], learned: Images, held_out: Images, network: FeatureNetwork,
    folder: Path, accelerator: Accelerator, show: bool,
) -> dict[str, Copying]:  # fmt: skip
    """Measures how near each set comes to the training records; draws a picture a set."""

    def of(images: Images, label: str) -> Tensor:
        pixels = to_uint8(images.pixels)
        return extract(network, pixels, accelerator=accelerator, label=label, show=show).features

    records, natural = of(learned, "features, training"), of(held_out, "features, held out")
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for k, (name, images) in enumerate(sets.items()):
        ours = of(images, "features, synthetic")
        found[name] = copying(ours, records, natural, show=show)
        shown = torch.linspace(0, len(ours) - 1, min(N_SHOWN, len(ours))).long()  # of all classes
        picture = folder / f"{k + 1}-{Path(name).name}.png"
        some = Images(images.pixels[shown], images.labels[shown])
        save_nearest(picture, some, learned, nearest(ours[shown], records, k=5), n_rows=N_SHOWN)
    return found


def _synthetic(path: str, made: Source, reference: Source) -> Images:
    """Reads a set of the reference's shape, whose labels mean what the reference's mean."""
    if made.shape != reference.shape:
        (depth, height, width), real = made.shape, reference.shape
        cure = f"--size {height} --channels {depth} brings the reference to it"
        raise ValueError(
            f"the images of {path} are {depth}x{height}x{width}, those of the reference "
            f"{real[0]}x{real[1]}x{real[2]}"
            + (f": {cure}" if height == width else ": resize one of them first")
        )
    if made.class_names != reference.class_names:
        raise ValueError(
            f"the classes of {path} are {', '.join(made.class_names)}, those of the reference "
            f"{', '.join(reference.class_names)}: they must be the same, in the same order"
        )
    return _read(made)


def _read(source: Source, chosen: np.ndarray | None = None) -> Images:
    pixels, labels = source.read(range(len(source)) if chosen is None else chosen)
    return Images(to_float(pixels), labels)
