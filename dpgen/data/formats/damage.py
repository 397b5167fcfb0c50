"""The error for damaged files, and the errors that decoders raise for them."""

from __future__ import annotations

import struct
import zipfile
import zlib


class Damaged(ValueError):
    """The data of a picture are cut off or changed."""


UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)  # what Pillow and NumPy raise for damaged files
UNREADABLE_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,  # of encrypted members, and of methods that are not known
    OverflowError,
    LookupError,
)  # what zipfile raises for damaged archives
