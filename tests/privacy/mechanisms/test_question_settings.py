"""What no field holds and an answer depends on all the same: versions and settings of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpgen.privacy.mechanisms import question as module
from dpgen.privacy.mechanisms.question import Given, Question
from dpgen.runs.context import Hardware


def asked() -> Question:
    return Question.of(micro_batch=4)


@contextmanager
def products(backend: Any, precision: str) -> Iterator[None]:  # noqa: ANN401
    before = backend.fp32_precision
    backend.fp32_precision = precision
    try:
        yield
    finally:
        backend.fp32_precision = before


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SETTINGS: dict[str, Callable[[], Any]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default type": lambda: default_type(torch.float64),
    "products of all": lambda: products(torch.backends, "tf32"),
    "products on a GPU": lambda: products(torch.backends.cuda.matmul, "tf32"),
    "convolutions on a GPU": lambda: products(torch.backends.cudnn.conv, "ieee"),
    "products on a CPU": lambda: products(torch.backends.mkldnn.matmul, "bf16"),
    "convolutions on a CPU": lambda: products(torch.backends.mkldnn.conv, "bf16"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_process_makes_another_question(name: str) -> None:
    with products(torch.backends.cudnn.conv, "tf32"):
        before = asked().digest
        with SETTINGS[name]():
            assert asked().digest != before
        assert asked().digest == before


def test_a_library_that_computes_the_answer_is_a_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, versions = asked().digest, dict(module.versions())
    for package in ("dpgen", "diffusers"):
        with monkeypatch.context() as patch:
            newer = versions | {package: "99.9"}
            patch.setattr(module, "_version", newer.__getitem__)
            assert asked().digest != before
    assert asked().digest == before


def test_a_process_that_asked_for_faster_products_can_ask_a_question() -> None:
    """PyTorch's own reading of them fails where its two ways of setting them were mixed."""
    held = torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision
    with products(torch.backends.cuda.matmul, held[0]):
        with products(torch.backends.mkldnn.matmul, held[1]):
            torch.set_float32_matmul_precision("high")
            Hardware(device="cpu").accelerator()
            with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
                torch.get_float32_matmul_precision()
            assert len(asked().digest) == 64


def parameter(value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((2,), float(value)))


def shadowed() -> nn.Module:
    made = nn.Linear(2, 2)
    made.register_buffer("rest", torch.zeros(1))
    made.__dict__["rest"] = torch.ones(1)  # what `made.rest` is from now on
    return made


TWOFOLD: dict[str, Callable[[], dict[str, Any]]] = {
    "names with dots": lambda: {"it": {"a": {"b": parameter(0)}, "a.b": parameter(1)}},
    "given twice": lambda: {
        "it": Given({"a.b": torch.zeros(1)}), "it.a": Given({"b": torch.ones(1)})
    },
    "an attribute before a buffer": lambda: {"it": shadowed()},
}  # fmt: skip


@pytest.mark.parametrize("name", TWOFOLD)
def test_what_stands_under_a_name_that_is_taken_is_refused_not_forgotten(name: str) -> None:
    with pytest.raises(TypeError, match=r"it\.(a\.b|rest) must (name|be) one t"):
        Question.of(**TWOFOLD[name]())


def test_hooks_for_all_modules_are_refused() -> None:
    def double(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return 2 * out

    handle = nn.modules.module.register_module_forward_hook(double)
    try:
        with pytest.raises(TypeError, match="must have no hooks, this process has some"):
            Question.of(it=nn.Linear(2, 2))
    finally:
        handle.remove()
    Question.of(it=nn.Linear(2, 2))
