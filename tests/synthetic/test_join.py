"""`sample --shard` and `join`: the parts of a set make the set, and nothing else does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpgen.data.formats.table import written
from dpgen.data.sources import open_source
from dpgen.generator.draw import Draw
from dpgen.privacy.statements import statement as statements
from dpgen.privacy.statements.certificate import PART, CertificateError, statement_bytes
from dpgen.privacy.verification.verify import verify
from dpgen.release.cards import cards_check
from dpgen.storage.canonical import digest
from dpgen.synthetic.join import join
from dpgen.synthetic.mix import mix
from dpgen.synthetic.part import Share
from dpgen.synthetic.synthesise import synthesise
from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures("one_thread")
N_IMAGES = 100  # four blocks of 32, the last of them cut


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All statements are made at one time, in which alone two of one set differ."""
    monkeypatch.setattr(statements, "now", lambda: "2026-01-01T00:00:00+00:00")


@pytest.fixture
def parts(run: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """The parts of a set; by default of the same set."""

    def make(of: int, name: str = "part", n: int | None = N_IMAGES, **given: Any) -> list[Path]:  # noqa: ANN401
        made = []
        for i in range(1, of + 1):
            made.append(tmp_path / f"{name}_{i}_of_{of}")
            chosen = {"layout": "npz", "seed": 3, "run": run} | given
            synthesise(
                chosen.pop("run"), n, made[-1], share=Share(i, of), **chosen
            )  # fmt: skip
        return made

    return make


@pytest.mark.parametrize("layout", written())
@pytest.mark.usefixtures("one_time")
def test_one_two_or_three_parts_make_the_set_byte_for_byte(
    layout: str, run: Path, parts: Callable[..., list[Path]], tmp_path: Path
) -> None:
    if layout == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
    before = tree(run)
    labels = {"2": 50, "0": 31} if layout == "webdataset" else None
    n = None if labels else N_IMAGES
    whole = synthesise(run, n, tmp_path / "whole", layout=layout, seed=3, labels=labels)
    for of in (1, 2, 3):
        made = parts(of, n=n, layout=layout, labels=labels)
        joined = tmp_path / f"joined_{of}"
        assert join(made[::-1], joined) == whole
        assert tree(joined) == tree(tmp_path / "whole")
    assert not any(check.failed for check in [*verify(joined), cards_check(joined)])
    assert tree(run) == before  # where its ledger lies: nothing is charged


def test_parts_cut_at_files_and_shards_make_the_set_byte_for_byte(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_time: None
) -> None:
    """A file of a part ends at a block, a shard of the set after any image."""
    from dpgen.data.export import write_images
    from dpgen.synthetic import certified, part

    monkeypatch.setattr(
        certified, "write_images", lambda *a, **given: write_images(*a, shard_size=27, **given)
    )
    monkeypatch.setattr(part, "FILE_BLOCKS", 1)
    synthesise(run, N_IMAGES, tmp_path / "whole", layout="parquet", seed=3)
    made = [tmp_path / "one", tmp_path / "two"]
    for i, out in enumerate(made, 1):
        synthesise(run, N_IMAGES, out, layout="parquet", seed=3, share=Share(i, 2))
        assert len(list(out.glob("*.npz"))) == 2
    join(made, tmp_path / "joined")
    assert len(list((tmp_path / "joined").glob("*.parquet"))) == 4
    assert tree(tmp_path / "joined") == tree(tmp_path / "whole")


def test_a_part_passes_nowhere_for_a_set(
    parts: Callable[..., list[Path]], tmp_path: Path
) -> None:
    one, two = parts(2)
    for read_fn in (verify, open_source, lambda path: mix([path, two], tmp_path / "mixed")):
        with pytest.raises(ValueError, match=r"part of a synthetic set.*dpgen join") as caught:
            read_fn(one)
        assert str(one) in str(caught.value)
    for command in ("verify", "card"):
        told = dpgen(command, one)
        assert told.exit_code == 1 and "dpgen join" in told.stderr
    assert sorted(tree(one)) == [PART, "images-00000.npz"]


def test_parts_that_are_missing_twice_there_or_of_another_set_are_refused_by_name(
    run: Path, parts: Callable[..., list[Path]], tmp_path: Path
) -> None:
    one, two, three = parts(3)
    copy = shutil.copytree(two, tmp_path / "copy")
    other_run = shutil.copytree(run, tmp_path / "other_run")
    model = json.loads((other_run / "privacy.json").read_text())
    model["artifact"]["created"] = "2026-01-01T00:00:00+00:00"
    (other_run / "privacy.json").write_bytes(statement_bytes(sealed(model)))
    two_of_two = parts(2)[1]
    refused: list[tuple[list[Path], str]] = [
        ([one, three], r"all 3 parts must be named, missing: 2 \(draw it with --shard 2/3\)"),
        ([two], "missing: 1, 3 "),
        ([one, two, copy, three], f"part 2 of 3 must be named once, got {two} and {copy}"),
        ([one, two, tmp_path / "none"], f"{tmp_path / 'none'} does not exist"),
        ([one, two, run], f"{run} is no part of a set"),
        ([one, two_of_two], f"{one} and {two_of_two} differ in number of parts"),
    ]
    for name, given in {
        "seed": {"seed": 4},
        "samples": {"n": N_IMAGES - 1},
        "format": {"layout": "folder"},
        "labels": {"labels": {"0": 99, "1": 1}, "n": None},
        "precision": {"draw": Draw(precision="bf16")},
        "model": {"run": other_run},
    }.items():
        foreign = parts(3, name, **given)[2]
        refused.append(([one, two, foreign], f"{one} and {foreign} differ in {name}"))
    for given_parts, words in refused:
        with pytest.raises((ValueError, OSError), match=words):
            join(given_parts, tmp_path / "set")
    assert not (tmp_path / "set").exists() and not list(tmp_path.glob(".set*"))


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    body = {key: value for key, value in content.items() if key != "sha256"}
    return {**body, "sha256": digest(body)}


def test_a_part_that_was_changed_is_refused_with_the_name_of_the_file(
    parts: Callable[..., list[Path]], tmp_path: Path
) -> None:
    one, two = parts(2)
    original = json.loads((two / PART).read_text())

    def flip(folder: Path) -> None:
        path = folder / "images-00000.npz"
        data = bytearray(path.read_bytes())
        data[200] ^= 1
        path.write_bytes(data)

    def add(folder: Path) -> None:
        shutil.copy(folder / "images-00000.npz", folder / "images-00001.npz")

    def lower(folder: Path) -> None:
        text = (folder / PART).read_bytes()
        (folder / PART).write_bytes(text.replace(b'"epsilon": 0.3', b'"epsilon": 0.1'))

    def reseal(folder: Path) -> None:
        forged = json.loads((folder / PART).read_text())
        forged["model"]["guarantee"]["epsilon"] = 0.1
        (folder / PART).write_bytes(statement_bytes(sealed(forged)))

    def link(folder: Path) -> None:
        (folder / "images-00000.npz").rename(tmp_path / "elsewhere.npz")
        (folder / "images-00000.npz").symlink_to(tmp_path / "elsewhere.npz")

    def unknown(folder: Path) -> None:
        told = sealed(original | {"schema": "dpgen-part/1"})
        (folder / PART).write_bytes(statement_bytes(told))

    changes: list[tuple[Callable[[Path], None], str]] = [
        (flip, "images-00000.npz missing, foreign or changed"),
        (add, "images-00001.npz missing, foreign or changed"),
        (link, "images-00000.npz missing, foreign or changed"),
        (lambda folder: (folder / "images-00000.npz").unlink(), "missing, foreign or changed"),
        (lower, f"{PART} was changed since it was written: draw the part again"),
        (reseal, "the model's statement in it was changed"),
        (unknown, "must have the schema 'dpgen-part/2', got 'dpgen-part/1'"),
    ]
    for k, (change_fn, words) in enumerate(changes):
        changed = shutil.copytree(two, tmp_path / f"changed_{k}")
        change_fn(changed)
        with pytest.raises(ValueError, match=words) as caught:
            join([one, changed], tmp_path / "set")
        assert str(changed) in str(caught.value)
    for key, value in {
        "part": "two", "of": None, "set": [], "document": "other.json", "model": 3,
        "files": ["images-00000.npz"], "redraws": {"images": 1, "draws": 0, "rejected": 0},
    }.items():  # fmt: skip
        (two / PART).write_bytes(statement_bytes(sealed(original | {key: value})))
        with pytest.raises(ValueError, match=PART):
            join([one, two], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_shares_are_consecutive_cover_all_blocks_and_none_is_empty() -> None:
    shape = (1, 8, 8)
    for n_images, of in ((100, 1), (100, 3), (100, 4), (1000, 7)):
        blocks = [Share(i, of).blocks(n_images, shape) for i in range(1, of + 1)]
        assert [b for one in blocks for b in one] == list(range(-(-n_images // 32)))
        assert all(blocks) and max(map(len, blocks)) - min(map(len, blocks)) <= 1
    with pytest.raises(ValueError, match="at most 4 parts, got 1/5: 100 images .* 4 blocks of 32"):
        Share(1, 5).blocks(100, shape)
    for text in ("0/2", "3/2", "2", "1/2/3", "a/b", "-1/2", "1/0", "", "²/3"):
        with pytest.raises(ValueError, match="--shard must be i/n with 1 <= i <= n"):
            Share.parsed(text)
    assert Share.parsed("2/8") == Share(2, 8)


def test_the_commands_draw_parts_and_join_them(run: Path, tmp_path: Path) -> None:
    common = ("sample", run, "-n", 64, "-q", "--device", "cpu")
    without = dpgen(*common, "--shard", "1/2", "--out", tmp_path / "x")
    assert without.exit_code == 2 and "--shard needs --seed" in without.stderr
    for i in (1, 2):
        made = dpgen(*common, "--shard", f"{i}/2", "--seed", 1, "--out", tmp_path / f"part_{i}")
        assert made.exit_code == 0
        assert f"part {i} of 2 of 64 images" in made.stdout and "dpgen join" in made.stdout
        assert "satisfies" not in made.stdout  # of a part nothing is claimed
    refused = dpgen("join", tmp_path / "part_1", "--out", tmp_path / "set", "-q")
    assert refused.exit_code == 2 and "missing: 2" in refused.stderr
    joined = dpgen("join", tmp_path / "part_1", tmp_path / "part_2", "--out", tmp_path / "set")
    assert joined.exit_code == 0
    assert "64 images" in joined.stdout and "satisfies (0.3, 0.001)" in joined.stdout
    assert dpgen("verify", tmp_path / "set").exit_code == 0


def test_a_document_that_lacks_what_a_set_inherits_is_refused(
    parts: Callable[..., list[Path]], tmp_path: Path
) -> None:
    (one,) = parts(1)
    told = json.loads((one / PART).read_text())
    told["model"].pop("guarantee")
    told["model"] = sealed(told["model"])
    (one / PART).write_bytes(statement_bytes(sealed(told)))
    with pytest.raises(CertificateError, match="lacks or misplaces 'guarantee'"):
        join([one], tmp_path / "set")
    assert not (tmp_path / "set").exists()
