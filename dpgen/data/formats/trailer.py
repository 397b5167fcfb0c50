"""What lies behind a picture in its own file: another one is refused, as Pillow passes over it."""

from __future__ import annotations

import re

from dpgen.data.formats.picture_files import picture_format

_SECOND_PNG = re.compile(rb"IEND\xaeB`\x82\0*(?=\x89PNG\r\n)")


def refuse_second(data: bytes, kind: str, name: str) -> None:
    """Refuses a file of two pictures or more, where the format says where the first one ends.

    Other bytes behind a picture are let pass, and so is what lies behind a JPEG: cameras put
    previews, depth maps and films there.

    Args:
        data: the file.
        kind: its format.
        name: the words that name the file in a message.
    """
    found = picture_format("", data[_end(data, kind) :].lstrip(b"\0")[:512])
    if found is not None and found.is_read:
        raise ValueError(
            f"{name} must hold one picture, got another one, {found.name}, behind it: save each "
            "picture as a file"
        )


def _end(data: bytes, kind: str) -> int:
    """Returns where a picture ends; the length of the file where its format does not say."""
    if kind == "PNG":
        found = _SECOND_PNG.search(data)
        return len(data) if found is None else found.end()
    if kind == "BMP":
        return max(int.from_bytes(data[2:6], "little"), 26)
    return int.from_bytes(data[4:8], "little") + 8 if kind == "WebP" else len(data)
