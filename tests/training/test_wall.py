"""Fits on released values are handed no key, no ledger and no records: not in an argument, nor in
anything that can be reached from one.
"""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from dpgen.data.private import PrivateDataset
from dpgen.images.images import Images
from dpgen.methods.dp_sad import DPSAD
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.noise import KEY_BYTES
from dpgen.runs.context import Hardware, Workplace
from dpgen.runs.folder import RunFolder
from dpgen.stages import classifier, labeller, sketch, teacher, votes
from dpgen.training.public_settings import PublicSettings
from tests.methods import test_dfkd, test_dgd, test_dpdfd, test_dpsd, test_m3d
from tests.methods.test_sketch import tiny

ROOT = Path(__file__).parents[2] / "dpgen"
# What answers for records: modules whose objects no free fit may have.
PRIVATE = (
    "dpgen.data.", "dpgen.privacy.lineage.", "dpgen.privacy.ledger.", "dpgen.runs.folder",
    "dpgen.privacy.mechanisms.noise", "dpgen.privacy.mechanisms.draws",
    "dpgen.privacy.mechanisms.noisy_ensemble",
)  # fmt: skip
# Free fits outside `training`.
FREE = (
    teacher._pretrain, sketch._fitted, sketch._trained, sketch._hidden, labeller.fit,
    DPSAD._distil, votes._chosen, votes._taught,
)  # fmt: skip
LEAVES = (type, ModuleType, torch.Tensor, str, int, float, logging.Logger)

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")


def _parts(one: object) -> Iterable[object]:
    """What an object holds on to; of a function what it closes over, not its module."""
    if isinstance(one, FunctionType):
        cells = [cell.cell_contents for cell in one.__closure__ or ()]
        return [*cells, one.__defaults__, one.__kwdefaults__, one.__dict__]
    if isinstance(one, FrameType):
        return one.f_locals.values()
    return gc.get_referents(one)


def private_among(values: Iterable[object]) -> Iterator[str]:
    """The private objects that can be reached from these, by type."""
    seen: dict[int, object] = {}
    todo = list(values)
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, LEAVES):
            continue
        seen[id(one)] = one
        home = type(one).__module__ + "."
        if home.startswith(PRIVATE) or type(one).__name__ == "Records":
            yield f"{type(one).__module__}.{type(one).__qualname__}"
        elif isinstance(one, bytes | bytearray) and len(one) == KEY_BYTES:
            yield "a key"
        else:
            todo += _parts(one)


