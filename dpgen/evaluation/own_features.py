"""Feature networks of the user's own: a TorchScript file, or a folder of a timm or transformers
model.

A TorchScript file runs code of whoever made it. Of a folder only its JSON and its safetensors are
read, and code of the installed library runs.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.evaluation.features import Extracted
from dpgen.evaluation.folder_models import folder_model
from dpgen.evaluation.metrics import OWN
from dpgen.storage.files import read_bytes

__all__ = ["OwnFeatures", "own_features"]

LARGEST_FILE = 2**33  # bytes of a file of weights
UNIT_RANGE = (0.0, 1.0)  # black and white, as torchvision has them


class OwnFeatures:
    """Features by a module of the user's own; there are no logits.

    The module is given float32 (B, 3, H, W), grey repeated to three channels. It must give (B, D),
    the same for the same images.

    Args:
        name: of the file, from which the names of the metrics are made.
        module: takes images, gives features.
        recipe: what it is and how it reads images, JSON values.
        sha256: of its file or files.
        value_range: what black and white become; a pair of numbers, or of one for each channel.
        size: side in pixels that images are resized to; ``None``: as they are.
    """

    def __init__(
        self, name: str, module: Callable[[Tensor], Any], recipe: Mapping[str, Any], sha256: str,
        *, value_range: tuple[Any, Any], size: int | None,
    ) -> None:  # fmt: skip
        self.name = OWN + re.sub(r"\W", "_", name, flags=re.ASCII)
        self._module, self._size, self._tried = module, size, False
        self._low, self._high = (
            torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1) for value in value_range
        )
        self.recipe: Mapping[str, Any] = recipe
        text = json.dumps([recipe, sha256], sort_keys=True)
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Extracted:
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise ValueError(f"pixels must be (B, 1 or 3, H, W), got {tuple(pixels.shape)}")
        images = pixels.expand(-1, 3, -1, -1).float() / 255
        if self._size is not None:
            images = functional.interpolate(
                images, (self._size, self._size), mode="bicubic", antialias=True
            ).clamp(0, 1)
        low, high = self._low.to(images.device), self._high.to(images.device)
        images = low + (high - low) * images
        features = self._run(images)
        if not self._tried:
            self._tried = True
            if not features.equal(self._run(images)):
                raise ValueError(
                    f"{self._name} must give the same features for the same images, got two "
                    "different answers: save it in evaluation mode (module.eval())"
                )
        return Extracted(features, features.new_empty(len(features), 0))

    @property
    def _name(self) -> str:
        return f"--features {self.recipe['file']}"

    def _run(self, images: Tensor) -> Tensor:
        module: Any = self._module
        if isinstance(module, nn.Module):
            module = module.to(images.device)
        try:
            # Optimised code is another after two calls, and may round otherwise.
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
                found = module(images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the code of another raises
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"{self._name} failed on images of shape {tuple(images.shape)}: {reason[-1]:.300}: "
                "it must take float (N, 3, H, W); --features-size gives it another size"
            ) from None
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{self._name} must give features (N, D), a row an image, got {got} for "
                f"{len(images)} images: pool or flatten them in the module"
            )
        if not found.is_floating_point() or found.shape[1] < 1:
            raise ValueError(
                f"{self._name} must give at least one floating point number an image, got "
                f"{tuple(found.shape)} of {found.dtype}"
            )
        return found.float()


def own_features(
    path: Path, *, value_range: tuple[float, float] | None = None, size: int | None = None
) -> OwnFeatures:
    """Loads a feature network of the user's own.

    Guarantees: what is hashed is what is loaded, and the hash covers how images are read; leaves
    torch's global random state as it was.

    Args:
        path: a TorchScript file, whose code is run, so that it must be trusted; or a folder with
            config.json and model.safetensors, as timm and transformers write them.
        value_range: (low, high) that black and white become for a file, by default (0, 1); a folder
            says it itself.
        size: side in pixels that images are resized to for a file, by default as they are; a folder
            says it itself.

    Raises:
        ValueError: it is neither, cannot be loaded, or needs a package that is not installed.
    """
    if not path.exists():
        raise ValueError(
            f"--features must be classifier, inception, none, a TorchScript file or a model's "
            f"folder, got {path}, which is not there"
        )
    if path.is_dir():
        if value_range is not None or size is not None:
            raise ValueError(
                "--features-range and --features-size are for a TorchScript file: the folder "
                f"{path} says itself how its model reads images"
            )
        found = folder_model(path, LARGEST_FILE)
        how = {**found.recipe, "resize": _resize(found.size), "channels": "grey repeated to 3"}
        return OwnFeatures(
            path.resolve().name, found.module, {"file": path.resolve().name, **how}, found.sha256,
            value_range=found.value_range, size=found.size,
        )  # fmt: skip
    low, high = UNIT_RANGE if value_range is None else value_range
    if not low < high:
        raise ValueError(f"--features-range must be LOW,HIGH with LOW < HIGH, got {low},{high}")
    content = read_bytes(path, LARGEST_FILE)
    recipe = {
        "file": path.name, "kind": "TorchScript", "values": f"{low:g} to {high:g}",
        "resize": _resize(size), "channels": "grey repeated to 3",
    }  # fmt: skip
    return OwnFeatures(
        path.stem, _script(content, path), recipe, hashlib.sha256(content).hexdigest(),
        value_range=(low, high), size=size,
    )  # fmt: skip


def _resize(size: int | None) -> str:
    return "none" if size is None else f"{size}x{size}, bicubic, antialiased"


def _script(content: bytes, path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as a whole
        try:
            with torch.random.fork_rng(devices=[]):
                module: nn.Module = torch.jit.load(io.BytesIO(content), map_location="cpu")
        except (RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise ValueError(
                f"--features {path} must be a TorchScript file ({reason:.200}): save one with "
                "torch.jit.trace(module.eval(), images).save(FILE)"
            ) from None
    return module.eval()  # nothing is differentiated: see __call__
