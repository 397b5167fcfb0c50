"""Which data set this is, without saying what is in it: fingerprints under a secret key."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpgen.files import TEXT_BYTES, read_bytes
from dpgen.privacy.chain import LedgerError, held_alone, replace_durably, sweep_partials

if TYPE_CHECKING:
    from dpgen.data.sources import Source


def home() -> Path:
    """Where this installation keeps its key and its ledgers: ``$DPGEN_HOME``, else
    ``~/.local/state/dpgen``.
    """
    return Path(os.environ.get("DPGEN_HOME") or Path.home() / ".local" / "state" / "dpgen")


def installation_key() -> bytes:
    """The secret under which data sets are fingerprinted, drawn once: without it nobody can test
    whether a record is in one.
    """
    from dpgen.privacy.noise import KEY_BYTES  # torch comes with it; `home` is asked without

    path = home() / "key"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists() or any(path.parent.glob(".key.*.partial")):
        with held_alone(path):
            sweep_partials(path)  # a secret that a killed writer left
            if not path.exists():  # the first of two racing processes wins, both read the same key
                replace_durably(path, secrets.token_bytes(KEY_BYTES), mode=0o600)
    key = read_bytes(path, TEXT_BYTES)
    if len(key) != KEY_BYTES:
        raise LedgerError(f"the installation key {path} is damaged: restore it from a backup")
    return key


def fingerprint(source: Source, key: bytes) -> str:
    """Identity of a data set: HMAC over the sorted HMACs of its decoded records and labels, before
    any resize.

    The same images in another order or another lossless format are the same data set. A grown data
    set is another one.
    """
    marks = []
    for pixels, label in source.raw_records():
        head = f"{pixels.shape}:{label}:".encode()
        marks.append(hmac.digest(key, head + np.ascontiguousarray(pixels).tobytes(), "sha256"))
    return hmac.new(key, b"".join(sorted(marks)), hashlib.sha256).hexdigest()
