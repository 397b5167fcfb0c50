"""Feature networks of the user's own: small files that the tests make."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dpgen.evaluation.extraction import reference_statistics
from dpgen.evaluation.feature_networks import feature_network
from dpgen.evaluation.fidelity import fidelity
from dpgen.evaluation.fidelity_protocol import FidelityProtocol
from dpgen.evaluation.metrics import Metric, ordered
from dpgen.evaluation.own_features import OwnFeatures
from dpgen.images.images import Images, to_float

pytestmark = pytest.mark.usefixtures("one_thread")


class Means(nn.Module):
    """Means of the rows and the channels: (B, 3 + 3 H)."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.mean((2, 3)), images.mean(3).flatten(1)], dim=1)


class Weighted(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images.mean((2, 3))


class Noisy(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) + torch.rand(images.shape[0], 3)


class Unpooled(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images * 2


def script(path: Path, module: nn.Module, size: int = 8) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval(), torch.rand(2, 3, size, size), check_trace=False)
        traced.save(str(path))
    return path


def pixels(n: int, channels: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, 8, 8), generator=generator, dtype=torch.uint8)


def load(path: Path, **how: Any) -> OwnFeatures:  # noqa: ANN401
    def unread() -> Images:
        raise AssertionError("a network of the user's own learns from no record")

    found = feature_network(str(path), unread, 2, **how)
    assert isinstance(found, OwnFeatures)
    return found


def test_a_script_sees_images_in_the_range_that_is_stated(tmp_path: Path) -> None:
    path, images = script(tmp_path / "means.pt", Means()), pixels(5)
    found = load(path)(images)
    means = images.float().mean((2, 3)) / 255
    assert found.features.shape == (5, 27) and found.logits.shape == (5, 0)
    assert torch.allclose(found.features[:, :3], means.expand(-1, 3), atol=1e-6)
    other = load(path, value_range=(-1.0, 1.0))(images)
    assert torch.allclose(other.features[:, :3], 2 * means.expand(-1, 3) - 1, atol=1e-6)
    colour = pixels(5, 3)
    by_channel = load(path)(colour).features[:, :3]
    assert torch.allclose(by_channel, colour.float().mean((2, 3)) / 255, atol=1e-6)


def test_a_script_is_given_the_size_that_is_asked_for(tmp_path: Path) -> None:
    path = script(tmp_path / "means.pt", Means(), size=16)
    found = load(path, size=16)
    assert found(pixels(2)).features.shape == (2, 3 + 3 * 16)
    assert found.recipe["resize"] == "16x16, bicubic, antialiased"
    white = torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)
    assert found(white).features.max() <= 1


def test_the_hash_covers_the_file_and_how_images_are_read(tmp_path: Path) -> None:
    path, other = script(tmp_path / "a.pt", Weighted(1.0)), script(tmp_path / "b.pt", Weighted(2.0))
    copy = tmp_path / "folder" / "a.pt"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    networks = [
        load(path), load(other), load(path, value_range=(-1.0, 1.0)), load(path, size=4),
    ]  # fmt: skip
    assert len({network.sha256 for network in networks}) == 4
    assert load(copy).sha256 == networks[0].sha256
    assert networks[0].recipe["file"] == "a.pt" and networks[0].recipe["values"] == "0 to 1"


def test_features_of_a_reference_are_kept_by_the_hash_of_the_file(tmp_path: Path) -> None:
    images, cache = pixels(6), tmp_path / "cache"
    path = script(tmp_path / "net.pt", Weighted(1.0))
    before = reference_statistics(load(path), images, cache=cache)
    assert len(list(cache.iterdir())) == 1
    script(path, Weighted(3.0))  # under the same name
    after = reference_statistics(load(path), images, cache=cache)
    assert torch.allclose(after.features, 3 * before.features)
    assert len(list(cache.iterdir())) == 2
    again = reference_statistics(load(path), images, cache=cache)
    assert again.features.equal(after.features)


def test_metrics_are_named_after_the_file_and_a_score_of_classes_is_left_out(
    tmp_path: Path,
) -> None:
    network = load(script(tmp_path / "my net-2.pt", Means()))
    real, ours = (Images(to_float(pixels(40, seed=s)), torch.zeros(40).long()) for s in (0, 1))
    found = fidelity(ours, real, network, FidelityProtocol(n_kid_subsets=2))
    names = {f"custom_my_net_2_{x}" for x in ("fid", "kid", "precision", "recall", "density",
                                              "coverage")}  # fmt: skip
    assert set(found.metrics()) == names
    stated = found.to_dict()["network"]
    assert stated["name"] == "custom_my_net_2" and stated["sha256"] == network.sha256
    assert stated["recipe"]["file"] == "my net-2.pt"
    metric = Metric("custom_my_net_2_fid")
    assert (metric.title, metric.better) == ("custom my net 2 FID", "low")
    mixed = ["accuracy_cnn", "custom_a_recall", "custom_a_fid", "custom_a_kid", "fid"]
    assert [m.name for m in ordered(mixed)] == [
        "fid", "custom_a_fid", "accuracy_cnn", "custom_a_kid", "custom_a_recall",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["inception", "classifier", "accuracy", "7 b"])
