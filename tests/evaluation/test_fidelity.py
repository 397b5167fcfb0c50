from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dpgen._torchvision import repair
from dpgen.data.sources import read_images
from dpgen.evaluation import metrics
from dpgen.evaluation.extraction import extract, statistics
from dpgen.evaluation.feature_distances import density_coverage, frechet_distance
from dpgen.evaluation.features import Extracted
from dpgen.evaluation.fidelity import Fidelity, FidelityProtocol, fidelity
from dpgen.evaluation.inception import Inception
from dpgen.images.images import Images, to_float, to_uint8

pytestmark = pytest.mark.usefixtures("one_thread")

METRICS = tuple(name for name, row in metrics.METRICS.items() if row.of_features is not None)


class Projection:
    """A random linear map of the pixels: ten features, and five logits."""

    name = "projection"
    sha256 = "00"

    def __init__(self, n_pixels: int = 64) -> None:
        generator = torch.Generator().manual_seed(0)
        self.recipe: Mapping[str, Any] = {"resize": "none"}
        self.matrix = torch.randn(n_pixels, 15, generator=generator) / n_pixels**0.5
        self.seen: list[Tensor] = []

    def __call__(self, pixels: Tensor) -> Extracted:
        assert pixels.dtype == torch.uint8
        self.seen.append(pixels)
        found = to_float(pixels).flatten(1) @ self.matrix
        return Extracted(found[:, :10], 2 * found[:, 10:])


class Pixels(Dataset):
    """What torch-fidelity reads: uint8 tensors, one by one."""

    def __init__(self, images: Images) -> None:
        self.pixels = to_uint8(images.pixels)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index]


def by_torch_fidelity(synthetic: Images, reference: Images, **options: Any) -> dict[str, float]:  # noqa: ANN401
    """``torch_fidelity.calculate_metrics`` with the projection as its extractor."""
    repair()
    from torch_fidelity import calculate_metrics, register_feature_extractor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    class Extractor(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
            super().__init__(name, features_list)
            self.network = Projection()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            found = self.network(pixels)._asdict()
            return tuple(found[name] for name in self.features_list)

    register_feature_extractor("projection", Extractor)
    try:
        return calculate_metrics(
            input1=Pixels(synthetic),
            input2=Pixels(reference),
            feature_extractor="projection",
            isc=True,
            fid=True,
            kid=True,
            prc=True,
            cuda=False,
            cache=False,
            save_cpu_ram=True,
            verbose=False,
            **options,
        )
    finally:
        del FEATURE_EXTRACTORS_REGISTRY["projection"]


def noise(n: int, seed: int, channels: int = 1) -> Images:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(to_float(pixels), torch.arange(n) % 3)


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Images]:
    return read_images("digits", split="train"), read_images("digits", split="test")


def first(images: Images, n: int) -> Images:
    return Images(images.pixels[:n], images.labels[:n])


def shuffled_pixels(images: Images, seed: int) -> Images:
    """Every image with its own permutation of pixels: the same grey values, no digit."""
    generator = torch.Generator().manual_seed(seed)
    flat = images.pixels.flatten(1)
    order = torch.rand(flat.shape, generator=generator).argsort(dim=1)
    return Images(flat.gather(1, order).reshape(images.pixels.shape), images.labels)


def test_all_metrics_agree_with_torch_fidelity(digits: tuple[Images, Images]) -> None:
    # Equal numbers, so that all images are used for precision and recall, too.
    train, test = first(digits[0], 300), first(digits[1], 300)
    found = fidelity(train, test, Projection(), FidelityProtocol(kid_subset_size=200))
    expected = by_torch_fidelity(train, test, kid_subset_size=200)
    # Theirs is in float32, which keeps 6 to 7 digits of the traces and kernels that are subtracted.
    trace = statistics(extract(Projection(), to_uint8(test.pixels)).features).covariance.trace()
    assert found.values["fid"] == pytest.approx(
        expected["frechet_inception_distance"], abs=1e-5 * float(trace)
    )
    kid, spread = (expected[f"kernel_inception_distance_{part}"] for part in ("mean", "std"))
    assert found.values["kid"] == pytest.approx(kid, abs=1e-5)
    assert found.spreads["kid"] == pytest.approx(spread, abs=1e-5)
    assert found.values["score"] == pytest.approx(expected["inception_score_mean"], rel=1e-12)
    assert found.spreads["score"] == pytest.approx(expected["inception_score_std"], rel=1e-12)
    # A share of 300 images; a tie that rounds the other way would be 1 / 300.
    assert found.values["precision"] == pytest.approx(expected["precision"], abs=1e-6)
    assert found.values["recall"] == pytest.approx(expected["recall"], abs=1e-6)


