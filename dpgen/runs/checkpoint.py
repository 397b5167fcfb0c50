"""Saves the state of a long loop: tensors and numbers, replaced on disk in one step, nothing
pickled.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dpgen.networks.ema import EMA
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import parse_json
from dpgen.storage.tensors import TensorFile


class Checkpoints:
    """Named states in one folder. After a kill, the last complete state of each name is there.

    Args:
        folder: the folder; it is made with mode 0700.
        seconds: time between two states that `due` asks for; 0 means after every step.
    """

    def __init__(self, folder: Path, seconds: float = 15.0) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(folder, 0o700)
        self._folder, self._seconds, self._last = folder, seconds, time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True

    def save(self, name: str, tensors: Mapping[str, Tensor], **numbers: Any) -> None:  # noqa: ANN401
        """Replaces the state ``name`` by these tensors and JSON numbers, whole or not at all."""
        whole = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        content = save(whole, metadata={"numbers": canonical(numbers)})
        replace_durably(self._folder / f"{name}.safetensors", content, mode=0o600)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Loads the state ``name`` and its numbers; None if there is none yet. Raises ValueError
        when the file is damaged.
        """
        path = self._folder / f"{name}.safetensors"
        if not path.exists():
            return None
        try:
            with TensorFile(path) as file:
                numbers = parse_json(file.metadata["numbers"], "its numbers")
                if not isinstance(numbers, dict) or type(numbers.get("step", 0)) is not int:
                    raise ValueError("its numbers must be a table, and its step a whole number")
                return file.tensors(), numbers
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"checkpoint {path} is damaged ({error}): start a new run folder"
            ) from None

    def once(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Returns the tensors that ``make`` gave the first time that this run called it.

        They are saved under ``name`` and read back, so that a resumed run has exactly the same
        tensors as an uninterrupted one, with the same layout in memory.
        """
        held = self.load(name)
        if held is None:
            self.save(name, make())
            held = self.load(name)
            assert held is not None
        return held[0]


@dataclass
class TrainingState:
    """Everything that changes in a training loop, by name."""

    modules: dict[str, nn.Module | EMA] = field(default_factory=dict)
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)
    generators: dict[str, torch.Generator] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            found |= {f"module.{name}.{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                found |= {f"optimizer.{name}.{index}.{key}": v for key, v in moments.items()}
        for name, generator in self.generators.items():
            found[f"generator.{name}"] = generator.get_state()
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores the state. Raises ValueError when these tensors are not of this loop."""
        try:
            self._load(tensors)
        except torch.OutOfMemoryError:
            raise
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"a checkpoint must hold the tensors of this training, got others ({reason}): "
                "start a new run folder"
            ) from None

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        for name, module in self.modules.items():
            module.load_state_dict(part(f"module.{name}."))
        for name, optimizer in self.optimizers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in part(f"optimizer.{name}.").items():
                index, moment = key.split(".", 1)
                moments.setdefault(int(index), {})[moment] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"generator.{name}"])
