"""`mix`: the images of all sets, in order, under the statement of all of them together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen.data.export import write_images
from dpgen.data.sources import read_images
from dpgen.images.images import Images
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.certificate import CertificateError, read_statement, tree_hash
from dpgen.privacy.statements.statement import inherited, statement_of
from dpgen.privacy.verification.verify import verify
from dpgen.stages.moments import ClassMeans
from dpgen.synthetic.mix import mix
from tests.relations import ADD_REMOVE

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def drawn(
    dataset: Callable[..., Any], records: Any, tmp_path: Path  # noqa: ANN401
) -> Callable[..., Path]:
    """A set of noise, as if drawn from a run that released class means; runs share a ledger."""

    def make(name: str, n: int = 5, **given: Any) -> Path:  # noqa: ANN401
        data = dataset(records)
        data.open_ledger(data.limit or given.pop("limit"), tmp_path)
        means = ClassMeans((1, 8, 8), 3, centre=0.0, radius=8.0, count_weight=1.0)
        stage = Stage("means", NoisySum(means, 20.0))
        data.begin(name, StageKeys(tmp_path / f"{name}-keys"), Plan((stage,), ADD_REMOVE))
        data.release(stage.mechanism, label="means")
        parent = statement_of(
            "model",
            lines=data.ledger.lines_of(name),
            delta=1e-3,
            mechanism={"id": "x/y", "stages": {"means": stage.mechanism.settings}},
            files={},
            data_set=data.account(),
        )
        names, side = given.get("names", ("a", "b", "c")), given.get("side", 8)
        pixels = torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(len(name)))
        return write_images(
            [Images(pixels, torch.arange(n) % len(names))], tmp_path / name, format="npz",
            n_images=n, class_names=names,
            certificate=lambda made: inherited(parent, files=tree_hash(made), synthetic={}),
        )  # fmt: skip

    return make


@pytest.fixture
def sets(drawn: Callable[..., Path]) -> tuple[Path, Path]:
    from dpgen.privacy.accounting.accountant import Budget

    return drawn("one", limit=Budget(9.0, 1e-3)), drawn("second", 4, limit=Budget(9.0, 1e-3))


@pytest.mark.parametrize("layout", ["npz", "folder", "webdataset"])
def test_a_mixture_holds_all_images_and_what_all_runs_spent(
    layout: str, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    statement = mix(sets, tmp_path / "mixed", layout=layout)
    assert statement == read_statement(tmp_path / "mixed")
    assert not any(check.failed for check in verify(tmp_path / "mixed"))
    parts = [read_images(path) for path in sets]
    whole = read_images(tmp_path / "mixed")
    expected = torch.cat([part.pixels for part in parts])
    if layout == "folder":  # ordered by class
        assert sorted(map(float, whole.pixels.sum((1, 2, 3)))) == pytest.approx(
            sorted(map(float, expected.sum((1, 2, 3))))
        )
    else:
        assert torch.equal(whole.pixels, expected)
        assert whole.labels.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0]
    alone = [read_statement(path)["guarantee"]["epsilon"] for path in sets]
    assert max(alone) < statement["guarantee"]["epsilon"] < sum(alone)
    assert statement["synthetic_dataset"] == {"samples": 9, "sizes": [5, 4], "format": layout}
    assert (len(statement["data_sets"]), statement["mixture"]["rule"]) == (1, "composition")


def test_what_cannot_be_mixed_is_refused_and_nothing_is_written(
    drawn: Callable[..., Path], sets: tuple[Path, Path], tmp_path: Path
) -> None:
    from dpgen.privacy.accounting.accountant import Budget

    out, limit = tmp_path / "mixed", Budget(9.0, 1e-3)
    one, two = sets
    refused = [
        ((one,), ValueError, "at least 2 sets, got 1"),
        ((one, one), ValueError, "one is named twice"),
        ((one, drawn("large", side=10, limit=limit)), ValueError, "must have one shape"),
        ((one, drawn("others", names=("a", "b"), limit=limit)), ValueError, "one class_names"),
        ((one, tmp_path / "home"), CertificateError, "no privacy.json"),
    ]
    for given, kind, words in refused:
        with pytest.raises(kind, match=words):
            mix(given, out)
    images = next(two.glob("*.npz"))
    images.write_bytes(images.read_bytes() + b" ")
    with pytest.raises(CertificateError, match=r"does not hold \(files\): it is not mixed"):
        mix(sets, out)
    assert not out.exists() and not list(tmp_path.glob(".mixed*"))
