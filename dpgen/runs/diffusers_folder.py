"""Reads a ``UNet2DModel`` of diffusers with which the network of a run may begin: alone, in a
pipeline, or as `dpgen.exports.diffusers` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpgen.networks.architecture import Architecture, unet_config
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.variant import Variant
from dpgen.privacy.statements.certificate import (
    CERTIFICATE,
    CertificateError,
    intact,
    sha256_file,
)
from dpgen.runs.initial_weights import (
    ROWS,
    SIGMA_DATA,
    InitialWeights,
    require_channels,
    require_sigma,
)
from dpgen.runs.released import LARGEST_NETWORK, not_finite
from dpgen.settings import from_dict
from dpgen.storage.files import read_json
from dpgen.storage.tensors import TensorFile

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
RECIPE, RECIPE_SCHEMA = "recipe.json", "dpgen-diffusers/1"
SCHEDULER = "scheduler/scheduler_config.json"
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
DDPM = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")  # they share defaults
# Names of the layers of attention in files of earlier versions of diffusers.
RENAMED = {
    ".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0.",
}  # fmt: skip
WHOLE = "the whole folder of `dpgen export`"


def weights_of_diffusers(folder: Path, shape: tuple[int, int, int]) -> InitialWeights:
    """Reads the weights in a folder for images of ``shape``, (C, H, W). Raises ValueError for a
    network that no run could begin with, and CertificateError for an export of a run without its
    certificate.
    """
    unet = folder if (folder / CONFIG).is_file() else folder / "unet"
    if not (unet / CONFIG).is_file():
        raise ValueError(
            f"--init {folder} must be a finished run, or a folder of diffusers with a UNet2DModel "
            f"({CONFIG} and {WEIGHTS}, there or in unet/): it holds neither"
        )
    values = read_json(unet / CONFIG)
    kind = values.get("_class_name") if isinstance(values, Mapping) else None
    if kind != "UNet2DModel":
        raise ValueError(f"--init {folder} must hold a UNet2DModel, got {kind!r:.60}")
    path = unet / WEIGHTS
    if not path.is_file():
        raise ValueError(
            f"--init {folder} must hold {WEIGHTS} in one file: weights in any other form are not "
            "read, and a pickle (.bin) never is. Save it with safe_serialization=True"
        )
    root = unet.parent if unet.name == "unet" else unet
    residual, names, depth, output = _reading(folder, root, values)
    require_channels(folder, depth, shape)
    try:
        size = unet_config(values, shape, residual, output)
    except ValueError as error:
        raise ValueError(f"--init {folder}: the network cannot be taken over: {error}") from None
    sha256 = sha256_file(path)
    with TensorFile(path, LARGEST_NETWORK) as file:
        metadata, tensors = file.metadata, file.tensors()
    if sha256_file(path) != sha256:
        raise ValueError(f"{path} changed while it was read: name it again")
    tensors = {
        _renamed(name): t.float() if t.is_floating_point() else t for name, t in tensors.items()
    }
    _require_network(path, tensors, size, shape, None if names is None else len(names))
    return InitialWeights(
        root.resolve().name, sha256, size, depth, tensors, names,
        _beside(folder, root, metadata), exported=True,
    )  # fmt: skip


def _reading(
    folder: Path, root: Path, values: Mapping[str, Any]
) -> tuple[str, tuple[str, ...] | None, int, Variant]:
    """Finds out how the output of a network is read: what it corrects, its classes, the channels of
    its images, and what it puts out.
    """
    if (root / RECIPE).is_file():
        recipe = read_json(root / RECIPE)
        if not isinstance(recipe, Mapping) or recipe.get("schema") != RECIPE_SCHEMA:
            raise ValueError(f"{root / RECIPE} must have schema {RECIPE_SCHEMA}")
        try:
            require_sigma(folder, recipe["sigma_data"])
            if recipe["level"] is not None:
                raise ValueError(
                    f"--init {folder} must be a network of all noise levels, got a student of one"
                )
            residual = "fed" if recipe["prior_input"] else "added" if recipe["prior"] else "off"
            names = tuple(map(str, recipe["class_names"]))
            return residual, names, recipe["shape"][0], Variant()
        except (LookupError, TypeError) as error:
            raise ValueError(f"{root / RECIPE} is not what an export writes: {error!r}") from None
    path = root / SCHEDULER
    if not path.is_file():
        raise ValueError(
            f"--init {folder}: nothing says how the output of its network is to be read. Add the "
            f"{SCHEDULER} of its pipeline, or export a run with dpgen export"
        )
    if values.get("num_class_embeds") is not None:
        raise ValueError(
            f"--init {folder}: its network has {values['num_class_embeds']!r:.20} class embeddings "
            f"and nothing names their classes: {RECIPE} of dpgen export does"
        )
    return "off", None, values.get("out_channels", 3), _output(folder, read_json(path))


def _output(folder: Path, scheduler: Any) -> Variant:  # noqa: ANN401
    """Reads from the scheduler of a pipeline what its network puts out."""
    held: Mapping[str, Any] = scheduler if isinstance(scheduler, Mapping) else {}
    kind, target = held.get("_class_name"), held.get("prediction_type", "epsilon")
    if kind in EDM and target == "epsilon":
        require_sigma(folder, held.get("sigma_data", SIGMA_DATA))
        return Variant()
    if kind not in DDPM:
        raise ValueError(
            f"--init {folder}: its scheduler must be one of {', '.join((*DDPM, *EDM))} (the latter "
            f"with prediction_type 'epsilon'), got {kind!r:.60} with {target!r:.60}: networks for "
            "others are not converted"
        )
    if held.get("trained_betas") is not None or held.get("rescale_betas_zero_snr"):
        raise ValueError(
            f"--init {folder}: its scheduler must have neither trained_betas nor "
            "rescale_betas_zero_snr: such noise levels are not converted"
        )
    names = {
        "target": "prediction_type", "beta_schedule": "beta_schedule", "beta_start": "beta_start",
        "beta_end": "beta_end", "n_steps": "num_train_timesteps",
    }  # fmt: skip
    given = {own: held[theirs] for own, theirs in names.items() if theirs in held}
    try:
        return from_dict(Variant, {"target": target, **given})
    except ValueError as error:
        raise ValueError(f"--init {folder}: its scheduler is not converted: {error}") from None


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        if ".attentions." in name:
            name = name.replace(old, new)
    return name


def _require_network(
    path: Path, tensors: Mapping[str, Tensor], size: Architecture, shape: tuple[int, int, int],
    n_classes: int | None,
) -> None:  # fmt: skip
    """Refuses tensors that are not exactly those of the network, or not finite."""
    bands = 0 if size.residual == "off" else 1
    with torch.device("meta"):
        unet = Denoiser(size.config(shape, n_classes or 1, prior_bands=bands)).unet
    wanted = {name: tuple(t.shape) for name, t in unet.state_dict().items()}
    if n_classes is None:
        del wanted[ROWS]
    for name in sorted({*wanted, *tensors}):
        got = tuple(tensors[name].shape) if name in tensors else None
        if got != wanted.get(name):
            raise ValueError(
                f"{path}: tensor {name!r:.80} must be {wanted.get(name)}, got {got}"
            )
    if (weight := not_finite(tensors)) is not None:
        raise ValueError(f"{path}: weight {weight} is not finite")


def _beside(folder: Path, root: Path, metadata: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Returns the certificate that an export has beside its parts; None for weights of no run.
    Weights beside a recipe are those of a run, also where another program has saved them again, by
    which they lose what they say of it.
    """
    if "notice_sha256" in metadata:
        raise ValueError(
            f"--init {folder} comes from a run with a notice: it has no guarantee, and what starts "
            "with its weights could have none"
        )
    path, stated = root / f"run-{CERTIFICATE}", metadata.get("certificate_sha256")
    if stated is None and not path.exists() and not (root / RECIPE).exists():
        return None
    statement: dict[str, Any] = {}
    try:
        statement = dict(read_json(path)) if path.is_file() else {}
        same = statement["sha256"] == stated and intact(statement)
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise CertificateError(
            f"--init {folder} was exported from a run, and {path.name} beside it is missing or not "
            f"its certificate: name {WHOLE}"
        )
    return statement