def test_density_and_coverage_are_of_the_balls_of_the_reference(
    digits: tuple[Images, Images],
) -> None:
    train, test = first(digits[0], 200), first(digits[1], 200)
    of_train, of_test = (
        extract(Projection(), to_uint8(images.pixels)).features for images in (train, test)
    )
    values = fidelity(train, test, Projection()).values
    found = values["density"], values["coverage"]
    assert found == density_coverage(of_train, of_test, k=5)
    assert found != density_coverage(of_test, of_train, k=5)


def test_every_option_that_torch_fidelity_is_given_is_one_it_knows() -> None:
    # It takes a misspelt option for none and goes on with its default.
    repair()
    from torch_fidelity.defaults import DEFAULTS

    from dpgen.evaluation import feature_distances

    ours = {"kid_subsets", "kid_subset_size", "rng_seed", "verbose"}
    ours |= {"prc_neighborhood", "prc_batch_size", "save_cpu_ram"}
    assert ours <= DEFAULTS.keys()
    source = Path(feature_distances.__file__).read_text()
    assert all(f"{name}=" in source for name in ours)


def test_the_defaults_are_those_of_torch_fidelity() -> None:
    repair()
    from torch_fidelity.defaults import DEFAULTS

    protocol = FidelityProtocol().resolved(5000, 6000)
    assert protocol.n_kid_subsets == DEFAULTS["kid_subsets"]
    assert protocol.kid_subset_size == DEFAULTS["kid_subset_size"]
    assert protocol.n_score_parts == DEFAULTS["isc_splits"]
    assert protocol.n_neighbours_precision == DEFAULTS["prc_neighborhood"]
    assert protocol.seed == DEFAULTS["rng_seed"]


@pytest.mark.parametrize("n", [40, 400])
def test_subsets_of_small_sets_are_smaller_than_the_sets_so_that_kid_has_a_spread(n: int) -> None:
    protocol = FidelityProtocol(n_kid_subsets=20)
    assert protocol.resolved(n, n).kid_subset_size == n // 2
    found = fidelity(noise(n, 0), noise(n, 1), Projection(), protocol)
    # Of the whole set each time it would be a rounding error, 1e-16.
    assert found.spreads["kid"] > 1e-6


def test_a_mean_over_one_part_or_of_equal_subsets_has_no_spread() -> None:
    protocol = FidelityProtocol(n_kid_subsets=3, kid_subset_size=40, n_score_parts=1)
    found = fidelity(noise(40, 0), noise(40, 1), Projection(), protocol)
    assert {"kid", "score"} <= found.values.keys() and not {"kid", "score"} & found.spreads.keys()


def test_parts_of_the_inception_score_have_two_images_where_there_are_few() -> None:
    parts = [FidelityProtocol().resolved(n, 50).n_score_parts for n in (7, 10, 19, 20, 500)]
    assert parts == [3, 5, 9, 10, 10]