class Watch:
    """Looks at what every free fit is handed, the first time that each is called."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.called: set[str] = set()
        self.found: dict[str, set[str]] = {}
        homes = [m for name, m in sys.modules.items() if name.startswith("dpgen.")]
        for function in _free_functions():
            watching = self._watching(function)
            owner, _, name = function.__qualname__.rpartition(".")
            if owner:
                patch.setattr(f"{function.__module__}.{owner}.{name}", watching)
            for home in homes:
                for own in [own for own, value in vars(home).items() if value is function]:
                    patch.setattr(home, own, watching)

    def _watching(self, function: Callable[..., Any]) -> Callable[..., Any]:
        name = f"{function.__module__.removeprefix('dpgen.')}.{function.__qualname__}"

        @wraps(function)
        def watching(*args: Any, **given: Any) -> Any:  # noqa: ANN401
            if name not in self.called:
                self.called.add(name)
                if found := set(private_among([*args, *given.values()])):
                    self.found[name] = found
            return function(*args, **given)

        return watching


def _free_functions() -> Iterator[Callable[..., Any]]:
    """Every function of `training`, and the free fits elsewhere."""
    for path in sorted((ROOT / "training").glob("[!_]*.py")):
        module = importlib.import_module(f"dpgen.training.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                yield value
    yield from FREE


def _distilled(untrained: Callable[..., Any]) -> DPSAD:
    public = PublicSettings(n_steps=2, batch_size=4)
    settings = {"residual": "off", "pretrain_steps": 2, "pretrain_batch": 4, "public": public}
    return untrained("dp-sad", **settings)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "method", ["dp-sad", "pge", "dpdfd", "dpdfd of moments", "dfkd", "m3d", "dpsd", "dgd"]
)
def test_no_free_fit_of_a_run_can_reach_a_key_a_ledger_or_a_record(
    method: str,
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    untrained: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    makers = {
        "dp-sad": lambda: _distilled(untrained), "pge": lambda: tiny("labelled"),
        "dpdfd": test_dpdfd.tiny, "m3d": test_m3d.tiny, "dpsd": test_dpsd.tiny,
        "dfkd": test_dfkd.tiny, "dgd": test_dgd.tiny,
        "dpdfd of moments": partial(test_dpdfd.tiny, "moments"),
    }  # fmt: skip
    generator = makers[method]()
    for module in (classifier, votes):
        monkeypatch.setattr(module, "features_for", partial(GaborFeatures, grid=2))
    watch = Watch(monkeypatch)
    start: dict[str, Any] = {}
    if method == "dp-sad":
        pixels = torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8)
        start["public"] = Images(pixels, torch.zeros(4).long())
    generator.fit(dataset(records), out=tmp_path / "run", seed=1, hardware=Hardware("cpu"), **start)
    expected = {
        "dp-sad": {
            "training.public_start.start_on_public", "stages.teacher._pretrain",
            "training.denoising.pretrain", "methods.dp_sad.DPSAD._distil",
            "training.distillation.draw_pairs", "training.distillation.distil",
        },
        "pge": {
            "stages.sketch._fitted", "stages.sketch._trained", "stages.sketch._hidden",
            "stages.labeller.fit", "training.matching.match", "training.refit.refit",
            "training.denoising.pretrain",
        },
        "dpdfd": {
            "training.data_free.refine", "training.data_free.descend",
            "training.data_free_losses._moments", "training.students.teach",
            "training.students.learn", "training.backdoor.suspicious",
            "training.backdoor.retrospection",
        },
        "dpdfd of moments": {
            "training.imitation.imitate", "training.imitation.class_means",
            "training.matching.match", "training.data_free.refine", "training.students.teach",
        },
        "dfkd": {
            "training.data_free.refine", "training.labelled.teach_labelled",
            "training.labelled.randomised", "training.labelled.learn",
            "training.randomised_response.respond",
        },
        "m3d": {"training.condensation.condense", "training.condensation.discrepancy"},
        "dpsd": {"stages.votes._chosen", "stages.votes._taught", "training.voted.learn"},
        "dgd": {
            "training.data_free.refine", "training.autoencoding.manifold",
            "training.autoencoding.fit", "training.voted.learn", "training.tangent.tangent",
            "training.tangent.normal", "stages.votes._taught",
        },
    }  # fmt: skip
    assert expected[method] <= watch.called
    assert watch.found == {}


def test_the_search_finds_what_is_hidden_in_closures_attributes_and_containers(
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
) -> None:
    keys, run = StageKeys(tmp_path / "keys"), RunFolder(tmp_path / "run", {})
    data = dataset(records)

    def closing() -> object:
        return keys

    work = Workplace(run.checkpoints, Hardware("cpu").accelerator(), None, 0, False)
    for hidden, kind in (
        (closing, "StageKeys"),
        (partial(print, [{"a": (keys,)}]), "StageKeys"),
        (keys.noise, "StageKeys"),
        (SimpleNamespace(inner=SimpleNamespace(run=run)), "RunFolder"),
        (partial(data.release, None), "PrivateDataset"),
        ((number for number in [data]), "PrivateDataset"),
        ({"raw": [records]}, "Records"),
        ([bytes(KEY_BYTES)], "a key"),
    ):
        assert any(kind in found for found in private_among([hidden])), kind
    assert list(private_among([work])) == []
    run.close()
