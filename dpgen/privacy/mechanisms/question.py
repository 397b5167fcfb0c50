"""Describes the question of a release: everything but the records that its noiseless answer depends
on.

A question is described by a walk through frozen objects. Every field is visited, and a value of an
unknown type is refused, so no field can be left out by mistake. Code is identified by the name of
its class and the versions of the libraries. Not described are values that the code reads from
elsewhere (a closure, an attribute of its class, a patched function) and settings of the process
that `settings` does not list. If two questions look equal for that reason, they get the same coins,
and their noise is still independent (`dpgen.privacy.mechanisms.noise`).

    stage    the same at every release of a stage: mechanism, statistic or objective with its
             released tensors, micro-batch, device, engine, versions of the libraries
    moving   what differs from release to release: the parameters

The digest of both goes into the address of all randomness of the release
(`dpgen.privacy.mechanisms.noise`). The number of processes is not part of it: it changes where a
sum is computed, not which sum.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from dpgen.storage.canonical import digest

_INNER = frozenset(vars(nn.Module())) - {"training"}  # of every module; tensors are visited by name
# Objects of these packages without attributes, as attention processors, are described by class.
_PLAIN = ("diffusers.",)
_DEFAULTS = "_use_default_values"  # in the configuration of a network of diffusers


@dataclass(frozen=True)
class Question:
    """A description, in JSON values, of the question of one release.

    Args:
        stage: the part that is the same at every release of the stage.
        moving: the part that differs from release to release.
    """

    stage: Mapping[str, Any]
    moving: Mapping[str, str]

    @classmethod
    def of(cls, **parts: object) -> Self:
        """Describes the question that these named parts ask together; the versions of the libraries
        and the settings of the process are added.

        Raises TypeError for a part that cannot be described.
        """
        moving: dict[str, str] = {}
        stage = {name: described(part, name, moving) for name, part in parts.items()}
        return cls({**stage, **versions(), **settings()}, moving)

    @cached_property
    def digest(self) -> str:
        """Hashes the description: 64 hexadecimal digits that differ if anything in it differs."""
        return digest([self.stage, self.moving])

    @cached_property
    def start(self) -> str:
        """Hashes the moving part alone."""
        return digest(self.moving)


@dataclass(frozen=True)
class Given:
    """The tensors that differ from release to release of a stage.

    Args:
        tensors: the tensors by name.
    """

    tensors: Mapping[str, Tensor]


def described(value: object, path: str, moving: dict[str, str]) -> Any:  # noqa: ANN401
    """Describes everything that ``value`` holds as a JSON value, with digests for the contents of
    tensors.

    Digests of a `Given` and of trainable parameters are put into ``moving``, by path.

    Raises TypeError for a value that cannot be described.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": repr(value)}
        case nn.Parameter() if value.requires_grad:
            _put(moving, path, value)
            return {"moves": _kind(value)}
        case Tensor():
            return {"tensor": f"{_kind(value)} {_content(value)}"}
        case np.ndarray() | np.generic():
            return {"array": f"{_kind(value)} {_content(torch.from_numpy(np.array(value)))}"}
        case torch.dtype() | torch.device():
            return {"torch": str(value)}
        case Given():
            pairs = sorted(value.tensors.items())
            for name, tensor in pairs:
                _put(moving, f"{path}.{name}", tensor)
            return {"given": {name: _kind(tensor) for name, tensor in pairs}}
        case nn.Module():
            return _walked(value, _of_module(value, path), path, moving)
        case tuple() if hasattr(value, "_fields"):
            return _walked(value, zip(value._fields, value, strict=True), path, moving)
        case tuple() | list():
            return [described(x, f"{path}.{i}", moving) for i, x in enumerate(value)]
        case Mapping():
            if any(type(key) is not str for key in value):
                raise TypeError(f"{path} must have names for keys, got {list(value)!r:.80}")
            return {"map": {k: described(x, f"{path}.{k}", moving) for k, x in value.items()}}
    if is_dataclass(value) and not isinstance(value, type):
        return _walked(value, _of_dataclass(value, path), path, moving)
    raise TypeError(
        f"{path} must be made of numbers, words, tensors, modules and frozen dataclasses, so that "
        f"the question can be described, got {_name(value)}"
    )


