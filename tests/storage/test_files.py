"""Files of others: what is no plain file, too large, too deep or ambiguous is refused."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpgen.storage import files
from dpgen.storage.files import (
    BOMB_BYTES,
    InPieces,
    open_file,
    parse_json,
    read_bytes,
    read_json,
    read_text,
    read_toml,
    refuse_bomb,
)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def circle(path: Path) -> None:
    path.symlink_to(path)


def bound(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address may have 100 letters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Fails a test that waits for a pipe's other end, which nobody opens."""

    def give_up(*_: object) -> None:
        raise TimeoutError("it was waited for")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (pipe, "a pipe"),
        (device, "a device"),
        (circle, "a link to itself"),
        (bound, "a socket"),
        (Path.mkdir, "a folder"),
    ],
)
@pytest.mark.parametrize("reader", [open_file, read_json, read_toml, read_text, InPieces])
def test_only_plain_files_are_opened_and_nothing_is_waited_for(
    tmp_path: Path, make: Callable[[Path], None], what: str, reader: Callable[[Path], object]
) -> None:
    make(tmp_path / "f")
    with pytest.raises(ValueError, match=f"f must be a plain file, got {what}$"):
        reader(tmp_path / "f")


def test_a_link_to_a_plain_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    (tmp_path / "link").symlink_to("f")
    assert read_json(tmp_path / "link") == 1
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent")


def test_a_file_is_read_up_to_its_limit_and_not_a_byte_further(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(10))
    assert read_bytes(tmp_path / "f", 10) == bytes(10)
    with pytest.raises(ValueError, match="f must have at most 9 bytes, got 10"):
        read_bytes(tmp_path / "f", 9)


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(10))
    opened = files.open_file

    def growing(where: Path) -> object:
        file = opened(where)
        monkeypatch.setattr(files.os, "fstat", lambda _: size)
        return file

    size = os.stat(path)
    path.write_bytes(bytes(11))
    monkeypatch.setattr(files, "open_file", growing)
    with pytest.raises(ValueError, match="f grew while it was read"):
        read_bytes(path, 100)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "Expecting value"),
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"b": {"a": 1, "c": 3, "a": 1}}', "key 'a' stands twice"),
        ("[NaN]", "must be finite, got 'NaN'"),
        ("-Infinity", "must be finite"),
        ("1e999", "must be finite, got '1e999'"),
        ("9223372036854775808", r"below 2\*\*63"),
        ("[[-9223372036854775808]]", r"below 2\*\*63"),
        ("9" * 5000, "Exceeds the limit"),
        ("[" * 65 + "]" * 65, "at most 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "at most 64 levels"),
        ("[" * 100_000, "at most 64 levels"),
    ],
)
def test_json_that_later_code_could_not_handle_is_refused(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=f"^it must be JSON.*{word}"):
        parse_json(text, "it")


def test_json_within_the_rules_comes_back() -> None:
    edge = {"a": [2**63 - 1, -(2**63) + 1, 1e308, None, True, "x"], "b": {}}
    assert parse_json('{"a":[9223372036854775807,-9223372036854775807,1e308,null,true,"x"],"b":{}}',
                      "it") == edge  # fmt: skip
    deep = parse_json("[" * 64 + "]" * 64, "it")
    for _ in range(63):
        (deep,) = deep
    assert deep == []
    assert parse_json("[Infinity, NaN]", "it", finite=False)[0] == float("inf")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("= 1", "must be TOML: Invalid"),
        ("a = 9223372036854775808", r"must be TOML: .*below 2\*\*63"),
        ("a = " + "9" * 5000, "must be TOML"),
        ("a = " + "[" * 100_000, "at most 64 levels"),
        (".".join("a" * 80) + " = 1", "at most 64 levels"),
        (".".join("a" * 2000) + " = 1", "fewer dots on a line"),
        ("a = '\0'", "must be TOML"),
    ],
)
def test_toml_is_held_to_the_same_rules(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"f\.toml must .*{word}|f\.toml {word}"):
        read_toml(path)


def test_many_lines_with_few_dots_each_are_read(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("".join(f"a{i} = 0.5\n" for i in range(20_000)))
    assert len(read_toml(tmp_path / "f.toml")) == 20_000


def test_bytes_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="f must be text in UTF-8"):
        read_json(tmp_path / "f")


def test_a_parser_of_headers_gets_pieces_until_it_is_trusted(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(2**21)
    with InPieces(tmp_path / "f") as file:
        assert len(file.read(2**20)) == 2**20
        for size in (2**20 + 1, -1, None):
            file.seek(0)
            with pytest.raises(ValueError, match="f must have headers of at most 1048576 bytes"):
                file.read(size)
        file.seek(-10, os.SEEK_END)
        assert len(file.read()) == 10
        file.seek(0)
        file.limit = None
        assert len(file.read()) == 2**21


def test_a_bomb_is_both_large_and_two_hundredfold() -> None:
    refuse_bomb(BOMB_BYTES, 1, "it", "no")
    refuse_bomb(200 * BOMB_BYTES, BOMB_BYTES, "it", "no")
    for n_bytes, n_packed in ((BOMB_BYTES + 1, 1), (200 * BOMB_BYTES + 1, BOMB_BYTES)):
        with pytest.raises(ValueError, match=f"it must unpack to at most 200 times its {n_packed}"):
            refuse_bomb(n_bytes, n_packed, "it", "no")
