"""`sample --fair`: a set says of its labels what they are, and so do parts and mixtures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen import FairClasses, load
from dpgen.data.sources import open_source
from dpgen.generator.fitted import Fitted
from dpgen.privacy.statements import statement as statements
from dpgen.privacy.statements.certificate import (
    LARGEST_STATEMENT,
    CertificateError,
    statement_bytes,
)
from dpgen.privacy.verification.verify import verify
from dpgen.release.cards import cards_check, write_cards
from dpgen.synthetic import synthesise as synthesising
from dpgen.synthetic.join import join
from dpgen.synthetic.labels import labels_checks
from dpgen.synthetic.mix import mix
from dpgen.synthetic.part import Share
from dpgen.synthetic.synthesise import synthesise
from tests.commands import dpgen
from tests.images.test_fair_classes import CLASSES, LINES
from tests.synthetic.test_join import sealed, tree

pytestmark = pytest.mark.usefixtures("one_thread")
FOLLOW = "the counts do not follow from what is said of them"
EQUAL = FairClasses(CLASSES)
FEW_ILL = FairClasses(CLASSES, {"ill": 1, "well": 3}, {"f": 1, "m": 3})


def counts_of(folder: Path) -> dict[str, int]:
    source = open_source(folder)
    _, labels = source.read(range(len(source)))
    found = torch.bincount(labels, minlength=len(source.class_names)).tolist()
    return dict(zip(source.class_names, found, strict=True))


def changed(folder: Path, change_fn: Callable[[dict[str, Any]], object]) -> None:
    """Changes what a statement says of its set, and seals it and makes its pages again."""
    content = json.loads((folder / "privacy.json").read_text())
    change_fn(content["synthetic_dataset"])
    (folder / "privacy.json").write_bytes(statement_bytes(sealed(content)))


@pytest.fixture
def drawn(grouped_run: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, n: int | None = 40, **given: Any) -> Path:  # noqa: ANN401
        synthesise(grouped_run, n, tmp_path / name, layout="npz", **{"seed": 1} | given)
        return tmp_path / name

    return make


def test_the_command_draws_what_it_states_and_the_guarantee_stays(
    grouped_run: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "fair.toml", tmp_path / "set"
    file.write_text(f"[classes]\n{LINES}[targets]\nill = 3\nwell = 1\n")
    common = ("--seed", 2, "--format", "npz", "-q", "--device", "cpu")
    told = dpgen("sample", grouped_run, "-n", 42, "--fair", file, "--out", out, *common)
    assert told.exit_code == 0, told.stderr
    assert "every group has the same shares of targets." in told.stdout
    assert f"--reference digits --fair {file}" in told.stderr
    expected = {"ill_f": 16, "ill_m": 16, "well_f": 5, "well_m": 5}
    assert counts_of(out) == expected
    ours, model = (json.loads((at / "privacy.json").read_text()) for at in (out, grouped_run))
    assert ours["guarantee"] == model["guarantee"]
    table = ours["synthetic_dataset"]["fair"]
    assert (table["counts"], table["parity_gap"]) == (expected, 0)
    assert table["targets"] == {"by": "given", "weights": {"ill": 3, "well": 1}}
    assert table["groups"] == {"by": "uniform", "weights": {"f": 1, "m": 1}}
    assert ours["synthetic_dataset"]["labels"].startswith("fair: 16 of ill_f, 16 of ill_m")
    checked = dpgen("verify", out, "--model", grouped_run)
    assert checked.exit_code == 0
    assert "ok      fair labels: 42 labels as stated, the same shares" in checked.stdout
    for page in ("README.md", "RELEASE.md"):
        words = (out / page).read_text()
        assert "Images by group: 21 of `f`, 21 of `m`" in words
        assert "Shares of targets were chosen by whoever" in words and "groups are equal" in words
    listed = ",".join(f"{name}={count}" for name, count in expected.items())
    dpgen("sample", grouped_run, "--labels", listed, "--out", tmp_path / "listed", *common)
    assert tree(tmp_path / "listed").keys() == tree(out).keys()
    images = [name for name in tree(out) if name.endswith(".npz")]
    assert all(tree(tmp_path / "listed")[name] == tree(out)[name] for name in images)
    python = load(grouped_run).sample(42, fair=file, seed=2)
    assert torch.equal(python.labels, open_source(out).read(range(42))[1])


def test_released_marginals_are_stated_and_computed_again(
    drawn: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those of the run have secret noise: now and then all classes of a group are released as 0.
    shares = dict(zip(CLASSES, (0.4, 0.1, 0.2, 0.3), strict=True))
    monkeypatch.setattr(Fitted, "class_shares", shares)
    one = drawn("released", labels="released", fair=EQUAL)
    table = json.loads((one / "privacy.json").read_text())["synthetic_dataset"]["fair"]
    assert table["released_shares"] == shares
    assert table["counts"] == {"ill_f": 12, "ill_m": 8, "well_f": 12, "well_m": 8}
    assert table["targets"]["by"] == table["groups"]["by"] == "released"
    assert labels_checks(one)[0].held
    assert "targets and of groups follow noisy class counts" in (one / "README.md").read_text()


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (LINES, ("-n", 3), "n = 3 gives no image to target 'well' in group 'm'"),
        (LINES, (), "'-n' is missing"),
        (LINES, ("--labels", "ill_f=3"), "--fair counts the classes itself"),
        (LINES + 'x = ["ill", "f"]\n', ("-n", 9), "no class 'x': the nearest is"),
        (LINES.partition("\n")[2] + 'ill = ["ill", "f"]\n', ("-n", 9), "no class 'ill': the near"),
    ],
)
def test_a_file_that_does_not_fit_leaves_nothing_behind(
    lines: str, options: tuple[object, ...], message: str, grouped_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "fair.toml").write_text(f"[classes]\n{lines}")
    refused = dpgen("sample", grouped_run, *options, "--fair", tmp_path / "fair.toml",
                    "--out", tmp_path / "set", "-q")  # fmt: skip
    assert refused.exit_code == 2 and message in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["fair.toml"]


def test_a_statement_that_would_be_too_large_is_refused_before_the_first_image(
    drawn: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesising, "LARGEST_STATEMENT", 2000)
    with pytest.raises(ValueError, match="4 classes are too many to be listed"):
        drawn("set", fair=EQUAL)
    assert LARGEST_STATEMENT > 2000 and not (tmp_path / "set").exists()


def test_parts_of_a_fair_set_make_the_set_and_parts_of_two_are_refused(
    grouped_run: Path, drawn: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "now", lambda: "2026-01-01T00:00:00+00:00")
    whole = drawn("whole", 70, fair=FEW_ILL)
    parts = [drawn(f"part_{i}", 70, fair=FEW_ILL, share=Share(i, 2)) for i in (1, 2)]
    join(parts, tmp_path / "joined")
    assert tree(tmp_path / "joined") == tree(whole)
    assert labels_checks(tmp_path / "joined")[0].held
    other = drawn("other", 70, fair=EQUAL, share=Share(2, 2))
    with pytest.raises(ValueError, match="differ in labels"):
        join([parts[0], other], tmp_path / "none")


def test_labels_that_are_not_as_stated_are_found(drawn: Callable[..., Path]) -> None:
    lies: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda said: said["fair"]["counts"].update(ill_f=9, well_f=11), FOLLOW),
        (lambda said: said["fair"].update(parity_gap=0.0), FOLLOW),
        (lambda said: said["fair"]["targets"]["weights"].update(ill=2), FOLLOW),
        (lambda said: said["fair"]["groups"].update(by="uniform"), FOLLOW),
        (lambda said: said["fair"]["classes"].update(ill_f=["well", "f"], well_f=["ill", "f"]),
         FOLLOW),
        (lambda said: said.update(labels="fair: 1 of ill_f"), "the words about labels differ"),
    ]  # fmt: skip
    liar = drawn("liar", 41, fair=FEW_ILL)
    original = (liar / "privacy.json").read_bytes()
    assert labels_checks(liar)[0].held
    for lie, words in lies:
        changed(liar, lie)
        (check,) = labels_checks(liar)
        assert check.failed and words in check.seen
        (liar / "privacy.json").write_bytes(original)
    honest = drawn("honest", fair=EQUAL)
    unfair = drawn("unfair", labels={"ill_f": 11, "ill_m": 9, "well_f": 10, "well_m": 10}, n=None)
    assert labels_checks(unfair) == []
    told = json.loads((honest / "privacy.json").read_text())["synthetic_dataset"]
    changed(unfair, lambda said: said.update(told))
    assert not any(check.failed for check in verify(unfair))  # sealed: nothing else sees it
    assert [one.seen for one in labels_checks(unfair)] == ["11 images of 'ill_f', 10 stated"]
    write_cards(unfair)
    assert dpgen("verify", unfair).exit_code == 1 and cards_check(unfair).held
    with pytest.raises(CertificateError, match="does not hold .fair labels."):
        mix([unfair, honest], unfair.parent / "mixed")
    silent = drawn("silent", fair=EQUAL)
    changed(silent, lambda said: said.pop("fair"))
    with pytest.raises(CertificateError, match="lacks or misplaces 'fair'"):
        labels_checks(silent)


def test_a_mixture_is_called_fair_only_where_it_is(
    drawn: Callable[..., Path], tmp_path: Path
) -> None:
    equal, again = drawn("equal", 41, fair=EQUAL), drawn("again", 80, fair=EQUAL, seed=3)
    few, unfair = drawn("few", 160, fair=FEW_ILL), drawn("unfair", 41)
    mixed = mix([equal, again], tmp_path / "fair")["synthetic_dataset"]["fair"]
    assert mixed["counts"] == counts_of(tmp_path / "fair") and 0 < mixed["parity_gap"] < 0.02
    assert labels_checks(tmp_path / "fair")[0].held and cards_check(tmp_path / "fair").held
    assert "Labels are fair" in (tmp_path / "fair" / "README.md").read_text()
    # Each of the two is fair; of 20 + 40 f 20 are ill, of 20 + 120 m 40.
    for name, sets in {"of two": [equal, few], "with another": [equal, unfair]}.items():
        statement = mix(sets, tmp_path / name)
        assert "fair" not in statement["synthetic_dataset"]
        assert labels_checks(tmp_path / name) == []
        assert "Labels are fair" not in (tmp_path / name / "README.md").read_text()
        changed(tmp_path / name, lambda said: said.update(fair=mixed))
        assert labels_checks(tmp_path / name)[0].failed
