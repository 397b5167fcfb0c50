"""Models in a folder, as timm and transformers write them: config.json and model.safetensors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from dpgen.storage.files import read_bytes, read_json

__all__ = ["FolderModel", "folder_model"]

CONFIG, WEIGHTS, READING = "config.json", "model.safetensors", "preprocessor_config.json"


@dataclass(frozen=True)
class FolderModel:
    """A model with what it expects of images.

    Args:
        module: takes float images (B, 3, size, size), gives features (B, D).
        recipe: library, version, architecture and values, JSON values.
        sha256: of its files.
        value_range: what black and white become, a number for each channel.
        size: side of the images in pixels.
    """

    module: nn.Module
    recipe: Mapping[str, Any]
    sha256: str
    value_range: tuple[list[float], list[float]]
    size: int


def folder_model(folder: Path, largest: int) -> FolderModel:
    """Loads the model in a folder, by the library that its config.json is of.

    Args:
        folder: with config.json, model.safetensors and, for transformers,
            preprocessor_config.json.
        largest: bytes of weights that are read at most.

    Raises:
        ValueError: a file is missing or says something else, or the library is not installed.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(
                f"--features {folder} must have {CONFIG} and {WEIGHTS}, as timm and transformers "
                f"write them, and lacks {name}"
            )
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG} must be a table of a model, got a list or a value")
    weights = read_bytes(folder / WEIGHTS, largest)
    make: Callable[[Path, dict[str, Any], bytes], FolderModel]
    if "architecture" in config:
        make = _timm
    elif "model_type" in config:
        make = _transformers
    else:
        raise ValueError(
            f"{folder / CONFIG} must name an architecture, as timm writes it, or a model_type, as "
            "transformers writes it, and names neither"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            return make(folder, config, weights)
    except (RuntimeError, KeyError, TypeError, AttributeError, SafetensorError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"--features {folder} is not what its {CONFIG} says ({reason:.200})"
        ) from None


def _library(name: str, folder: Path) -> Any:  # noqa: ANN401
    try:
        return import_module(name)
    except ImportError:
        raise ValueError(
            f"--features {folder} is a model of {name}, which is not installed: pip install {name}"
        ) from None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _timm(folder: Path, config: dict[str, Any], weights: bytes) -> FolderModel:
    timm = _library("timm", folder)
    reading = config.get("pretrained_cfg", config)
    n_classes = config.get("num_classes", reading.get("num_classes", 0))
    module = timm.create_model(
        config["architecture"], pretrained=False, num_classes=n_classes,
        **config.get("model_args", {}),
    )  # fmt: skip
    module.load_state_dict(load(weights))  # all of them: none stays as it was drawn
    module.reset_classifier(0)
    channels, height, width = reading["input_size"]
    if channels != 3 or height != width:
        raise ValueError(
            f"--features {folder} must take square RGB images, got input_size "
            f"{reading['input_size']}"
        )
    return _made(
        module, "timm", config["architecture"], reading["mean"], reading["std"], height,
        [(folder / CONFIG).read_bytes(), weights],
    )  # fmt: skip


def _transformers(folder: Path, config: dict[str, Any], weights: bytes) -> FolderModel:
    library = _library("transformers", folder)
    if not (folder / READING).is_file():
        raise ValueError(
            f"--features {folder} must have {READING}, which says how its model reads images"
        )
    reading = read_json(folder / READING)
    module, told = library.AutoModel.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False,
        output_loading_info=True,
    )  # fmt: skip
    # The pooler is not used, and many checkpoints have none.
    drawn = sorted(name for name in told["missing_keys"] if not name.startswith("pooler."))
    if drawn:
        raise ValueError(f"{folder / WEIGHTS} lacks weights of the model: {', '.join(drawn[:3])}")
    return _made(
        _Hidden(module), "transformers", config["model_type"], reading["image_mean"],
        reading["image_std"], _side(reading),
        [(folder / CONFIG).read_bytes(), (folder / READING).read_bytes(), weights],
    )  # fmt: skip


def _side(reading: Mapping[str, Any]) -> int:
    """Returns the side of the square that a transformers model reads."""
    size = reading.get("crop_size") or reading["size"]
    if isinstance(size, int):
        return size
    return int(size.get("height") or size["shortest_edge"])


class _Hidden(nn.Module):
    """The last hidden state of a transformers model as (B, D): the class token, or the mean over
    places.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.module(pixel_values=images).last_hidden_state
        return hidden[:, 0] if hidden.ndim == 3 else hidden.flatten(2).mean(2)


def _made(
    module: nn.Module, library: str, architecture: str, mean: list[float], std: list[float],
    size: int, contents: list[bytes],
) -> FolderModel:  # fmt: skip
    digest = hashlib.sha256("".join(hashlib.sha256(c).hexdigest() for c in contents).encode())
    recipe = {
        "kind": f"{library} {_version(library)}", "architecture": architecture,
        "values": f"0 to 1, then mean {mean} and deviation {std}",
    }  # fmt: skip
    values = [
        [(v - m) / s for m, s in zip(mean, std, strict=True)] for v in (0.0, 1.0)
    ]  # fmt: skip
    whole = module.float().eval().requires_grad_(False)
    return FolderModel(whole, recipe, digest.hexdigest(), (values[0], values[1]), int(size))
