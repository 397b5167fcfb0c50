"""Tensor files: what the library writes is read back bit for bit, and every lie of a header is
refused before memory is taken.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from dpgen.storage.tensors import DTYPES, Layout, TensorFile


def read(path: Path) -> dict[str, torch.Tensor]:
    with TensorFile(path) as file:
        return file.tensors()


def test_what_the_library_writes_comes_back_bit_for_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (24,), generator=generator, dtype=torch.uint8)
    numbers = [dtype for dtype in DTYPES.values() if dtype != torch.bool]
    written = {f"{dtype}": noise.clone().view(dtype) for dtype in numbers}
    written |= {
        "bool": torch.tensor([True, False]), "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3), "many axes": torch.zeros((1,) * 8),
    }  # fmt: skip
    save_file(written, tmp_path / "a", metadata={"b": "c"})
    found = read(tmp_path / "a")
    assert found.keys() == written.keys()
    for name, tensor in written.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        same = (t.reshape(-1).view(torch.uint8) for t in (found[name], tensor))
        assert torch.equal(*same)
    with TensorFile(tmp_path / "a") as file:
        assert file.metadata == {"b": "c"}
        assert file.layouts["empty"] == Layout(torch.float32, (0, 3))


def test_tensors_outlive_their_file(tmp_path: Path) -> None:
    """A mapped file that is cut short would end the process at the next look at a tensor."""
    path = tmp_path / "a"
    save_file({"x": torch.arange(10_000)}, path)
    x = read(path)["x"]
    path.write_bytes(b"")
    assert int(x.sum()) == 49_995_000
    x += 1


def entry(shape: Any, start: Any, stop: Any, dtype: Any = "U8") -> dict[str, Any]:  # noqa: ANN401
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ([], "header must be a table"),
        ({"a": 1}, "entry of tensor 'a' cannot be read"),
        ({"a": {}}, "entry of tensor 'a' cannot be read"),
        ({"a": entry([8], 0, 8, "F4")}, "cannot be read"),
        ({"a": entry([8], 0, 8, ["U8"])}, "cannot be read"),
        ({"a": entry(8, 0, 8)}, "cannot be read"),
        ({"a": entry([8], 0, 8.0)}, "no number below 0"),
        ({"a": entry([8], 0, True)}, "no number below 0"),
        ({"a": entry([-8], 0, 8)}, "no number below 0"),
        ({"a": entry([1] * 9, 0, 1)}, "at most 8 axes"),
        ({"a": entry([9], 0, 8)}, r"as long as its shape \(9,\) says"),
        ({"a": entry([2**62, 2**62], 0, 8)}, "as long as its shape"),
        ({"a": entry([4], 0, 4), "b": entry([4], 2, 6)}, "'b' must begin at byte 4"),
        ({"a": entry([4], 0, 4), "b": entry([4], 0, 4)}, "must begin at byte 4"),
        ({"a": entry([2], 0, 2), "b": entry([4], 4, 8)}, "'b' must begin at byte 2"),
        ({"a": entry([16], 0, 16)}, "it must have"),
        ({"a": entry([4], 0, 4)}, "it must have"),
        ({"a": entry([4], 4, 8)}, "'a' must begin at byte 0"),
        ({"__metadata__": {"a": 1}, "a": entry([8], 0, 8)}, "metadata must be text"),
        ({"__metadata__": "a", "a": entry([8], 0, 8)}, "metadata must be text"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object, word: str) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match=f"a must be a safetensors file: .*{word}"):
        read(tmp_path / "a")


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    one = '"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}'
    text = f"{{{one},{one}}}".encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(ValueError, match="key 'a' stands twice"):
        read(tmp_path / "a")


@pytest.mark.parametrize("kept", [0, 5, 8, 20, -1])
def test_a_cut_file_is_refused(tmp_path: Path, kept: int) -> None:
    (tmp_path / "a").write_bytes(save({"a": torch.zeros(5)})[:kept])
    with pytest.raises(ValueError, match="a must be a safetensors file"):
        read(tmp_path / "a")


def test_a_file_that_is_cut_short_between_header_and_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    save_file({"a": torch.zeros(100_000)}, path)
    with TensorFile(path) as file:
        with path.open("r+b") as other:
            other.truncate(1000)
        with pytest.raises(ValueError, match="a was cut short while it was read"):
            file.tensors()


def test_the_limit_is_on_the_file_before_anything_is_read(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(100)}, tmp_path / "a")
    size = (tmp_path / "a").stat().st_size
    TensorFile(tmp_path / "a", size)
    with pytest.raises(ValueError, match=f"at most {size - 1} bytes, got {size}"):
        TensorFile(tmp_path / "a", size - 1)
