"""Networks that turn images into the features that fidelity is measured in.

The network is part of the metric: its name stands before every number, its hash beside it.
``inception`` is the network of the literature. ``classifier`` is small, trained on real images by a
fixed recipe, and needs no download; what it measures compares runs with one another, never with
published FID.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from dpgen.evaluation.feature_cache import FeatureCache, sha256_of
from dpgen.evaluation.utility import FEW_RECORDS, NETWORKS, UtilityProtocol, train_classifier
from dpgen.images.images import Images, to_float, to_uint8

__all__ = ["Extracted", "FeatureNetwork", "classifier_features"]

CLASSIFIER = UtilityProtocol(
    network="cnn", n_steps=1000, batch_size=128, learning_rate=2e-3, weight_decay=1e-2, n_train=None
)
OF_FEW = replace(CLASSIFIER, n_steps=250)  # of fewer images than FEW_RECORDS, as for accuracy
CLASSIFIER_SEED = 0
SCALE = "scale"  # of the features, kept beside the weights


class Extracted(NamedTuple):
    """The output of a feature network for a batch.

    features: (B, D), float32.
    logits: (B, K), float32; of K classes, which need not be those of the images.
    """

    features: Tensor
    logits: Tensor


class FeatureNetwork(Protocol):
    """A network with a name, for ever the same.

    name: what its metrics are called after; only `inception` gives one called inception.
    sha256: of its weights and of everything else that its output depends on.
    recipe: where it comes from and how it reads images, as JSON values.
    """

    name: str
    sha256: str
    recipe: Mapping[str, Any]

    def __call__(self, pixels: Tensor) -> Extracted:
        """Features and logits of uint8 images (B, C, H, W), computed where they lie."""


class ClassifierFeatures:
    """The last hidden layer, scaled, and the logits of a classifier of images of one shape.

    Features are divided by their root mean square over the images that the classifier learned: the
    kernel of KID, (x.y / D + 1)^3, expects numbers about 1.
    """

    name = "classifier"

    def __init__(self, module: nn.Module, scale: float, recipe: Mapping[str, Any]) -> None:
        self._module: Any = module.eval().requires_grad_(False)
        self._scale, self.recipe = scale, recipe
        text = json.dumps([recipe, scale, sha256_of(module.state_dict())], sort_keys=True)
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    def __call__(self, pixels: Tensor) -> Extracted:
        if list(pixels.shape[1:]) != self.recipe["shape"]:
            raise ValueError(
                f"pixels must be (B, C, H, W) of the images the classifier learned, (C, H, W) = "
                f"{self.recipe['shape']}, got {tuple(pixels.shape)}"
            )
        module = self._module.to(pixels.device)
        features = module.features(to_float(pixels))
        return Extracted(features / self._scale, module.head(features))

    def trained(
        self, images: Images, n_classes: int, *, seed: int, protocol: UtilityProtocol
    ) -> nn.Module | None:
        """Returns the classifier, if `train_classifier` would make the same of these images; else
        None.
        """
        if len(images.labels) != self.recipe["n_images"]:
            return None
        recipe = _recipe(images, n_classes, seed=seed, protocol=protocol)
        return self._module if recipe == self.recipe else None


def classifier_features(
    reference: Images,
    n_classes: int,
    *,
    cache: Path | None = None,
    accelerator: Accelerator | None = None,
    show: bool = False,
) -> ClassifierFeatures:
    """Trains a small classifier of the real images, by a recipe without choices.

    Guarantees: the same network for the same images, on the same machine and on every process;
    leaves torch's global random state as it was. It has seen every image of ``reference``: features
    of a private set are private.

    Args:
        reference: real images with labels, by custom the training split.
        n_classes: number of classes, at least 2.
        cache: folder that keeps the trained network.
        accelerator: where it is trained, and the processes that need it; None: this process, on the
            CPU.
        show: a progress bar, on the first process.
    """
    if n_classes < 2:
        raise ValueError(
            f"n_classes must be at least 2 for classifier features, got {n_classes}: images "
            "without classes need --features inception"
        )
    protocol = OF_FEW if len(reference.labels) < FEW_RECORDS else CLASSIFIER
    recipe = _recipe(reference, n_classes, seed=CLASSIFIER_SEED, protocol=protocol)
    kept = FeatureCache(cache) if cache is not None else None
    tensors = kept.load(recipe) if kept is not None else None
    first = accelerator is None or accelerator.is_main_process
    if there := tensors is not None:
        with torch.random.fork_rng(devices=[]):
            module: Any = NETWORKS[protocol.network](tuple(recipe["shape"]), n_classes)
    else:
        module = train_classifier(
            reference,
            n_classes,
            seed=CLASSIFIER_SEED,
            protocol=protocol,
            device="cpu" if accelerator is None else accelerator.device,
            show=show and first,
            label="classifier of features",
        )
        tensors = {**module.state_dict(), SCALE: _root_mean_square(module, reference.pixels)}
    if accelerator is not None and accelerator.num_processes > 1:
        # Processes on unlike processors may round differently: the first one's network is it.
        tensors = broadcast({k: v.to(accelerator.device) for k, v in tensors.items()})
        tensors = {k: v.cpu() for k, v in tensors.items()}
    if kept is not None and not there and first:
        kept.save(recipe, tensors)
    try:
        module.load_state_dict({k: v for k, v in tensors.items() if k != SCALE})
        scale = tensors[SCALE].item()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the cache {cache} must hold the network of these features, got another ({reason}): "
            "name another cache folder"
        ) from None
    return ClassifierFeatures(module, scale, recipe)


def _recipe(
    images: Images, n_classes: int, *, seed: int, protocol: UtilityProtocol
) -> dict[str, Any]:
    pixels = to_uint8(images.pixels)
    return {
        **asdict(protocol),
        "seed": seed,
        "layers": "last hidden, of root mean square 1; logits",
        "resize": "none",
        "shape": list(pixels.shape[1:]),
        "n_classes": n_classes,
        "n_images": len(images.labels),
        "images_sha256": sha256_of({"pixels": pixels, "labels": images.labels}),
    }


@torch.no_grad()
def _root_mean_square(module: Any, pixels: Tensor) -> Tensor:  # noqa: ANN401 - has features()
    batches = to_uint8(pixels).split(512)
    squares = [module.features(to_float(p)).double().square() for p in batches]
    return torch.cat(squares).mean().sqrt()
