"""Makes diffusers and torch-fidelity importable whatever state torchvision is in.

torch-fidelity requires torchvision, and the torchvision that an ordinary install brings to Linux
is built for CUDA. Beside a CPU build of torch it raises ``operator torchvision::nms does not
exist`` on import and takes diffusers, torch-fidelity and torchmetrics down with it. Declaring that
operator is enough for all that is used here. Without torchvision, torch-fidelity is imported over a
stand-in.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import torch

__all__ = ["repair"]

# A library that is garbage collected takes its operators with it.
_operators: list[torch.library.Library] = []


def repair() -> str:
    """Repairs torchvision's import. Call it before diffusers, torch_fidelity or torchmetrics is
    imported; further calls do no harm.

    Returns the state in which torchvision was found and what was done about it:

    * ``"ok"``: it imports, perhaps since an earlier call repaired it; nothing was done.
    * ``"repaired"``: its operators were missing and are now declared, without an implementation.
      Transforms and models work; ``torchvision.ops.nms`` and ``torchvision.io.decode_*`` do not.
    * ``"stubbed"``: not installed; torch_fidelity was imported over a stand-in, now gone again.
      FID, KID, IS and precision/recall work; torch_fidelity's VGG, CLIP and DINO extractors and its
      CIFAR and STL shortcuts do not.
    * ``"absent"``: neither torchvision nor torch_fidelity is installed; nothing to do.

    Any other failure of torchvision is raised as it is.
    """
    if importlib.util.find_spec("torchvision") is None:
        return _import_over_stand_in()
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return "ok"
    _forget_torchvision()
    _declare_operators()
    importlib.import_module("torchvision")
    return "repaired"


def _declare_operators() -> None:
    import torch

    # Only after a failed import: declaring an operator twice is an error.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _operators.append(library)


def _forget_torchvision() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


def _import_over_stand_in() -> str:
    if "torch_fidelity" in sys.modules:
        return "stubbed"
    if importlib.util.find_spec("torch_fidelity") is None:
        return "absent"
    sys.modules.update(_stand_in())
    try:
        importlib.import_module("torch_fidelity")
    finally:
        # Left in place it would look installed, but without a spec: find_spec then raises.
        _forget_torchvision()
    return "stubbed"


def _stand_in() -> dict[str, ModuleType]:
    """Makes the part of torchvision that torch_fidelity imports, by module name."""
    torchvision = ModuleType("torchvision")
    datasets = ModuleType("torchvision.datasets")
    transforms = ModuleType("torchvision.transforms")
    functional = ModuleType("torchvision.transforms.functional")
    models = ModuleType("torchvision.models")
    for module, names in (
        (datasets, ("CIFAR10", "CIFAR100", "STL10")),
        (transforms, ("Resize", "CenterCrop")),
        (models, ("vgg16",)),
    ):
        for name in names:
            setattr(module, name, _needs_torchvision(f"{module.__name__}.{name}"))
    transforms.Compose = _Compose  # type: ignore[attr-defined]
    functional.pil_to_tensor = _pil_to_tensor  # type: ignore[attr-defined]
    functional.normalize = _normalize  # type: ignore[attr-defined]
    transforms.functional = functional  # type: ignore[attr-defined]
    torchvision.datasets = datasets  # type: ignore[attr-defined]
    torchvision.transforms = transforms  # type: ignore[attr-defined]
    torchvision.models = models  # type: ignore[attr-defined]
    return {m.__name__: m for m in (torchvision, datasets, transforms, functional, models)}


def _needs_torchvision(name: str) -> type:
    def refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise ImportError(f"{name} needs torchvision, which is not installed")

    return type(name.rsplit(".", maxsplit=1)[-1], (), {"__init__": refuse})


class _Compose:
    def __init__(self, transforms: list[Any]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:  # noqa: ANN401 - whatever the transforms take
        for transform in self.transforms:
            image = transform(image)
        return image


def _pil_to_tensor(image: Any) -> torch.Tensor:  # noqa: ANN401 - a PIL image
    import numpy as np
    import torch

    pixels = np.array(image, copy=True)
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous()


def _normalize(
    tensor: torch.Tensor, mean: list[float], std: list[float], inplace: bool = False
) -> torch.Tensor:
    import torch

    centre = torch.as_tensor(mean, dtype=tensor.dtype, device=tensor.device)[:, None, None]
    spread = torch.as_tensor(std, dtype=tensor.dtype, device=tensor.device)[:, None, None]
    return tensor.sub_(centre).div_(spread) if inplace else (tensor - centre) / spread
