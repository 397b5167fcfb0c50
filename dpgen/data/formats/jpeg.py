"""JPEG files: their scans, and whether the compressed data are whole.

libjpeg paints over what is missing or damaged and only warns, which Pillow does not pass on. So the
codes of a picture are walked here to their end (`dpgen.data.formats.huffman`, and
`dpgen.data.formats.progressive` of several scans). Of a very large one, bytes put behind each part
of the compressed data change the picture exactly if that part is too short.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from dpgen.data.formats.damage import Damaged
from dpgen.data.formats.huffman import Codes, code_table, require_blocks
from dpgen.data.formats.progressive import symbol_table, walk_direct, walk_first, walk_further

JPEG_MAGIC = b"\xff\xd8\xff"
MOST_SCANS = 32  # of a progressive JPEG, each of which decodes the whole picture anew; usual are 10
END_OF_PICTURE, SCAN, RESTART_INTERVAL = 0xD9, 0xDA, 0xDD
HUFFMAN, PROGRESSIVE = 0xC4, 0xC2
FRAMES = {0xC0, 0xC1, PROGRESSIVE}  # baseline, extended, progressive
UNREAD_FRAMES = {
    0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical",
    0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "arithmetic-coded",
    0xCD: "arithmetic-coded", 0xCE: "arithmetic-coded", 0xCF: "arithmetic-coded",
}  # fmt: skip
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_END = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # of compressed data: any marker but a restart
_NEXT = re.compile(rb"\xff+([\x01-\xfe])")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
WALKED_BYTES = 2**21  # of a file, whose walk takes a third of a second and 100 MB
REMEMBERED = 2**20  # pictures, in 100 MB
_WHOLE: set[bytes] = set()
# Bytes without 0xff that go on otherwise than the zeros which libjpeg takes what is missing for.
_FILLERS = (bytes(range(0xB5, 0xC5)), bytes(range(0x5A, 0x6A)))


@dataclass(frozen=True)
class Scan:
    """One scan: bytes ``start`` to ``end`` of the file hold its compressed data.

    components: numbers of the components it holds.
    first, last: of the 64 coefficients of a block, those that it holds.
    bit: the lowest bit of them that it holds; 0 is the last.
    further: whether an earlier scan held their higher bits.
    interval: units between two restart markers; 0 without.
    tables: for each component, of direct and other coefficients; of those that it holds, where the
        picture is progressive.
    """

    start: int
    end: int
    components: tuple[int, ...]
    first: int
    last: int
    bit: int
    further: bool
    interval: int
    tables: tuple[tuple[np.ndarray, ...], ...]


@dataclass
class Layout:
    """Where the parts of a JPEG file lie.

    size: (height, width) in pixels.
    sampling: per component, how many blocks it has across and down, (h, v).
    progressive: whether several scans refine the same coefficients.
    end: position of its end marker.
    """

    size: tuple[int, int] = (0, 0)
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    scans: list[Scan] = field(default_factory=list)
    progressive: bool = False
    end: int = 0


def count_scans(data: bytes) -> int:
    """Counts the scans of a JPEG up to its end, at most one more than are read. Data that a camera
    puts into a segment or after the end are not scans.
    """
    kinds = (kind for kind in _segments(data) if kind == SCAN)
    return sum(1 for _ in itertools.islice(kinds, MOST_SCANS + 1))


def unread_process(data: bytes) -> str | None:
    """Names the way in which a JPEG is compressed, if it is one that is not read."""
    kinds = itertools.takewhile(lambda kind: kind != SCAN, _segments(data))
    return next((UNREAD_FRAMES[kind] for kind in kinds if kind in UNREAD_FRAMES), None)


def _segments(data: bytes) -> Iterator[int]:
    """Returns the kinds of the segments of a JPEG, up to its end.

    Reads markers as libjpeg does: a segment is skipped by its length, anything else by search. Of
    markers that it stops at or skips over, none hides what follows.
    """
    place = 2
    while found := _MARKER.search(data, place):
        kind, place = data[found.end() - 1], found.end()
        if kind == END_OF_PICTURE:
            return
        if kind >= 0xC0 and not 0xD0 <= kind <= 0xD8:
            yield kind
            place += max(2, int.from_bytes(data[place : place + 2]))


def require_whole(data: bytes, decode_fn: Callable[[bytes], bytes]) -> None:
    """Refuses a JPEG whose compressed data end too early, or do not end with its last block; what
    was found whole is remembered, as the check takes ten times as long as decoding.

    What it cannot see is damage that leaves as many blocks as there were, in which libjpeg sees
    nothing either, and, of files above 2 MiB, damage that leaves more.

    Args:
        data: the file.
        decode_fn: from a file to its pixels; called only for large files.

    Raises:
        Damaged: with what is missing; what ``decode_fn`` raises; errors of NumPy and of indices for
            headers that make no sense.
    """
    content = hashlib.blake2b(data, digest_size=16).digest()
    if content in _WHOLE:
        return
    _check_whole(data, decode_fn)
    if len(_WHOLE) < REMEMBERED:
        _WHOLE.add(content)


def _check_whole(data: bytes, decode_fn: Callable[[bytes], bytes]) -> None:
    layout = read_layout(data)
    for scan in layout.scans:
        marks = [data[m.start() + 1] & 7 for m in _RESTART.finditer(data, scan.start, scan.end)]
        n_marks = (_n_units(scan, layout) - 1) // scan.interval if scan.interval else 0
        if marks != [i % 8 for i in range(n_marks)]:
            raise Damaged(f"it must have {n_marks} restart markers in order, got {len(marks)}")
    if layout.progressive:
        _require_precision(layout)
    if len(data) <= WALKED_BYTES:
        blocks: dict[int, list[int]] = {}
        for scan in layout.scans:
            _require_blocks(data, scan, layout, blocks)
        return
    pixels = decode_fn(data)
    if any(decode_fn(_longer(data, layout, filler)) != pixels for filler in _FILLERS):
        raise Damaged("its compressed data end before the last block")


def read_layout(data: bytes) -> Layout:
    """Walks the segments of a file, strictly, to its end marker."""
    layout, place, interval = Layout(), 2, 0
    tables: dict[int, bytes] = {}
    while True:
        found = _NEXT.match(data, place)
        if found is None:
            if place >= len(data):
                raise Damaged("its end marker is missing")
            raise Damaged(f"byte {place} must begin a segment, got {data[place : place + 2].hex()}")
        kind, place = found[1][0], found.end()
        if kind == END_OF_PICTURE:
            break
        length = int.from_bytes(data[place : place + 2])
        body = data[place + 2 : place + length]
        if not (kind >= 0xC0 and not 0xD0 <= kind <= 0xD8) or length < 2:
            raise Damaged(f"byte {place - 1} must name a segment, got {kind:02x}")
        if len(body) < length - 2:
            raise Damaged("its end marker is missing")
        place += length
        if kind == HUFFMAN:
            _read_tables(body, tables)
        if kind in FRAMES:
            layout.progressive = kind == PROGRESSIVE
            _read_frame(body, layout)
        elif kind == RESTART_INTERVAL:
            interval = int.from_bytes(body[:2])
        elif kind == SCAN:
            end = _END.search(data, place)
            if end is None:
                raise Damaged("its end marker is missing")
            made = _scan(body, place, end.start(), interval, tables, layout.progressive)
            layout.scans.append(made)
            place = end.start()
    if not layout.scans or not layout.sampling:
        raise Damaged("it has no compressed data")
    layout.end = place
    return layout


def _read_frame(body: bytes, layout: Layout) -> None:
    if len(body) < 6 or len(body) < 6 + 3 * body[5] or layout.sampling:
        raise Damaged("its frame header is cut, or a second one")
    layout.size = (int.from_bytes(body[1:3]), int.from_bytes(body[3:5]))
    for i in range(6, 6 + 3 * body[5], 3):
        layout.sampling[body[i]] = (max(1, body[i + 1] >> 4), max(1, body[i + 1] & 15))


def _read_tables(body: bytes, tables: dict[int, bytes]) -> None:
    place = 0
    while place < len(body):
        n_codes = sum(body[place + 1 : place + 17])
        definition = body[place + 1 : place + 17 + n_codes]
        if len(definition) < 16 + n_codes:
            raise Damaged("a Huffman table is cut")
        tables[body[place]] = definition
        place += 17 + n_codes


def _scan(
    body: bytes, start: int, end: int, interval: int, tables: dict[int, bytes], progressive: bool
) -> Scan:
    n = body[0] if body else 0
    if not n or len(body) < 4 + 2 * n:
        raise Damaged("a scan header is cut")
    first, last, bits = body[1 + 2 * n : 4 + 2 * n]
    further = progressive and bits >> 4 > 0
    if progressive and not (first == last == 0 or 0 < first <= last < 64 and n == 1):
        raise Damaged(f"a scan must hold direct or other coefficients, got {first} to {last}")

    def of(numbers: int) -> tuple[np.ndarray, ...]:
        direct, other = numbers >> 4, 16 + (numbers & 15)
        if not progressive:
            return code_table(tables[direct], True), code_table(tables[other], False)
        if first > 0:
            return (symbol_table(tables[other]),)
        return () if further else (code_table(tables[direct], True),)

    try:
        own = tuple(of(numbers) for numbers in body[2 : 2 + 2 * n : 2])
    except KeyError:
        raise Damaged("a Huffman table is missing") from None
    components = tuple(body[1 : 1 + 2 * n : 2])
    return Scan(start, end, components, first, last, bits & 15, further, interval, own)


def _n_units(scan: Scan, layout: Layout) -> int:
    """Counts the units of a scan: blocks of its one component, or groups of blocks of all."""
    most = [max(s[i] for s in layout.sampling.values()) for i in (0, 1)]
    own = layout.sampling.get(scan.components[0], (1, 1))
    h, v = own if len(scan.components) == 1 else (1, 1)
    height, width = layout.size
    if len(scan.components) == 1:
        across, down = -(-width * h // most[0]), -(-height * v // most[1])
        return -(-across // 8) * -(-down // 8)
    return -(-width // (8 * most[0])) * -(-height // (8 * most[1]))


def _require_blocks(
    data: bytes, scan: Scan, layout: Layout, blocks: dict[int, list[int]]
) -> None:
    """Walks one scan. ``blocks`` says by component which coefficients are not zero so far, of a
    progressive picture, and is brought up to date.
    """
    tables = []
    for component, own in zip(scan.components, scan.tables, strict=True):
        h, v = layout.sampling.get(component, (1, 1))
        tables += [own] * (h * v if len(scan.components) > 1 else 1)
    n_units, first = _n_units(scan, layout), 0
    known = blocks.setdefault(scan.components[0], [0] * n_units) if scan.first else []
    for content in _RESTART.split(data[scan.start : scan.end]):
        part = range(first, min(n_units, first + (scan.interval or n_units)))
        codes, first = Codes(content), part.stop
        if not layout.progressive:
            require_blocks(codes, len(part), [(direct, other) for direct, other in tables])
        elif scan.first:
            walk = walk_further if scan.further else walk_first
            walk(codes, known, part, (scan.first, scan.last), tables[0][0])
        elif scan.further:
            codes.require_end(len(part) * len(tables))  # a bit for each block
        else:
            walk_direct(codes, len(part), [direct for (direct,) in tables])


def _require_precision(layout: Layout) -> None:
    """Refuses a progressive file that lost its last scans: every coefficient ends with bit 0."""
    for component in layout.sampling:
        own = [scan for scan in layout.scans if component in scan.components]
        sent = {k for scan in own if scan.bit == 0 for k in range(scan.first, scan.last + 1)}
        if not sent >= set(range(64)):
            raise Damaged("its last scans are missing")


def _longer(data: bytes, layout: Layout, filler: bytes) -> bytes:
    """Returns the file with more bytes behind each part of its compressed data."""
    return data[: layout.scans[0].start] + b"".join(_lengthened(data, layout, filler))


def _lengthened(data: bytes, layout: Layout, filler: bytes) -> Iterator[bytes]:
    for scan, following in zip(layout.scans, [*layout.scans[1:], None], strict=True):
        content = data[scan.start : scan.end]
        yield _RESTART.sub(lambda mark: filler + mark[0], content) + filler
        yield data[scan.end : len(data) if following is None else following.start]
