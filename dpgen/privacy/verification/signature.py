"""Signs ``privacy.json`` and checks the signature: Ed25519, in ``privacy.sig`` beside it.

The statement holds the hash of every file, so its signature covers them all. The signature is of
the statement's bytes on disk: ``openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in
privacy.json -sigfile privacy.sig`` checks it without this package.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from dpgen.privacy.statements.certificate import (
    CERTIFICATE,
    LARGEST_STATEMENT,
    SIGNATURE,
    SIGNATURE_BYTES,
    CertificateError,
    read_statement,
)
from dpgen.privacy.verification.check import Check
from dpgen.privacy.verification.verify import verify
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_bytes

LARGEST_KEY = 1 << 16  # bytes
HOW = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout"


def sign(folder: Path, key: Path) -> str:
    """Signs the statement of a run or a synthetic set, and returns the name of the public key.

    Raises CertificateError, and signs nothing, when the statement does not hold.

    Args:
        key: PEM file of an Ed25519 private key, not encrypted.
    """
    private = _private_key(key)
    failed = [check.name for check in verify(folder) if check.failed]
    if failed:
        raise CertificateError(f"{folder} does not hold ({', '.join(failed)}): nothing is signed")
    signature = private.sign(read_bytes(folder / CERTIFICATE, LARGEST_STATEMENT))
    replace_durably(folder / SIGNATURE, signature)
    return _name(private.public_key())


def signature_check(folder: Path, public_key: Path | None) -> Check:
    """Checks the signature of ``folder`` against a public key that the caller has from elsewhere.

    Args:
        public_key: PEM file of an Ed25519 public key; None checks only whether there is a
            signature.
    """
    path = folder / SIGNATURE
    if public_key is None:
        signed = "--public-key says whose it must be"
        return Check("signature", None, signed if path.exists() else "the folder is not signed")
    key = _public_key(public_key)
    read_statement(folder)
    if not path.is_file():
        return Check("signature", False, f"{folder} is not signed")
    if path.stat().st_size != SIGNATURE_BYTES:
        return Check("signature", False, f"{path} is not a signature: it must have 64 bytes")
    from cryptography.exceptions import InvalidSignature

    try:
        stated = read_bytes(folder / CERTIFICATE, LARGEST_STATEMENT)
        key.verify(read_bytes(path, SIGNATURE_BYTES), stated)
    except InvalidSignature:
        return Check("signature", False, f"not by the key {_name(key)}, or changed since")
    return Check("signature", True, f"by the key {_name(key)}")


def _serialization() -> Any:  # noqa: ANN401
    """Imports the key formats of cryptography. Raises ValueError, which names the package to
    install, if it is absent.
    """
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise ValueError("signatures need cryptography: pip install cryptography") from error
    return serialization


def _private_key(path: Path) -> Any:  # noqa: ANN401
    load, content = _serialization().load_pem_private_key, _pem(path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = load(content, password=None)
    except TypeError:
        raise ValueError(
            f"the key {path} is encrypted: openssl pkey -in {path} decrypts it"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} must be a private Ed25519 key in PEM: {HOW}")
    return key


def _public_key(path: Path) -> Any:  # noqa: ANN401
    load, content = _serialization().load_pem_public_key, _pem(path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = load(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path} must be a public Ed25519 key in PEM: {HOW}")
    return key


def _pem(path: Path) -> bytes:
    return read_bytes(path, LARGEST_KEY)


def _name(public_key: Any) -> str:  # noqa: ANN401
    """Names a public key: the first half of the SHA-256 of its 32 bytes."""
    return "sha256:" + hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:32]
