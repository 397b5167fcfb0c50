"""Signatures: by the key that was given and no other, over every byte of the statement."""

from __future__ import annotations

import builtins
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dpgen.privacy.statements.certificate import CertificateError, read_statement, statement_bytes
from dpgen.privacy.verification.signature import sign, signature_check
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import digest

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: E402

Kit = Any  # what conftest.py shares

pytestmark = pytest.mark.usefixtures("remembering")


def keys(folder: Path, name: str, private: Any = None, password: bytes | None = None) -> Path:  # noqa: ANN401
    """NAME.pem and NAME.pub, as openssl writes them."""
    private = private or ed25519.Ed25519PrivateKey.generate()
    hidden: Any = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password)
    pem, style = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"{name}.pem").write_bytes(private.private_bytes(pem, style, hidden))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / f"{name}.pub").write_bytes(private.public_key().public_bytes(pem, public))
    return folder / f"{name}.pem"


@pytest.fixture
def run(kit: Kit, tmp_path: Path) -> Path:
    folder: Path = kit.run(tmp_path / "run", ledger=tmp_path / "ledger.jsonl")
    return folder


def passes(folder: Path, public: Path) -> bool:
    return signature_check(folder, public).held is True


def test_a_signed_run_and_a_signed_set_hold_under_the_key_and_no_other(
    kit: Kit, run: Path, tmp_path: Path
) -> None:
    mine = keys(tmp_path, "mine")
    keys(tmp_path, "other")
    for folder in (run, kit.set(tmp_path / "set", run)):
        assert not passes(folder, tmp_path / "mine.pub")
        assert signature_check(folder, None).state == "skip"
        name = sign(folder, mine)
        check = signature_check(folder, tmp_path / "mine.pub")
        assert check.held and name in check.seen
        assert not passes(folder, tmp_path / "other.pub")
        assert "whose it must be" in signature_check(folder, None).seen
        assert not any(check.failed for check in verify(folder))


def test_a_change_of_any_byte_of_statement_or_signature_is_seen(run: Path, tmp_path: Path) -> None:
    sign(run, keys(tmp_path, "mine"))
    for name in ("privacy.sig", "privacy.json"):
        content = (run / name).read_bytes()
        for at in range(0, len(content), max(1, len(content) // 150)):
            (run / name).write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
            try:
                assert not passes(run, tmp_path / "mine.pub"), (name, at)
            except CertificateError:
                pass
        for other in (content[:-1], content + b"\n", b""):
            (run / name).write_bytes(other)
            try:
                assert not passes(run, tmp_path / "mine.pub")
            except CertificateError:
                pass
        (run / name).write_bytes(content)
        assert passes(run, tmp_path / "mine.pub")


def test_whoever_rewrites_everything_consistently_is_caught_by_the_signature(
    run: Path, tmp_path: Path
) -> None:
    sign(run, keys(tmp_path, "mine"))
    statement = read_statement(run)
    created = {**statement["artifact"], "created": "1990-01-01T00:00:00+00:00"}
    body = {key: value for key, value in statement.items() if key != "sha256"} | {
        "artifact": created
    }
    (run / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))
    assert not any(check.failed for check in verify(run))
    assert not passes(run, tmp_path / "mine.pub")


def test_what_does_not_hold_is_not_signed(run: Path, tmp_path: Path) -> None:
    (run / "model.safetensors").write_bytes(b"other")
    with pytest.raises(CertificateError, match="does not hold .*files.*nothing is signed"):
        sign(run, keys(tmp_path, "mine"))
    assert not (run / "privacy.sig").exists()


def test_openssl_checks_the_signature_without_this_package(run: Path, tmp_path: Path) -> None:
    sign(run, keys(tmp_path, "mine"))
    command = [
        "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(tmp_path / "mine.pub"), "-rawin",
        "-in", str(run / "privacy.json"), "-sigfile", str(run / "privacy.sig"),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    if b"not supported" in done.stderr or b"unknown option" in done.stderr.lower():
        pytest.skip("this openssl cannot verify Ed25519")
    assert done.returncode == 0, done.stderr
    (run / "privacy.json").write_bytes((run / "privacy.json").read_bytes() + b" ")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("what", ["curve", "public", "garbage", "encrypted", "long"])
def test_what_is_no_private_key_is_refused_by_name(what: str, run: Path, tmp_path: Path) -> None:
    key = keys(tmp_path, "mine")
    words = "must be a private Ed25519 key in PEM"
    if what == "curve":
        key = keys(tmp_path, "mine", ec.generate_private_key(ec.SECP256R1()))
    elif what == "public":
        key = tmp_path / "mine.pub"
    elif what == "encrypted":
        key, words = keys(tmp_path, "mine", password=b"secret"), "is encrypted"
    else:
        key.write_bytes(b"x" * (10 if what == "garbage" else 1 << 20))
        words = words if what == "garbage" else "must have at most"
    with pytest.raises(ValueError, match=words):
        sign(run, key)
    assert not (run / "privacy.sig").exists()


@pytest.mark.parametrize("what", ["curve", "private", "garbage"])
def test_what_is_no_public_key_is_refused_by_name(what: str, run: Path, tmp_path: Path) -> None:
    sign(run, keys(tmp_path, "mine"))
    if what == "curve":
        keys(tmp_path, "mine", ec.generate_private_key(ec.SECP256R1()))
    public = tmp_path / ("mine.pem" if what == "private" else "mine.pub")
    if what == "garbage":
        public.write_bytes(b"-----BEGIN PUBLIC KEY-----\n")
    with pytest.raises(ValueError, match="must be a public Ed25519 key in PEM"):
        signature_check(run, public)


def test_without_the_extra_the_error_names_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, real = keys(tmp_path, "mine"), builtins.__import__

    def missing(name: str, *rest: Any) -> Any:  # noqa: ANN401
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match="pip install cryptography"):
        sign(run, key)
    with pytest.raises(ValueError, match="pip install cryptography"):
        signature_check(run, tmp_path / "mine.pub")
    assert signature_check(run, None).held is None
