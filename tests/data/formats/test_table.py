from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dpgen.data.formats import idx, npz
from dpgen.data.formats.format import Head
from dpgen.data.formats.recognition import locate
from dpgen.data.formats.table import FORMATS, described, find, named_files, written


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_has_a_writer_exactly_if_its_row_says_so(kind: str) -> None:
    assert (find(kind).writer is not None) == FORMATS[kind].writes


def test_messages_and_help_name_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = FORMATS["idx"]._replace(files=("TOY",), described="toys", writes=True)
    monkeypatch.setitem(FORMATS, "atoy", row)
    assert named_files() == (
        "IDX, npz, Parquet, tar, PNG, JPEG, TIFF, BMP, WebP, GIF, PGM, DICOM or TOY"
    )
    assert described().endswith(" or toys")
    assert written()[0] == "atoy"


def test_a_file_that_two_formats_recognise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"\0\0\x08\x01\0\0\0\0")
    monkeypatch.setattr(npz, "NPZ", replace(npz.NPZ, recognise_fn=lambda head: True))
    with pytest.raises(ValueError, match="must be of one format, it passes for idx and npz"):
        locate(tmp_path, "all")


def test_a_format_may_recognise_what_another_one_would_refuse_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="is a zip archive: unpack it"):
        locate(tmp_path, "all")

    def zipped(head: Head) -> bool:
        return head.path.suffix == ".zip"

    monkeypatch.setattr(idx, "IDX", replace(idx.IDX, recognise_fn=zipped))
    assert locate(tmp_path, "all").kind == "idx"
