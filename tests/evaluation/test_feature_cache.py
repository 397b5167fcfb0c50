from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dpgen.evaluation.feature_cache import FeatureCache, sha256_of

IDENTITY = {"network": "ab", "pixels": "cd"}
TENSORS = {"features": torch.tensor([[0.1, -0.0], [3e-45, 7.0]]), "mean": torch.rand(2).double()}


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    cache = FeatureCache(tmp_path / "cache")
    cache.save(IDENTITY, TENSORS)
    return cache


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.view(torch.uint8).equal(b.view(torch.uint8))


def test_what_comes_back_is_what_was_saved_bit_for_bit(cache: FeatureCache) -> None:
    found = cache.load({"pixels": "cd", "network": "ab"})
    assert found is not None and found.keys() == TENSORS.keys()
    assert all(same_bits(found[name], TENSORS[name]) for name in TENSORS)


def test_another_identity_has_another_file(cache: FeatureCache) -> None:
    for other in ({"network": "ab", "pixels": "ce"}, {"network": "ac", "pixels": "cd"}, {}):
        assert cache.load(other) is None
        assert cache.path(other) != cache.path(IDENTITY)


def test_a_file_is_for_its_owner_only_and_the_only_one(cache: FeatureCache) -> None:
    path = cache.path(IDENTITY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_damaged_file_counts_as_none_and_can_be_replaced(cache: FeatureCache) -> None:
    path = cache.path(IDENTITY)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    for damaged in (b"", whole[:-5], whole[:9], bytes(flipped), b"not a safetensors file"):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
            assert cache.load(IDENTITY) is None
    cache.save(IDENTITY, TENSORS)
    found = cache.load(IDENTITY)
    assert found is not None and all(same_bits(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"schema": "dpgen-features/2", "identity": json.dumps(IDENTITY, sort_keys=True)},
        {"schema": "dpgen-features/1", "identity": "{}"},
    ],
)
def test_a_file_of_another_origin_is_refused_and_left_as_it_is(
    cache: FeatureCache, metadata: dict[str, str] | None
) -> None:
    path = cache.path(IDENTITY)
    save_file(TENSORS, path, metadata=metadata)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"{path.name} must be what dpgen wrote .* remove it"):
        cache.load(IDENTITY)
    assert path.read_bytes() == before


def test_a_cache_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cache must be a folder, got the file .*file"):
        FeatureCache(tmp_path / "file")


def test_the_hash_is_of_names_types_shapes_and_values() -> None:
    zeros = torch.zeros(2, 3)
    others = (
        {"a": zeros},
        {"b": zeros},
        {"a": torch.zeros(3, 2)},
        {"a": zeros.to(torch.int32)},
        {"a": torch.tensor([[0, 0, 0], [0, 0, 1.0]])},
        {"a": zeros, "b": zeros},
    )
    assert len({sha256_of(tensors) for tensors in others}) == len(others)
    assert sha256_of({"b": zeros, "a": zeros}) == sha256_of({"a": zeros, "b": zeros})
    values = torch.arange(6.0).reshape(2, 3)
    assert sha256_of(values.T) == sha256_of(values.T.contiguous()) != sha256_of(values)
    assert sha256_of(torch.zeros(0, 3)) != sha256_of(torch.zeros(0, 4))
