from __future__ import annotations

from typing import Any

import pytest
import torch

from dpgen.data.sources import read_images
from dpgen.evaluation import features
from dpgen.evaluation import utility as utility_module
from dpgen.evaluation.comparison import ComparedFeatures, ComparedImages, Value
from dpgen.evaluation.evaluation import Protocol, evaluate
from dpgen.evaluation.fidelity import FidelityProtocol, fidelity
from dpgen.evaluation.metrics import METRICS, Metric, Row, ordered
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.images.images import Images
from tests.evaluation.test_fidelity import Projection

pytestmark = pytest.mark.usefixtures("one_thread")


def digits(split: str, n: int) -> Images:
    images = read_images("digits", split=split)  # type: ignore[arg-type]
    return Images(images.pixels[:n], images.labels[:n])


PROTOCOL = Protocol(FidelityProtocol(n_kid_subsets=3), ("logistic",), (0, 1))


def test_evaluate_gives_what_fidelity_and_utility_give_alone() -> None:
    ours, real, test = digits("train", 120), digits("test", 150), digits("test", 90)
    both = evaluate(
        {"a": ours, "b": real}, real, PROTOCOL, n_classes=10, test=test, network=Projection()
    )
    one = both["a"]
    assert one.fidelity == fidelity(ours, real, Projection(), PROTOCOL.fidelity)
    recipe = UtilityProtocol.of("logistic")
    assert one.utilities == {
        "logistic": tuple(utility(ours, test, 10, seed=k, protocol=recipe) for k in (0, 1))
    }
    assert one.n_images == 120 and both["b"].n_images == 150
    assert one.metrics["projection_fid"].mean == one.fidelity.values["fid"]  # type: ignore[union-attr]
    assert one.metrics["accuracy_logistic"].values == tuple(
        u.accuracy for u in one.utilities["logistic"]
    )


def test_the_classifier_of_features_is_not_trained_again_on_the_images_it_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kind in ("cnn", "logistic"):
        monkeypatch.setitem(utility_module.FEW, kind, {"n_steps": 4, "batch_size": 16})
    monkeypatch.setattr(features, "OF_FEW", UtilityProtocol.of("cnn", 1))
    learned, test = digits("train", 50), digits("test", 40)
    network = features.classifier_features(learned, 10)
    others = Images(learned.pixels, (learned.labels + 1) % 10)
    sets = {"learned": learned, "other labels": others, "fewer": digits("train", 49)}
    protocol = Protocol(FidelityProtocol(n_kid_subsets=3), ("cnn", "logistic"), (0, 1), 50)
    trained, train = [], utility_module.train_classifier

    def counted(images: Images, *args: Any, label: str, **kwargs: Any) -> Any:  # noqa: ANN401
        trained.append(label)
        return train(images, *args, label=label, **kwargs)

    monkeypatch.setattr(utility_module, "train_classifier", counted)
    found = evaluate(sets, test, protocol, n_classes=10, network=network)
    assert trained[0] == "classifier 1 of 11, cnn"
    assert trained[-1] == "classifier 11 of 11, logistic"
    alone = evaluate(sets, test, protocol, n_classes=10)
    assert len(trained) == 11 + 12
    assert {k: one.utilities for k, one in found.items()} == {
        k: one.utilities for k, one in alone.items()
    }


def test_without_a_network_there_is_no_fidelity_and_images_are_still_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(both: ComparedImages) -> Value:
        """Share of classes that the set does not have; pixels are as in a file."""
        pixels = (both.synthetic.pixels + 1) * 127.5
        assert torch.allclose(pixels, pixels.round(), atol=1e-3)
        return Value(1 - len(both.synthetic.labels.unique()) / both.n_classes)

    monkeypatch.setitem(METRICS, "missing", Row("missing classes", "low", of_images=missing))
    real = digits("test", 60)
    half = Images(real.pixels * 0.999, real.labels % 5)
    found = evaluate({"a": half}, real, Protocol(networks=()), n_classes=10)["a"]
    assert found.fidelity is None
    assert {name: e.mean for name, e in found.metrics.items()} == {"missing": 0.5}
    assert Metric("missing").heading == "missing classes ↓"


def test_a_row_of_features_is_measured_named_and_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    def spread(both: ComparedFeatures) -> Value:
        return Value(float(both.synthetic.std()), 0.25)

    monkeypatch.setitem(METRICS, "spread", Row("feature spread", "high", spread))
    found = fidelity(digits("train", 60), digits("test", 60), Projection(), PROTOCOL.fidelity)
    assert found.metrics()["projection_spread"] == found.values["spread"] > 0
    assert found.to_dict()["spread_std"] == 0.25
    assert Metric("classifier_spread").heading == "classifier feature spread ↑"
    names = [m.name for m in ordered(["zeta", "spread", "coverage"])]
    assert names == ["coverage", "spread", "zeta"]


def test_a_metric_has_one_function() -> None:
    with pytest.raises(ValueError, match="'x' must have one function"):
        Row("x", "high")
