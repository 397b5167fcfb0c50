"""Classes are what the data state or what is declared, in every format; labels are not counted."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from dpgen.data.formats.parquet import pyarrow_parquet
from dpgen.data.formats.pictures import encode_png
from dpgen.data.opening import open_images
from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source, read_images
from dpgen.images.classes import MAX_CLASSES, class_list, parse_classes
from dpgen.images.facts import Origin, PublicFacts
from dpgen.images.images import Images, to_float
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.ledger.charges import Charge
from dpgen.privacy.statements.statement import declaration

N = 12
PIXELS = np.random.default_rng(8).integers(0, 256, (N, 4, 4, 1), np.uint8)
Maker = Callable[[Path, list[int]], Any]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))


def npz(place: Path, labels: list[int]) -> Path:
    np.savez(place / "a.npz", images=PIXELS, labels=np.array(labels))
    return place / "a.npz"


def idx(place: Path, labels: list[int]) -> Path:
    for name, array in (("images-idx3", PIXELS[..., 0]), ("labels-idx1", np.uint8(labels))):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (place / f"train-{name}-ubyte").write_bytes(head + array.tobytes())
    return place


def shard(place: Path, labels: list[int]) -> Path:
    with tarfile.open(place / "a.tar", "w") as archive:
        for i, label in enumerate(labels):
            for suffix, data in (("png", encode_png(PIXELS[i])), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return place


def parquet(place: Path, labels: list[int]) -> Path:
    import pyarrow as pa

    rows = [{"bytes": encode_png(x), "path": None} for x in PIXELS]
    table = pa.table({"image": rows, "label": labels})
    pyarrow_parquet().write_table(table, place / "a.parquet")
    return place


def images(place: Path, labels: list[int]) -> Images:
    return Images(to_float(torch.from_numpy(PIXELS).permute(0, 3, 1, 2)), torch.tensor(labels))


def tensors(place: Path, labels: list[int]) -> TensorDataset:
    return TensorDataset(torch.from_numpy(PIXELS).permute(0, 3, 1, 2), torch.tensor(labels))


class Column(list):
    """A Hugging Face data set whose labels are numbers without names."""

    features = {"image": type("Image", (), {})(), "label": type("Value", (), {})()}


def table(place: Path, labels: list[int]) -> Column:
    rows = zip(PIXELS, labels, strict=True)
    return Column({"image": x[..., 0], "label": label} for x, label in rows)


MAKERS = {f.__name__: f for f in (npz, idx, shard, parquet, images, tensors, table)}
LABELS, OTHER = [0, 1, 2] * 4, [0, 1, 2] * 3 + [0, 1, 11]


@pytest.mark.parametrize("kind", MAKERS)
def test_labels_without_names_are_not_counted(kind: str, tmp_path: Path) -> None:
    data = MAKERS[kind](tmp_path, LABELS)
    for opened in (open_source, open_images, read_images):
        with pytest.raises(ValueError, match=r"classes[ =]N or .*classes[ =].*facts file"):
            opened(data)


@pytest.mark.parametrize("kind", MAKERS)
def test_one_record_changes_nothing_that_is_published(kind: str, tmp_path: Path) -> None:
    """A record with label 11 among others with 0 to 2, and the same without it."""
    told = []
    for name, labels in (("one", LABELS), ("other", OTHER)):
        (tmp_path / name).mkdir()
        told.append(open_images(MAKERS[kind](tmp_path / name, labels), classes=12).facts)
    assert told[0] == told[1]
    assert told[0].class_names == tuple(map(str, range(12))) and told[0].origin == "named"


@pytest.mark.parametrize("kind", MAKERS)
def test_a_label_beyond_the_declared_classes_is_refused_and_never_given_one(
    kind: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="labels must be in 0..2, got 11 at record 11"):
        open_source(MAKERS[kind](tmp_path, OTHER), classes=3)


@pytest.mark.parametrize("kind", MAKERS)
def test_facts_name_the_classes_of_data_that_do_not(kind: str, tmp_path: Path) -> None:
    data = MAKERS[kind](tmp_path, LABELS)
    facts = PublicFacts((1, 4, 4), ("cat", "dog", "eel", "fox"), 10, origin="stated")
    assert open_images(data, facts=facts).facts == facts
    assert open_images(data, facts=facts, classes=4).facts == facts
    with pytest.raises(ValueError, match="classes must be what the facts state, got 3.*drop"):
        open_images(data, facts=facts, classes=3)
    with pytest.raises(ValueError, match="class_names in a facts file"):
        open_images(data, facts=PublicFacts((1, 4, 4), ("all",), 10, origin="stated"))


def test_what_data_state_themselves_stays_and_is_not_contradicted(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "eel"])
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=np.array(LABELS), class_names=names)
    assert open_images(tmp_path).facts.origin == "declared"
    for classes in (3, ["cat", "dog", "eel"]):
        facts = open_images(tmp_path, classes=classes).facts
        assert (facts.class_names, facts.origin) == (tuple(names), "declared")
    for classes in (4, ["cat", "dog", "fox"]):
        with pytest.raises(ValueError, match="what the npz data state.*cat, dog, eel"):
            open_images(tmp_path, classes=classes)


def test_data_without_labels_have_no_classes_to_declare(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS)
    assert open_images(tmp_path).facts.class_names == ("all",)
    for classes in (1, 10):
        with pytest.raises(ValueError, match="they state no classes; drop (--classes|classes=)"):
            open_images(tmp_path, classes=classes)


def test_images_without_a_declaration_are_of_one_class_and_no_label_is_another(
    tmp_path: Path,
) -> None:
    assert open_images(images(tmp_path, [0] * N)).facts.class_names == ("all",)
    facts = PublicFacts((1, 4, 4), ("all",), 10, origin="stated")
    assert open_images(images(tmp_path, [0] * N), facts=facts).facts == facts
    assert open_images(images(tmp_path, [0] * N), classes=2).facts.class_names == ("0", "1")


def test_a_ledger_from_when_classes_were_counted_keeps_its_facts(tmp_path: Path) -> None:
    """They were published then, as read from headers, as they said."""
    path = npz(tmp_path, LABELS)
    before = PrivateDataset(open_source(path, classes=3))
    before.open_ledger(Budget(1.0, 1e-3), tmp_path)
    assert before.facts.origin == "declared"
    before.ledger.charge("run", [Charge("x", "0", GaussianLeaf(1.0, 9.0, 1).event)])
    now = open_images(path, classes=3)
    assert now.facts.origin == "named"
    now.open_ledger(Budget(1.0, 1e-3), tmp_path)
    assert now.facts == before.facts
    with pytest.raises(ValueError, match="holds other facts"):
        open_images(path, classes=4).open_ledger(Budget(1.0, 1e-3), tmp_path)


@pytest.mark.parametrize("origin", get_args(Origin))
def test_a_statement_says_who_declared_what(origin: Origin) -> None:
    facts = PublicFacts((1, 4, 4), ("cat", "dog"), 10, origin=origin)
    assert PublicFacts.from_dict(facts.to_dict()) == facts
    said = declaration(facts.to_dict())
    assert "(10)" in said and "(2)" in said and "does not cover them" in said
    assert ("by number or name" in said) == (origin == "named")
    assert ("headers" in said) == (origin != "stated")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("3", ("0", "1", "2")),
        (" 2 ", ("0", "1")),
        ("cat,dog", ("cat", "dog")),
        ("cat, dog ,eel", ("cat", "dog", "eel")),
        ("1,2", ("1", "2")),
    ],
)
def test_the_command_line_takes_a_number_or_names(text: str, names: tuple[str, ...]) -> None:
    assert class_list(parse_classes(text)) == names


@pytest.mark.parametrize(
    ("classes", "word"),
    [
        (0, "number 1 to 65536, got 0"),
        (MAX_CLASSES + 1, "number 1 to"),
        (True, "number 1 to"),
        (2.0, "a number or a list of names"),
        ("ab", "a number or a list of names"),
        ([], "at least one class"),
        (["a", "a"], "twice"),
        (["a", ""], "non-empty"),
        (["a", 1], "named by text"),
        (parse_classes("cat,,dog"), "non-empty"),
    ],
)
def test_what_declares_no_classes_is_refused(classes: Any, word: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=word):
        class_list(classes)


@pytest.mark.parametrize("text", ["-3", "3.5", "cat", "", "\u0663"])
def test_a_lone_word_is_a_number_or_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match="--classes takes N or NAME,NAME"):
        parse_classes(text)