def test_fid_of_two_real_splits_is_its_finite_sample_expectation(
    digits: tuple[Images, Images],
) -> None:
    train, test = digits
    network, n = Projection(), len(test.pixels)
    found = fidelity(train, test, network, FidelityProtocol(n_synthetic=n)).values["fid"]
    pooled = extract(network, to_uint8(torch.cat([train.pixels, test.pixels]))).features.double()
    # Two random parts z, z' without a record in common, along the axes of the whole: to first order
    # E|m - m'|^2 = tr S 2/n, and sum_ij (S_n - S'_n)_ij^2 / (2 (l_i + l_j)) with
    # E (S_n - S'_n)_ij^2 = (E z_i^2 z_j^2 - S_ij^2) 2/n; of digits, not of Gaussians.
    values, axes = torch.linalg.eigh(pooled.T.cov())
    z = (pooled - pooled.mean(dim=0)) @ axes
    fourth = z.square().T @ z.square() / len(z)
    spread = (fourth - values.square().diag()) / (2 * (values[:, None] + values))
    expected = float(values.sum() + spread.sum()) * 2 / n
    generator = torch.Generator().manual_seed(0)
    splits = []
    for _ in range(200):
        a, b = torch.randperm(len(pooled), generator=generator)[: 2 * n].split(n)
        splits.append(frechet_distance(statistics(pooled[a]), statistics(pooled[b])))
    # The next order is smaller by D / n = 0.03; the split of the digits is one draw more.
    assert abs(np.mean(splits) - expected) < 0.03 * expected + 4 * np.std(splits) / 200**0.5
    assert abs(found - expected) < 4 * np.std(splits)
    assert np.std(splits) < expected / 2


def test_shuffled_pixels_are_far_worse_than_another_split(digits: tuple[Images, Images]) -> None:
    train, test = digits
    network, protocol = Projection(), FidelityProtocol(n_synthetic=360, kid_subset_size=100)
    real = fidelity(train, test, network, protocol)
    bad = fidelity(shuffled_pixels(train, 0), test, network, protocol)
    good, spread, bad = real.values, real.spreads["kid"], bad.values
    assert bad["fid"] > 10 * good["fid"]
    assert abs(good["kid"]) < 4 * spread and bad["kid"] > 10 * spread
    # Equal distributions: density 1, coverage 1 - 2^-5, up to a few times 360^(-1/2) = 0.05.
    assert abs(good["density"] - 1) < 0.2 and abs(good["coverage"] - (1 - 2**-5)) < 0.1
    assert bad["coverage"] < 0.5 * good["coverage"] and bad["precision"] < good["precision"] - 0.2


def test_identical_sets_are_at_distance_zero() -> None:
    images = noise(100, 0)
    found = fidelity(images, images, Projection(), FidelityProtocol(n_kid_subsets=2))
    assert abs(found.values["fid"]) < 1e-6
    assert found.values["precision"] == found.values["recall"] == found.values["coverage"] == 1
    # The unbiased estimator leaves out the diagonal: of equal sets it is negative.
    assert found.values["kid"] < 0


@pytest.mark.parametrize(
    ("option", "must", "may"),
    [
        ({"n_synthetic": 100}, {"fid", "kid", "score", "density"}, set(METRICS)),
        ({"n_reference": 100}, {"fid", "kid", "density"}, set(METRICS) - {"score"}),
        ({"n_neighbour_images": 60}, {"precision", "density"}, {"recall", "coverage"}),
        ({"n_score_parts": 4}, {"score"}, set()),
        ({"n_kid_subsets": 7}, {"kid"}, set()),
        ({"kid_subset_size": 30}, {"kid"}, set()),
        ({"n_neighbours_precision": 6}, {"precision", "recall"}, set()),
        ({"n_neighbours_density": 2}, {"density", "coverage"}, set()),
        ({"seed": 1}, {"kid", "score", "precision"}, {"density", "coverage", "recall"}),
    ],
)
def test_every_option_changes_its_metrics_and_no_other(
    option: dict[str, int], must: set[str], may: set[str]
) -> None:
    usual = FidelityProtocol(n_kid_subsets=5, kid_subset_size=80, n_neighbour_images=90)
    ours, real = noise(150, 0), shuffled_pixels(noise(130, 1), 2)
    before, after = (
        fidelity(ours, real, Projection(), protocol)
        for protocol in (usual, replace(usual, **option))
    )
    differ = {name for name in METRICS if before.values[name] != after.values[name]}
    # Shares of 90 images may agree by chance; a metric that an option has no part in never differs.
    assert must <= differ <= must | may


def test_images_are_drawn_not_taken_from_the_front() -> None:
    # Sets come sorted by class: their first images are all of one.
    pixels = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    images = Images(to_float(pixels), torch.zeros(200, dtype=torch.int64))

    def drawn(seed: int) -> list[int]:
        network = Projection()
        protocol = FidelityProtocol(n_synthetic=60, n_reference=50, seed=seed)
        fidelity(images, noise(80, 0), network, protocol)
        return torch.cat(network.seen)[50:, 0, 0, 0].tolist()

    assert len(set(drawn(0))) == 60 and drawn(0) == sorted(drawn(0))
    assert max(drawn(0)) > 150 and drawn(0) != drawn(1)


