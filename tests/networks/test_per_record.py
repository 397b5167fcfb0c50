from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from dpgen.networks.per_record import require_per_record
from dpgen.networks.table import NETWORKS
from dpgen.privacy.mechanisms.clipping import MARGIN, add_clipped, zero_sum
from dpgen.privacy.mechanisms.gradients import BatchedLoss, engine_of

SHAPE = (2, 8, 8)
N_CLASSES = 3
N_RECORDS = 4
# A denoiser with attention on both levels of attention and convolution: "base" at 16 pixels.
SHAPES = {"denoiser-small": (1, 16, 16), "denoiser-base": (1, 16, 16)}


def build(name: str) -> nn.Module:
    """The network in float64 with every weight moved, so that none of its gradients is zero."""
    generator = torch.Generator().manual_seed(2)
    module = NETWORKS[name].build(SHAPES.get(name, SHAPE), N_CLASSES).double()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.05 * noise)
    return module


def inputs(name: str, seed: int = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = SHAPES.get(name, SHAPE)

    def normal(*shape: int) -> Tensor:
        return torch.randn(N_RECORDS, *shape, generator=generator, dtype=torch.float64)

    made = {
        "image": normal(channels, height, width),
        "pair": normal(2 * channels, height, width),
        "sigma": normal().exp(),
        "label": torch.randint(N_CLASSES + 1, (N_RECORDS,), generator=generator),
    }
    return tuple(made[kind] for kind in NETWORKS[name].inputs)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_vectorised_gradients_equal_a_loop_over_records(
    name: str, layout: torch.memory_format
) -> None:
    module = build(name).to(memory_format=layout)
    records = tuple(t.contiguous(memory_format=layout) if t.ndim == 4 else t for t in inputs(name))
    parameters = {key: value.detach() for key, value in module.named_parameters()}

    def loss(parameters: dict[str, Tensor], *record: Tensor) -> Tensor:
        output = functional_call(module, parameters, tuple(t[None] for t in record))
        return output.square().sum()

    vectorised = vmap(grad(loss), in_dims=(None, *(0 for _ in records)))(parameters, *records)
    for i in range(N_RECORDS):
        module.zero_grad()
        module(*(t[i : i + 1] for t in records)).square().sum().backward()
        for key, parameter in module.named_parameters():
            expected = parameter.grad
            assert expected is not None, key
            difference = (vectorised[key][i] - expected).norm()
            assert difference <= 1e-9 * expected.norm() + 1e-12, key


@pytest.mark.parametrize("name", NETWORKS)
def test_an_output_does_not_depend_on_another_record(name: str) -> None:
    module, one, other = build(name), inputs(name), inputs(name, seed=4)
    # Record 0 stays, all others change.
    mixed = tuple(torch.cat([a[:1], b[1:]]) for a, b in zip(one, other, strict=True))
    before, after = module(*one), module(*mixed)
    torch.testing.assert_close(after[0], before[0], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(after[1], before[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_input_matters(name: str) -> None:
    module, one, other = build(name), inputs(name), inputs(name, seed=4)
    for k in range(len(one)):
        changed = [*one[:k], other[k], *one[k + 1 :]]
        assert not torch.allclose(module(*changed), module(*one)), NETWORKS[name].inputs[k]


@pytest.mark.parametrize("name", NETWORKS)
def test_registered_networks_keep_records_apart(name: str) -> None:
    module = NETWORKS[name].build(SHAPES.get(name, SHAPE), N_CLASSES)
    require_per_record(module)
    assert not [layer for layer in module.modules() if "BatchNorm" in type(layer).__name__]


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.BatchNorm3d(4).eval(),
        nn.SyncBatchNorm(4),
        nn.LazyBatchNorm2d(),
        nn.InstanceNorm2d(4, track_running_stats=True),
    ],
)
def test_layers_that_mix_records_are_refused_by_name(layer: nn.Module) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(layer))
    with pytest.raises(ValueError, match=f"{type(layer).__name__} at '1.0'.*GroupNorm"):
        require_per_record(module)


def test_layers_that_stay_inside_a_record_pass() -> None:
    require_per_record(
        nn.Sequential(
            nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.InstanceNorm2d(4), nn.Dropout(), nn.Linear(4, 4)
        )
    )


def test_the_top_level_itself_is_checked() -> None:
    with pytest.raises(ValueError, match="BatchNorm2d at 'the top level'"):
        require_per_record(nn.BatchNorm2d(4))


def losses(module: nn.Module) -> BatchedLoss:
    """The squares of what comes out, for one record and for many."""
    return BatchedLoss(
        module,
        lambda call, *record: call(*(t[None] for t in record)).square().sum(),
        lambda call, *records: call(*records).square().reshape(len(records[0]), -1).sum(1),
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("engine", ["vmap", "layers"])
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_the_clipped_sum_equals_a_loop_over_records(name: str, layout: str, engine: str) -> None:
    memory = torch.channels_last if layout == "channels last" else torch.contiguous_format
    module = build(name).to(memory_format=memory)
    records = tuple(t.contiguous(memory_format=memory) if t.ndim == 4 else t for t in inputs(name))
    parameters = {key: value.detach() for key, value in module.named_parameters()}
    loss = losses(module)
    assert engine_of(loss) == "layers"  # every network of ours is covered

    alone = []
    for i in range(N_RECORDS):
        module.zero_grad()
        module(*(t[i : i + 1] for t in records)).square().sum().backward()
        alone.append({key: p.grad.clone() for key, p in module.named_parameters()})
    norms = [sum(float(g.square().sum()) for g in record.values()) ** 0.5 for record in alone]
    clip_norm = sorted(norms)[N_RECORDS // 2]  # some records are clipped, some are not
    total = zero_sum(parameters)
    valid = torch.ones(N_RECORDS, dtype=torch.bool)
    asked = loss if engine == "layers" else lambda *given: loss(*given)
    add_clipped(total, asked, parameters, records, valid, clip_norm)
    for key, summed in total.items():
        factors = [min(1.0, clip_norm / MARGIN / norm) for norm in norms]
        looped = sum(f * record[key] for f, record in zip(factors, alone, strict=True))
        torch.testing.assert_close(summed, looped, rtol=1e-9, atol=1e-9 * clip_norm)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_single_precision_a_record_has_its_gradient_wherever_it_stands(name: str) -> None:
    """Bit by bit, whatever the others are; then a record that comes or goes changes no other's
    rounding. And its share of a sum keeps the bound, with the margin to spare."""
    module = build(name).float()
    parameters = {key: value.detach() for key, value in module.named_parameters()}
    records = tuple(t.float() if t.is_floating_point() else t for t in inputs(name))
    records = tuple(torch.cat([t, t.flip(0)]) for t in records)  # eight
    loss = losses(module)
    before = loss.gradients(parameters, *records)
    turn = torch.tensor([3, 1, 0, 6, 2, 7, 5, 4])
    turned = loss.gradients(parameters, *(t[turn] for t in records))
    spoilt = loss.gradients(parameters, records[0].index_fill(0, turn[:1], torch.nan), *records[1:])
    assert before is not None and turned is not None and spoilt is not None
    for key, value in before.items():
        assert torch.equal(turned[key], value[turn]), key
        assert torch.equal(spoilt[key][turn[1:]], value[turn[1:]]), key
    clip_norm = 0.01
    total = zero_sum(parameters)
    valid = torch.arange(8) == 2
    add_clipped(total, loss, parameters, records, valid, clip_norm)
    norm = sum(float(t.square().sum()) for t in total.values()) ** 0.5
    assert norm == pytest.approx(clip_norm / MARGIN, rel=1e-12)
