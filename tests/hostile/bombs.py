"""Files that promise or unpack to far more than they have: small on disk, in every format."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path

GIB = 2**30
PIECE = 2**24


def sparse(path: Path, n_bytes: int, head: bytes = b"", tail: bytes = b"") -> Path:
    """A file of ``n_bytes`` that takes a few blocks of the disk: zeros between head and tail."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(n_bytes)
        file.seek(n_bytes - len(tail))
        file.write(tail)
    return path


def deflated(byte: bytes, n_bytes: int, head: bytes = b"") -> bytes:
    """A raw deflate stream of ``head`` and then one byte, over and over; made in no time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(byte * PIECE) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + piece * (n_bytes // PIECE) + packer.flush()


def gzipped_zeros(n_bytes: int, head: bytes) -> bytes:
    """A gzip file of a head and zeros, in members of 16 MiB."""
    def member(content: bytes) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        return packer.compress(content) + packer.flush()

    return member(head) + member(bytes(PIECE)) * (n_bytes // PIECE)


def zipped(name: str, packed: bytes, n_bytes: int, head: bytes = b"") -> bytes:
    """A zip archive of one deflated member that claims ``n_bytes``."""
    numbers = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(packed), n_bytes, len(name), 0)
    local = b"PK\3\4" + numbers + name.encode()
    entry = b"PK\1\2" + struct.pack("<H", 20) + numbers + bytes(6) + struct.pack("<II", 0, 0)
    entry += name.encode()
    start = len(local) + len(packed)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), start, 0)
    return local + packed + entry + end


def array_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """The header of an .npy file, version 1."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


def png(width: int, height: int, pixels: bytes) -> bytes:
    """An RGB picture of 8 bits with these zlib bytes as its only pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, body) for kind, body in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def black_png(width: int, height: int) -> bytes:
    """A black picture: every byte of its rows is zero."""
    n_bytes = height * (3 * width + 1)
    n_bytes += -n_bytes % PIECE
    check = struct.pack(">I", (n_bytes % 65521) << 16 | 1)  # Adler-32 of zeros
    return png(width, height, b"\x78\xda" + deflated(b"\0", n_bytes) + check)


def shard(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar file of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, content in members:
            member.size = member.size or len(content)
            archive.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
            archive.fileobj.write(content + bytes(-len(content) % 512))  # type: ignore[union-attr]
        archive.offset = buffer.tell()
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    """A header of a tar file; ``size`` may be a lie."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info


def tensor_file(entries: object, content: bytes = b"") -> bytes:
    """A safetensors file with this header, whatever it says."""
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + content

