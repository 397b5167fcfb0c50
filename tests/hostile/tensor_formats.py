"""Tensors: networks, checkpoints and cached features."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from dpgen.evaluation.feature_cache import FeatureCache, sha256_of
from dpgen.networks.condensed import Condensed, CondensedConfig
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.released import load_network
from dpgen.settings import from_dict
from tests.hostile.formats import Format, as_json, plain, tabled


def denoiser() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    config = DenoiserConfig.preset("tiny", (1, 8, 8), 2, prior_bands=2)
    numbers = {name: getattr(config, name) for name in config.__dataclass_fields__}
    return dict(Denoiser(config).state_dict()), numbers


def proposer() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    shape = [1, 8, 8]
    labeller = {"features": {"shape": shape, "grid": 2, "largest_side": 8}, "n_axes": 3}
    values = {
        "decoder": {"shape": shape, "n_classes": 2, "n_latents": 2, "width": 4, "channels": [4]},
        "warp": 1.0, "labeller": {**labeller, "n_classes": 2},
    }  # fmt: skip
    return dict(Proposer(from_dict(ProposerConfig, values)).state_dict()), values


def condensed() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    config = CondensedConfig((1, 8, 8), 2, images_per_class=2, factor=2, warp=1.0)
    numbers = {name: getattr(config, name) for name in config.__dataclass_fields__}
    return dict(Condensed(config).state_dict()), numbers


def tensor_file(tensors: dict[str, torch.Tensor]) -> Callable[[Any], bytes]:
    """A file of these tensors with any metadata."""
    whole = save(tensors)
    length = int.from_bytes(whole[:8], "little")
    header, content = json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def envelope(metadata: Any) -> bytes:  # noqa: ANN401
        text = as_json({"__metadata__": metadata, **header})
        return len(text).to_bytes(8, "little") + text + content

    return envelope


def with_header(whole: bytes) -> tuple[Any, Callable[[Any], bytes]]:
    """The header of a tensor file, and how another one is put in its place."""
    length = int.from_bytes(whole[:8], "little")

    def envelope(header: Any) -> bytes:  # noqa: ANN401
        text = as_json(header)
        return len(text).to_bytes(8, "little") + text + whole[8 + length :]

    return json.loads(whole[8 : 8 + length]), envelope


def network(content: bytes, folder: Path) -> None:
    (folder / "a.safetensors").write_bytes(content)
    loaded = load_network(folder / "a.safetensors")
    assert isinstance(loaded, Denoiser | Proposer | Condensed)
    assert all(torch.isfinite(t).all() for t in loaded.state_dict().values())


def checkpoint(content: bytes, folder: Path) -> None:
    (folder / "a.safetensors").write_bytes(content)
    held = Checkpoints(folder).load("a")
    assert held is not None and held[1].get("step", 0) == int(held[1].get("step", 0))


IDENTITY = {"network": "a", "pixels": "b"}


def cache(content: bytes, folder: Path) -> None:
    kept = FeatureCache(folder)
    kept.path(IDENTITY).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = kept.load(IDENTITY)
    if found is None:
        raise ValueError("it counts as none")
    assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())


def tensor_formats() -> list[Format]:
    """Networks, checkpoints and cached features."""
    forms = []
    made = {"denoiser": denoiser(), "proposer": proposer(), "condensed": condensed()}
    for kind, (tensors, numbers) in made.items():
        envelope = tensor_file(tensors)
        whole = envelope({kind: json.dumps(numbers)})
        forms += [
            plain(kind, whole, network),
            tabled(f"{kind}, header", *with_header(whole), network),
            tabled(
                f"{kind}, configuration",
                numbers,
                lambda value, kind=kind, envelope=envelope: envelope({kind: json.dumps(value)}),
                network,
            ),
        ]
    few = {"x": torch.arange(5.0), "y": torch.zeros(2, 3, dtype=torch.int64)}
    state = tensor_file(few)({"numbers": '{"step": 3}'})
    text = json.dumps(IDENTITY, sort_keys=True)
    metadata = {"schema": "dpgen-features/1", "identity": text, "sha256": sha256_of(few)}
    held = tensor_file(few)(metadata)
    return [
        *forms,
        plain("checkpoint", state, checkpoint),
        tabled("checkpoint, header", *with_header(state), checkpoint),
        plain("feature cache", held, cache),
        tabled("feature cache, header", *with_header(held), cache),
    ]
