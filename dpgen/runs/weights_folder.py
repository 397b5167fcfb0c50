"""Reads the weights with which the network of a run begins from a folder: of diffusers, or of a
finished run.

Weights are read from safetensors files alone: no pickle is ever opened, as loading one runs code.
"""

from __future__ import annotations

from pathlib import Path

from dpgen.networks.architecture import Architecture
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.denoiser_config import DenoiserConfig
from dpgen.privacy.statements.certificate import (
    CERTIFICATE,
    NOTICE,
    CertificateError,
    sha256_file,
)
from dpgen.runs.diffusers_folder import weights_of_diffusers
from dpgen.runs.initial_weights import InitialWeights, require_channels, require_sigma
from dpgen.runs.released import checked_document, load_network, read_facts


def weights_of(folder: Path, shape: tuple[int, int, int]) -> InitialWeights:
    """Reads the weights in a folder for images of ``shape``, (C, H, W). A run that is named must
    have been verified.

    Raises:
        ValueError: the folder holds no network that a run could start with; the message says why.
        CertificateError: it holds a run, or an export of one, whose certificate does not cover it.
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--init {folder}: there is no such folder")
    for place in (folder, folder.parent):
        for notice in (NOTICE, f"run-{NOTICE}"):
            if (place / notice).exists() and (place == folder or folder.name == "unet"):
                raise ValueError(
                    f"--init {folder} comes from a run with a notice: it has no guarantee, and "
                    "what starts with its weights could have none"
                )
    if (folder / CERTIFICATE).exists():
        return _of_run(folder, shape)
    return weights_of_diffusers(folder, shape)


def _of_run(folder: Path, shape: tuple[int, int, int]) -> InitialWeights:
    """Reads the network of a finished run: the teacher where it has one, else the model."""
    statement = checked_document(folder).content
    files = statement["artifact"]["files"]
    file = next((n for n in ("teacher", "model") if f"{n}.safetensors" in files), None)
    if file is None:
        raise ValueError(f"--init {folder} must be a run, and it holds no network")
    path = folder / f"{file}.safetensors"
    network, names = load_network(path), read_facts(folder)["class_names"]
    if sha256_file(path) != files[path.name]:
        raise CertificateError(f"{path} changed since its statement was written")
    if not isinstance(network, Denoiser) or network.config.level is not None:
        raise ValueError(
            f"--init {folder} must hold a denoiser of all noise levels, as runs of dpdm, dp-sad "
            f"and pge do, got a {type(network).__name__}"
        )
    config: DenoiserConfig = network.config
    require_sigma(folder, config.sigma_data)
    require_channels(folder, config.shape[0], shape)
    tensors = {k: t.detach().clone() for k, t in network.unet.state_dict().items()}
    return InitialWeights(
        folder.resolve().name, files[path.name], Architecture.of(config), shape[0], tensors,
        tuple(names), statement,
    )  # fmt: skip