def _put(moving: dict[str, str], path: str, tensor: Tensor) -> None:
    """Puts a tensor's digest under its path. Raises TypeError for a second tensor there, which
    would replace the first.
    """
    if path in moving:
        raise TypeError(f"{path} must name one tensor, got two: names in a map hold no dots")
    moving[path] = _content(tensor)


def _walked(
    value: object, parts: Iterator[tuple[str, object]] | zip[Any], path: str, moving: dict[str, str]
) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for name, part in parts:
        if name in inner:
            raise TypeError(f"{path}.{name} must be one thing, {_name(value)} holds two")
        inner[name] = described(part, f"{path}.{name}", moving)
    return {_name(value): inner}


def _of_dataclass(value: Any, path: str) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    if not value.__dataclass_params__.frozen:
        raise TypeError(f"{path} must be a frozen dataclass, {_name(value)} is not frozen")
    names = [field.name for field in fields(value)]
    for name in getattr(value, "__dict__", {}):
        if name not in names and not _is_cached(value, name):
            raise TypeError(f"{path} must hold fields alone, {_name(value)} holds {name!r}, too")
    for name in names:
        yield name, getattr(value, name)


def _is_cached(value: object, name: str) -> bool:
    """Returns whether an attribute is the cached value of a `cached_property`."""
    return isinstance(getattr(type(value), name, None), cached_property)


def _of_module(module: nn.Module, path: str) -> Iterator[tuple[str, object]]:
    """Yields a module's own attributes, tensors and submodules, by name."""
    if nn.modules.module._has_any_global_hook():
        raise TypeError(f"{path} must have no hooks, this process has some for all modules")
    for name in sorted(_INNER):
        if name.endswith(("hooks", "hooks_with_kwargs")) and getattr(module, name):
            raise TypeError(f"{path} must have no hooks, {_name(module)} has {name}")
    for name, attribute in vars(module).items():
        if name not in _INNER:
            if _is_configuration(attribute):
                # The names of a set, whose order differs from process to process.
                attribute = {**attribute, _DEFAULTS: sorted(attribute[_DEFAULTS])}
            plain = _name(attribute).startswith(_PLAIN) and getattr(attribute, "__dict__", 0) == {}
            yield name, {"class": _name(attribute)} if plain else attribute
    for held in (module._parameters, module._buffers, module._modules):
        yield from held.items()


def _is_configuration(value: object) -> bool:
    """Returns whether an attribute is the configuration that diffusers stores in a network."""
    return isinstance(value, Mapping) and _DEFAULTS in value


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _kind(value: Tensor | np.ndarray | np.generic) -> str:
    return f"{value.dtype} {list(value.shape)}"


def _content(tensor: Tensor) -> str:
    """Computes the SHA-256 of a tensor's bytes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


@cache
def _version(package: str) -> str:
    return version(package)


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that compute the answer."""
    return {
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "dpgen": _version("dpgen"),
        "diffusers": _version("diffusers"),
    }


def settings() -> dict[str, Any]:
    """Returns the settings of this process that decide how it computes by default."""
    # Read one by one: `torch.get_float32_matmul_precision` fails where they are not all equal.
    backends: Any = torch.backends
    products = {
        "default": backends,
        "cuda": backends.cuda.matmul,
        "cudnn": backends.cudnn.conv,
        "mkldnn": backends.mkldnn.matmul,
        "mkldnn convolutions": backends.mkldnn.conv,
    }
    return {
        "float32 products": {k: str(backend.fp32_precision) for k, backend in products.items()},
        "default type": str(torch.get_default_dtype()),
        "autocast": {
            device: str(torch.get_autocast_dtype(device))
            for device in ("cpu", "cuda")
            if torch.is_autocast_enabled(device)
        },
    }


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401
    """Yields the differences between two described stages, in words: name, earlier value, present
    value.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in sorted({*one, *other}):
            # The class is mentioned only where it differs.
            same = [name] == [*one] == [*other] and "." in name
            inner = path if same else f"{path}.{name}".lstrip(".")
            yield from differences(one.get(name), other.get(name), inner)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}.{number}")
    elif one != other or type(one) is not type(other):
        yield f"{path} was {one!r:.80}, now it is {other!r:.80}"
