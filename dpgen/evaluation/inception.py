"""Inception V3 with its published weights: the feature network of the literature."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpgen._torchvision import repair
from dpgen.evaluation.features import Extracted
from dpgen.storage.files import read_bytes

__all__ = ["Inception", "inception"]

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = (
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
)
LARGEST_FILE = 2**27  # bytes of a file of weights
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class Inception:
    """torch-fidelity's Inception V3 of 2015, the network of FID, KID and the inception score.

    Grey images are repeated to three channels.
    """

    name = "inception"

    def __init__(self, module: nn.Module, sha256: str) -> None:
        self._module: Any = module
        self.sha256 = sha256
        self.recipe: Mapping[str, Any] = {
            "weights": INCEPTION_FILE,
            "layers": "2048, logits_unbiased",
            "resize": "299x299, bilinear as in TensorFlow 1",
            "channels": "grey repeated to 3",
        }

    def __call__(self, pixels: Tensor) -> Extracted:
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise ValueError(f"pixels must be (B, 1 or 3, H, W), got {tuple(pixels.shape)}")
        return Extracted(*self._module.to(pixels.device)(pixels.expand(-1, 3, -1, -1)))


def inception(weights: Path | None = None, *, show: bool = False) -> Inception:
    """Loads Inception V3 with its published weights.

    Guarantees: the file is hashed before it is parsed, and nothing in it is executed; torch's
    global random state is not changed.

    Args:
        weights: the file; None takes torch hub's copy, which is downloaded if it is absent.
        show: whether to show a progress bar of the download.
    """
    path = _downloaded(show) if weights is None else weights
    if not path.is_file():
        raise ValueError(f"Inception weights must be a file, got {path}: fetch {INCEPTION_URL}")
    content = read_bytes(path, LARGEST_FILE)
    found = hashlib.sha256(content).hexdigest()
    if found != INCEPTION_SHA256:
        raise ValueError(
            f"Inception weights {path} must have SHA-256 {INCEPTION_SHA256}, got {found}: fetch "
            f"{INCEPTION_URL} again"
        )
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"Inception weights must hold tensors only: {error}") from None
    repair()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        with torch.random.fork_rng(devices=[]):
            # The library unpickles its input, so it gets exactly the bytes that were checked.
            module = FeatureExtractorInceptionV3(
                "inception-v3-compat",
                ["2048", "logits_unbiased"],
                feature_extractor_weights_path=io.BytesIO(content),
            )
    except RuntimeError as error:
        raise ValueError(f"Inception weights must fit Inception V3: {error}") from None
    return Inception(module, found)


def _downloaded(show: bool) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(INCEPTION_URL, str(path), INCEPTION_SHA256, show)
        except (OSError, HTTPException, RuntimeError) as error:
            raise ValueError(
                f"Inception weights are not at {path} and cannot be downloaded ({error}): fetch "
                f"{INCEPTION_URL} (SHA-256 {INCEPTION_SHA256}) elsewhere and put it there or give "
                "it as --inception-weights FILE; or measure with --features classifier, which "
                "downloads nothing"
            ) from None
    return path
