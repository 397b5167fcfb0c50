"""The canonical JSON text of a value, and its SHA-256."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> str:
    """Returns the canonical JSON text of a value, which is unique and is hashed."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: object) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()