def test_the_draws_of_both_sides_are_apart() -> None:
    network, images = Projection(), noise(200, 0)
    fidelity(images, images, network, FidelityProtocol(n_synthetic=60, n_reference=60))
    real, ours = network.seen
    shared = (real[:, None] == ours).flatten(2).all(dim=2).sum()
    # 60 of 200 drawn twice share 18 on average, with a standard deviation of 3.0.
    assert abs(int(shared) - 18) <= 12


@pytest.mark.parametrize(("n_synthetic", "n_reference"), [(53, 97), (97, 53)])
def test_shares_are_of_equally_many_images_of_both_sides(
    n_synthetic: int, n_reference: int
) -> None:
    found = fidelity(noise(n_synthetic, 0), noise(n_reference, 1), Projection())
    # A share of 97 images is no multiple of 1 / 53, unless it is 0 or 1.
    for share in (found.values["precision"], found.values["recall"], found.values["coverage"]):
        assert 0 < share < 1 and share * 53 == pytest.approx(round(share * 53), abs=1e-4)


def test_images_pass_through_uint8_first() -> None:
    network, real = Projection(), noise(60, 1)
    exact = noise(50, 0)
    between = Images(exact.pixels + 0.4 / 127.5, exact.labels)
    protocol = FidelityProtocol(n_kid_subsets=2)
    assert fidelity(between, real, network, protocol) == fidelity(exact, real, network, protocol)
    with pytest.raises(ValueError, match="finite"):
        fidelity(Images(exact.pixels / 0, exact.labels), real, network, protocol)


