"""A layer's per-record gradients against autograd, one record after the other, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dpgen.privacy.mechanisms.layers import CONVOLUTIONS, known, weight_gradients

N_RECORDS, N_DRAWS = 3, 2
N = N_RECORDS * N_DRAWS


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


LAYERS: dict[str, tuple[nn.Module, Tensor]] = {
    "convolution": (nn.Conv2d(4, 6, 3, padding=1), normal(N, 4, 7, 5)),
    "with stride": (nn.Conv2d(4, 6, 3, stride=2, padding=1), normal(N, 4, 8, 7)),
    "of one pixel": (nn.Conv2d(4, 6, 1, bias=False), normal(N, 4, 3, 5)),
    "oblong and dilated": (nn.Conv2d(2, 3, (3, 2), (2, 1), (1, 2), (1, 2)), normal(N, 2, 9, 8)),
    "linear": (nn.Linear(5, 3), normal(N, 5)),
    "linear on tokens": (nn.Linear(5, 3, bias=False), normal(N, 4, 5)),
    "norm": (nn.GroupNorm(2, 4), 3 + normal(N, 4, 3, 5)),
    "norm of vectors": (nn.GroupNorm(2, 4), normal(N, 4, 6)),
    "embedding": (nn.Embedding(5, 3), torch.tensor([0, 4, 4, 4, 1, 0])),
    "padded embedding": (nn.Embedding(5, 3, padding_idx=4), torch.tensor([0, 4, 4, 4, 1, 0])),
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
CASES = [
    (name, layout, kernel)
    for name, (layer, seen) in LAYERS.items()
    for layout in (LAYOUTS if seen.ndim == 4 else ["contiguous"])
    for kernel in (CONVOLUTIONS if isinstance(layer, nn.Conv2d) else ["the only one"])
]


def one_by_one(layer: nn.Module, seen: Tensor, slope: Tensor) -> dict[str, Tensor]:
    rows = []
    for x, g in zip(seen.chunk(N_RECORDS), slope.chunk(N_RECORDS), strict=True):
        layer.zero_grad()
        layer(x.contiguous()).backward(g.contiguous())  # channels last, GroupNorm's own may crash
        rows.append({name: p.grad.clone() for name, p in layer.named_parameters()})
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize(("name", "layout", "kernel"), CASES)
def test_a_layers_gradients_are_those_of_a_loop_over_records(
    name: str, layout: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, seen = LAYERS[name]
    layer = layer.double()
    slope = normal(*layer(seen).shape, seed=1)
    seen, slope = (t.contiguous(memory_format=LAYOUTS[layout]) for t in (seen, slope))
    monkeypatch.setattr("dpgen.privacy.mechanisms.layers._choose", lambda *_: CONVOLUTIONS[kernel])
    assert known(layer)
    found = weight_gradients(layer, seen, slope, N_RECORDS)
    expected = one_by_one(layer, seen, slope)
    assert set(found) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kernel", CONVOLUTIONS)
@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_record_that_is_no_number_touches_no_other(
    name: str, kernel: str, poison: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit; zero times infinity in somebody else's row would show."""
    layer, seen = LAYERS[name]
    layer = layer.float()
    monkeypatch.setattr("dpgen.privacy.mechanisms.layers._choose", lambda *_: CONVOLUTIONS[kernel])
    slope = normal(*layer(seen.float() if seen.is_floating_point() else seen).shape).float()
    clean = weight_gradients(layer, _single(seen), slope, N_RECORDS)
    slope[N_DRAWS : 2 * N_DRAWS] = poison
    spoilt = _single(seen).clone()
    if seen.is_floating_point():
        spoilt[N_DRAWS : 2 * N_DRAWS] = poison
    found = weight_gradients(layer, spoilt, slope, N_RECORDS)
    for key, value in clean.items():
        assert torch.equal(found[key][::2], value[::2])
        assert not torch.isfinite(found[key][1]).all()


def _single(seen: Tensor) -> Tensor:
    return seen.float() if seen.is_floating_point() else seen


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(4),
        nn.LayerNorm(4),
        nn.ConvTranspose2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Embedding(3, 4, max_norm=1.0),
        type("Scaled", (nn.Linear,), {})(4, 4),
    ],
    ids=lambda layer: f"{type(layer).__name__} {layer.extra_repr()}",
)
def test_a_layer_that_is_not_covered_is_not_known(layer: nn.Module) -> None:
    assert not known(layer)


def test_rows_that_do_not_belong_to_records_are_refused() -> None:
    with pytest.raises(ValueError, match="7 rows of Linear for 3 records"):
        weight_gradients(nn.Linear(2, 2), torch.ones(7, 2), torch.ones(7, 2), 3)


def test_a_norm_without_weights_has_no_gradient_and_is_known() -> None:
    layer = nn.GroupNorm(2, 4, affine=False)
    assert known(layer)
    assert weight_gradients(layer, normal(N, 4, 3), normal(N, 4, 3, seed=1), N_RECORDS) == {}
