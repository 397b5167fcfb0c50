"""Runs a teacher so that it finds nothing of the one before it, and leaves nothing behind.

How many random numbers a teacher draws, what it says and which settings of the process it changes
may depend on its shard, and would reach the teachers of other shards. Generators and the settings
below are put back; standard output, the log and warnings are dropped. Attributes of classes and
modules are not put back: a `Fit` must not change any.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

Setting = tuple[Callable[[], Any], Callable[[Any], Any]]  # reads it, and sets it


def _of_errors(held: Any) -> None:  # noqa: ANN401
    np.seterr(**held)


def _of_device(held: torch.device) -> None:
    # Without a default device tensors are made on the CPU, and nothing stands between calls.
    torch.set_default_device(None if held == torch.device("cpu") else held)


def _products() -> str | None:
    # It fails where the settings of single backends, which are read below, are not all equal.
    with contextlib.suppress(RuntimeError):
        return torch.get_float32_matmul_precision()
    return None


def _of_products(held: str | None) -> None:
    if held is not None:
        torch.set_float32_matmul_precision(held)


def _settings() -> Iterator[Setting]:
    """Yields the settings of the process that decide how a teacher computes."""
    backends: Any = torch.backends
    yield torch.get_default_dtype, torch.set_default_dtype
    yield torch.get_default_device, _of_device
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    yield np.geterr, _of_errors
    yield _products, _of_products
    for device in ("cpu", "cuda"):
        yield (
            partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device)
        )  # fmt: skip
    for backend in (
        backends, backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul,
        backends.mkldnn.conv,
    ):  # fmt: skip
        name = "fp32_precision"
        yield partial(getattr, backend, name), partial(setattr, backend, name)


@contextlib.contextmanager
def _unchanged() -> Iterator[None]:
    """Runs the block and then puts back each setting that it changed."""
    before = [(read, put, read()) for read, put in _settings()]
    try:
        yield
    finally:
        for read, put, held in before:
            if read() != held:
                put(held)


@contextlib.contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Runs the block with random numbers that begin at ``seed``, without a word, and puts back what
    the process had before.
    """
    states: tuple[Any, Any] = random.getstate(), np.random.get_state()
    level, devices = logging.root.manager.disable, list(range(torch.cuda.device_count()))
    logging.disable(logging.CRITICAL)
    try:
        with (
            _unchanged(),
            torch.random.fork_rng(devices=devices),
            torch.enable_grad(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            random.seed(seed)
            np.random.seed(seed % 2**32)
            # `torch.manual_seed` would queue a seed for every accelerator that is not there.
            torch.default_generator.manual_seed(seed)
            if devices:
                torch.cuda.manual_seed_all(seed)
            yield
    finally:
        logging.disable(level)
        random.setstate(states[0])
        np.random.set_state(states[1])