def test_no_file_passes_for_a_network_that_is_known(name: str, tmp_path: Path) -> None:
    network = load(script(tmp_path / f"{name}.pt", Means()))
    assert network.name.startswith("custom_") and network.name.isidentifier()
    assert Metric(f"{network.name}_fid").better == "low"


def test_a_file_that_cannot_serve_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "no.pt").write_bytes(b"no script")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "weights.pt")
    for name in ("no.pt", "weights.pt"):
        with pytest.raises(ValueError, match=r"must be a TorchScript file .*torch\.jit\.trace"):
            load(tmp_path / name)
    with pytest.raises(ValueError, match="nowhere.pt, which is not there"):
        load(tmp_path / "nowhere.pt")
    path = script(tmp_path / "means.pt", Means())
    with pytest.raises(ValueError, match="LOW < HIGH, got 1.0,0.0"):
        load(path, value_range=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"features \(N, D\), a row an image, got \(2, 3, 8, 8\)"):
        load(script(tmp_path / "map.pt", Unpooled()))(pixels(2))
    with pytest.raises(ValueError, match=r"two different answers: save it in evaluation mode"):
        load(script(tmp_path / "noisy.pt", Noisy()))(pixels(2))
    with pytest.raises(ValueError, match=r"failed on images of shape \(2, 3, 8, 8\).*-size"):
        load(script(tmp_path / "linear.pt", nn.Sequential(nn.Flatten(), nn.Linear(27, 4)), 3))(
            pixels(2)
        )
    with pytest.raises(ValueError, match="are for a TorchScript file, got --features inception"):
        feature_network("inception", lambda: None, 2, size=3)  # type: ignore[arg-type, return-value]


CONFIG = {
    "architecture": "toy", "num_classes": 4, "model_args": {"width": 5},
    "pretrained_cfg": {"input_size": [3, 4, 4], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]},
}  # fmt: skip


class Toy(nn.Module):
    """What timm's models are to us: features, and a head that can be taken away."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, width), nn.Linear(width, num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        assert num_classes == 0
        self.head = nn.Identity()  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 4, 4)
        found: Tensor = self.head(self.body(images.mean((2, 3))))
        return found


def make_toy(name: str, *, pretrained: bool, num_classes: int, **more: int) -> Toy:
    assert name == "toy" and not pretrained
    return Toy(num_classes=num_classes, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "toy-model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(0)
    save_file(Toy(5, 4).state_dict(), path / "model.safetensors")
    return path


def test_a_timm_folder_is_loaded_with_its_own_weights_size_and_values(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=make_toy))
    network, images = load(folder), pixels(3, 3)
    assert network.name == "custom_toy_model"
    assert network.recipe["architecture"] == "toy" and "4x4" in network.recipe["resize"]
    torch.manual_seed(0)
    body = Toy(5, 4).body
    shrunk = nn.functional.interpolate(
        images.float() / 255, (4, 4), mode="bicubic", antialias=True
    ).clamp(0, 1)
    scaled = (shrunk.mean((2, 3)) - 0.5) / torch.tensor([0.5, 0.25, 0.5])
    assert torch.allclose(network(images).features, body(scaled), atol=1e-5)
    before = network.sha256
    state = Toy(5, 4).state_dict()
    save_file(state, folder / "model.safetensors")
    assert load(folder).sha256 != before
    del state["head.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"is not what its config.json says"):
        load(folder)


def test_a_transformers_folder_gives_the_class_token_and_refuses_weights_that_are_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: list[str] = ["pooler.dense.weight"]

    class Model(nn.Module):
        def forward(self, pixel_values: Tensor) -> SimpleNamespace:
            token = pixel_values.mean((2, 3))
            return SimpleNamespace(last_hidden_state=torch.stack([token, token * 0], dim=1))

    class AutoModel:
        @staticmethod
        def from_pretrained(path: str, **how: object) -> tuple[nn.Module, dict[str, Any]]:
            assert how["local_files_only"] and not how["trust_remote_code"]
            assert path == str(folder)
            return Model(), {"missing_keys": missing}

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoModel=AutoModel))
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    with pytest.raises(ValueError, match="must have preprocessor_config.json"):
        load(folder)
    reading = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 2.0],
               "size": {"shortest_edge": 9}, "crop_size": {"height": 8, "width": 8}}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(reading))
    images = pixels(3, 3)
    expected = images.float().mean((2, 3)) / 255 / torch.tensor([1.0, 1.0, 2.0])
    assert torch.allclose(load(folder)(images).features, expected, atol=1e-5)
    missing.append("encoder.layer.0.weight")
    with pytest.raises(ValueError, match=r"lacks weights of the model: encoder\.layer\.0"):
        load(folder)


@pytest.mark.parametrize(
    ("config", "package"), [(CONFIG, "timm"), ({"model_type": "dinov2"}, "transformers")]
)
def test_a_package_that_is_missing_is_named_with_the_cure(
    config: dict[str, Any], package: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"not installed: pip install {package}"):
        load(folder)


def test_a_folder_that_is_no_model_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="are for a TorchScript file: the folder"):
        load(folder, size=3)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="names neither"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"and lacks model\.safetensors"):
        load(folder)
