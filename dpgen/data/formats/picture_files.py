"""Recognises picture files by name and first bytes: those that are read, those that are known and
refused by name, and other files that may lie beside pictures.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dpgen.data.formats.jpeg import JPEG_MAGIC
from dpgen.data.formats.png import PNG_MAGIC

DICOM_MARK = slice(128, 132)  # where a DICOM file says DICM, behind bytes of any value

# By format: suffixes, of those that are read. What each may hold is checked when it is decoded.
READ = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WebP": (".webp",),
    "PNM": (".pgm", ".ppm", ".pbm", ".pnm"),
    "DICOM": (".dcm", ".dicom"),
}
SUFFIXES = tuple(suffix for suffixes in READ.values() for suffix in suffixes)

# Pictures that are not read. Several camera and slide formats begin like TIFF, and hold a small
# preview in the place of a TIFF's picture, so the name takes precedence over the content.
_CONVERT = "convert it to PNG or TIFF"
_VOLUMES = {"NIfTI", "a volume"}
_SLICES = (
    "save its slices as pictures, as 16-bit PNG for --value-range, in folders of their people for "
    "--unit folder"
)
UNREAD = {
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif", ".avifs"),
    "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jpm"),
    "JPEG XL": (".jxl",),
    "JPEG XR": (".jxr", ".wdp", ".hdp"),
    "JPEG-LS": (".jls",),
    "camera raw": (
        ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2",
        ".raf", ".pef", ".raw", ".srw", ".x3f", ".3fr", ".iiq", ".kdc", ".dcr", ".erf", ".mrw",
    ),
    "a microscope's or scanner's slide": (
        ".svs", ".ndpi", ".scn", ".mrxs", ".vms", ".bif", ".qptiff", ".czi", ".lif", ".nd2",
        ".lsm", ".vsi",
    ),
    "NIfTI": (".nii", ".nii.gz"),
    "a volume": (".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".img", ".hdr"),
    "Photoshop": (".psd", ".psb"),
    "a drawing": (".svg", ".svgz", ".eps", ".ps", ".ai", ".wmf", ".emf", ".xcf", ".kra"),
    "floating-point": (".exr", ".pfm"),
    "an old format": (
        ".tga", ".ico", ".icns", ".cur", ".pcx", ".dds", ".sgi", ".rgb", ".rgba", ".bw", ".ras",
        ".xbm", ".xpm", ".pam", ".fits", ".fit", ".fts", ".mpo", ".apng", ".jng", ".mng", ".qoi",
        ".im", ".msp", ".spi", ".ima", ".flif", ".bpg",
    ),
    "a film": (
        ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp",
    ),
    "a document": (".pdf", ".djvu", ".doc", ".docx", ".ppt", ".pptx"),
}  # fmt: skip

# Files that may lie beside pictures and are skipped: text, tables and signatures.
PASSED_OVER = frozenset({
    ".txt", ".caption", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml",
    ".toml", ".html", ".log", ".sig", ".xmp",
})  # fmt: skip
PASSED_OVER_NAMES = frozenset({"readme", "license", "licence", "notice", "authors", "citation.cff"})

_BRANDS = {  # of ISO media files, whose box "ftyp" names them
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC",
    b"hevx": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF",
    b"crx ": "camera raw",
}  # fmt: skip
_BEGINNINGS = {
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"II\xbc\x01": "JPEG XR",
    b"FUJIFILMCCD-RAW": "camera raw",
    b"8BPS": "Photoshop",
    b"v/1\x01": "floating-point",
    b"NRRD000": "a volume",
    b"%PDF-": "a document",
    b"\x1a\x45\xdf\xa3": "a film",
}  # fmt: skip
_BITMAP_HEADERS = {12, 40, 52, 56, 64, 108, 124}  # bytes of the header behind the first 14
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class PictureFormat(NamedTuple):
    """The format of a picture file, by name, and whether it is read."""

    name: str
    is_read: bool


def picture_format(name: str, head: bytes) -> PictureFormat | None:
    """Recognises the format of a picture file by its name and its first bytes; None if neither is
    that of a picture, or if only the name is that of a format that is read.

    Args:
        name: name of the file, or of a member of an archive.
        head: its first bytes, at least 132 of them if it has as many.
    """
    unread = _named(name, UNREAD)
    if unread is not None:
        return PictureFormat(unread, False)
    if head[DICOM_MARK] == b"DICM":
        return PictureFormat("DICOM", True)
    if head.startswith(PNG_MAGIC):
        return PictureFormat("PNG", True)
    if head.startswith(JPEG_MAGIC):
        return PictureFormat("JPEG", True)
    if head.startswith((b"GIF87a", b"GIF89a")):
        return PictureFormat("GIF", True)
    if head.startswith(_TIFF):
        return PictureFormat("TIFF", True)
    if head[:4] == b"RIFF":
        kind = {b"WEBP": PictureFormat("WebP", True), b"AVI ": PictureFormat("a film", False)}
        return kind.get(head[8:12])
    if head[4:8] == b"ftyp":
        return PictureFormat(_BRANDS.get(head[8:12], "a film"), False)
    for beginning, word in _BEGINNINGS.items():
        if head.startswith(beginning):
            return PictureFormat(word, False)
    if may_be_passed_over(name):  # a text may begin with one of the marks below
        return None
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS:
        return PictureFormat("BMP", True)
    if re.match(rb"P[1-6]\s", head):
        return PictureFormat("PNM", True)
    return None


def unread_picture(name: str, head: bytes) -> str | None:
    """Describes what is wrong with a picture of a format that is not read, and what to do; None for
    other files.
    """
    found = picture_format(name, head)
    if found is None or found.is_read:
        return None
    cure = _SLICES if found.name in _VOLUMES else _CONVERT
    return f"is {found.name}, which is not read: {cure}, or move it away"


def unread_volume(name: str) -> str | None:
    """Describes what is wrong with a file that is named as NIfTI, whatever it holds, as it is not
    unpacked; None for other names.
    """
    return unread_picture(name, b"") if _named(name, UNREAD) == "NIfTI" else None


def check_beside_pictures(name: str, head: bytes, place: str) -> None:
    """Refuses a file among pictures that is neither read nor on the list of files to skip, so that
    no record is lost silently.

    Args:
        name: name of the file, or of a member of an archive.
        head: its first bytes, as for `picture_format`.
        place: its name in an error message.
    """
    found = picture_format(name, head)
    if found is not None and found.is_read:
        return
    wrong = unread_picture(name, head)
    if wrong is not None:
        raise ValueError(f"{place} {wrong}")
    if may_be_passed_over(name):
        return
    raise ValueError(
        f"{place} lies among pictures and is none that is read ({', '.join(READ)}), nor text that "
        f"may lie there ({' '.join(sorted(PASSED_OVER))}): convert it or move it away"
    )


def may_be_passed_over(name: str) -> bool:
    """Returns whether a file of this name may lie beside pictures and belongs to no record."""
    last = re.split(r"[/\\]", name)[-1].lower()
    return _suffix(name) in PASSED_OVER or last in PASSED_OVER_NAMES


def _suffix(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    return ("." + last.rpartition(".")[2]).lower() if "." in last else ""


def _named(name: str, formats: dict[str, tuple[str, ...]]) -> str | None:
    """Returns the format that a file's suffix names."""
    lower = name.lower()
    return next((word for word, suffixes in formats.items() if lower.endswith(suffixes)), None)