def test_labels_are_not_looked_at_and_random_states_left_alone() -> None:
    ours, real, network = noise(50, 0), noise(60, 1), Projection()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    found = fidelity(ours, real, network)
    assert fidelity(Images(ours.pixels, ours.labels.flip(0)), real, network) == found
    assert torch.get_rng_state().equal(before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_the_cache_changes_no_number(tmp_path: Path) -> None:
    ours, real = noise(150, 0), noise(130, 1)
    direct = fidelity(ours, real, Projection())
    first_time = fidelity(ours, real, Projection(), cache=tmp_path)
    network = Projection()
    second_time = fidelity(ours, real, network, cache=tmp_path)
    assert direct == first_time == second_time
    assert torch.cat(network.seen).equal(to_uint8(ours.pixels))


def result(**changes: Any) -> Fidelity:  # noqa: ANN401
    found = fidelity(noise(50, 0), noise(60, 1), Projection(), FidelityProtocol(n_kid_subsets=2))
    return replace(found, **changes)


def test_names_of_metrics_carry_the_network() -> None:
    other = result()
    assert set(other.metrics()) == {f"projection_{name}" for name in METRICS}
    assert other.metrics()["projection_fid"] == other.values["fid"]
    published = result(network="inception").metrics()
    assert set(published) == {"inception_score", *METRICS} - {"score"}
    assert published["inception_score"] == other.values["score"]
    assert set(result(network="classifier").metrics()).isdisjoint(published)


def test_only_inception_may_be_called_inception() -> None:
    network = Projection()
    network.name = Inception.name
    with pytest.raises(ValueError, match="must not be called 'inception'"):
        fidelity(noise(50, 0), noise(60, 1), network)
    network.name = "my net"
    with pytest.raises(ValueError, match="name of letters, got 'my net'"):
        fidelity(noise(50, 0), noise(60, 1), network)


def test_a_result_holds_everything_it_depends_on() -> None:
    found = fidelity(noise(50, 0), noise(60, 1), Projection()).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["network"] == {
        "name": "projection",
        "sha256": "00",
        "n_features": 10,
        "recipe": {"resize": "none"},
    }
    assert found["protocol"] == {
        "reference_split": "test",
        "n_synthetic": 50,
        "n_reference": 60,
        "n_neighbour_images": 50,
        "n_score_parts": 10,
        "n_kid_subsets": 100,
        "kid_subset_size": 25,
        "n_neighbours_precision": 3,
        "n_neighbours_density": 5,
        "seed": 2020,
        "quantisation": "uint8, round((x + 1) * 127.5), clipped",
    }


@pytest.mark.parametrize(
    ("split", "said", "private"),
    [
        ("test", False, False),
        ("test", True, True),
        ("train", False, True),
        ("all", False, True),
    ],
)
def test_what_a_generator_learned_from_makes_a_result_private(
    split: str, said: bool, private: bool
) -> None:
    protocol = FidelityProtocol(reference_split=split, n_kid_subsets=2)  # type: ignore[arg-type]
    ours, real, network = noise(50, 0), noise(60, 1), Projection()
    assert fidelity(ours, real, network, protocol, private=said).private is private
    assert fidelity(ours, real, network, protocol).private, "private unless said otherwise"


@pytest.mark.parametrize(
    ("synthetic", "reference", "protocol", "message"),
    [
        (1, 60, {}, "n_synthetic must be at least 2 for a covariance, got 1"),
        (0, 60, {}, "n_synthetic must be at least 2 for a covariance, got 0"),
        (60, 1, {}, "n_reference must be at least 2 for a covariance, got 1"),
        (60, 50, {"n_reference": 51}, "n_reference must be at most 50, .* got 51: ask for fewer"),
        (40, 50, {"n_synthetic": 41}, "n_synthetic must be at most 40, .* got 41: ask for fewer"),
        (60, 50, {"kid_subset_size": 51}, "kid_subset_size must be at most 50, .* 51: give more"),
        (5, 30, {}, "need at least 6 images of each side, got 5 synthetic and 30 real"),
        (9, 50, {"n_score_parts": 10}, "n_score_parts must be at most 9, .* got 10: give more"),
        (
            20,
            30,
            {"n_neighbours_precision": 20},
            "n_neighbours_precision must be at most 19, .* got 20: give more",
        ),
        (
            40,
            30,
            {"n_neighbour_images": 10, "n_neighbours_density": 10},
            "n_neighbours_density must be at most 9, .* got 10: give more",
        ),
    ],
)
def test_too_few_images_for_a_metric_are_refused_before_any_work(
    synthetic: int, reference: int, protocol: dict[str, int], message: str
) -> None:
    network = Projection()
    with pytest.raises(ValueError, match=message):
        fidelity(noise(synthetic, 0), noise(reference, 1), network, FidelityProtocol(**protocol))
    assert not network.seen


def test_the_fewest_images_that_a_protocol_allows_are_enough() -> None:
    protocol = FidelityProtocol(
        n_score_parts=2, kid_subset_size=2, n_neighbours_precision=1, n_neighbours_density=1
    )
    found = fidelity(noise(2, 0), noise(2, 1), Projection(), protocol)
    assert all(np.isfinite(value) for value in found.metrics().values())
    found = fidelity(noise(6, 0), noise(6, 1), Projection())
    assert all(np.isfinite(value) for value in found.metrics().values())


def test_unlike_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 8, 8\), got \(3, 8, 8\): resize or convert"):
        fidelity(noise(50, 0, channels=3), noise(60, 1), Projection())
    two = Images(torch.zeros(50, 2, 8, 8), torch.zeros(50, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"synthetic must have .* got \(50, 2, 8, 8\)"):
        fidelity(two, two, Projection())
    flat = Images(torch.zeros(50, 64), torch.zeros(50, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"reference must have .* got \(50, 64\)"):
        fidelity(noise(50, 0), flat, Projection())


@pytest.mark.parametrize(
    "option",
    [
        {"n_synthetic": 1},
        {"n_reference": 1},
        {"n_neighbour_images": 1},
        {"n_score_parts": 0},
        {"n_kid_subsets": 0},
        {"kid_subset_size": 1},
        {"n_neighbours_precision": 0},
        {"n_neighbours_density": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"n_kid_subsets": 2.0},
        {"n_score_parts": True},
        {"n_neighbour_images": None},
        {"reference_split": "validation"},
    ],
    ids=str,
)
def test_a_protocol_of_senseless_numbers_cannot_be_made(option: dict[str, Any]) -> None:
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"{name} must be .* got {value!r}"):
        FidelityProtocol(**option)
