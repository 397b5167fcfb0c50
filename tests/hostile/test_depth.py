"""Lists inside lists, one too many or ten thousand: an error that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dpgen.data.sources import open_source
from dpgen.images.images import PublicFacts
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.statements.certificate import read_statement
from dpgen.privacy.statements.notice import read_notice
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.folder import RunFolder
from dpgen.runs.released import load_network
from tests.hostile import bombs


def deep_class_list(folder: Path, text: str) -> object:
    (folder / "a").mkdir()
    (folder / "a" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "dataset.json").write_text(text)
    return open_source(folder)


def deep_label(folder: Path, text: str) -> object:
    members = (bombs.member("x.png"), b""), (bombs.member("x.json"), text.encode())
    (folder / "a.tar").write_bytes(bombs.shard(*members))
    return open_source(folder)


def deep_facts(folder: Path, text: str) -> object:
    (folder / "facts.toml").write_text(f"shape = {text}")
    return PublicFacts.load(folder / "facts.toml")


def deep_ledger(folder: Path, text: str) -> object:
    (folder / "ledger.jsonl").write_text(text + "\n")
    return PrivacyLedger(folder / "ledger.jsonl").lines()


def deep_run(folder: Path, text: str) -> object:
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "run.json").write_text(text)
    return RunFolder(folder, {})


def deep_network(folder: Path, text: str) -> object:
    header = {"__metadata__": {"denoiser": text}}
    (folder / "a.safetensors").write_bytes(bombs.tensor_file(header))
    return load_network(folder / "a.safetensors")


def deep_header(folder: Path, text: str) -> object:
    content = len(text).to_bytes(8, "little") + text.encode()
    (folder / "a.safetensors").write_bytes(content)
    return Checkpoints(folder).load("a")


def deep_statement(folder: Path, text: str) -> object:
    (folder / "privacy.json").write_text(text)
    return read_statement(folder)


def deep_notice(folder: Path, text: str) -> object:
    (folder / "notice.json").write_text(text)
    return read_notice(folder)


DEEP = [
    deep_class_list, deep_label, deep_facts, deep_ledger, deep_run, deep_network, deep_header,
    deep_statement, deep_notice,
]  # fmt: skip


@pytest.mark.parametrize("read", DEEP)
@pytest.mark.parametrize("levels", [65, 10_000])
def test_depth_is_an_error_like_any_other(
    tmp_path: Path, read: Callable[[Path, str], object], levels: int
) -> None:
    with pytest.raises(ValueError) as caught:
        read(tmp_path, "[" * levels + "]" * levels)
    assert str(tmp_path) in str(caught.value)
