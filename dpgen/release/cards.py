"""The pages beside the images of a set: made from its statement, and checked against it.

The hash over the set's files does not cover them, so that an old set can get them and a new
``release.toml`` can change them while certificate and signature stay as they are. Instead they are
verified by making them again: `cards_check` does this, and compares every byte of pages that this
version wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from dpgen.privacy.statements.certificate import CARDS, CertificateError, tree_hash
from dpgen.privacy.statements.document import read_document
from dpgen.privacy.verification.check import Check
from dpgen.privacy.verification.verify import reading, verify
from dpgen.release.croissant import croissant
from dpgen.release.dataset_card import dataset_card
from dpgen.release.registry import registry_entry
from dpgen.release.release_file import LARGEST_FILE, NAME, ReleaseFile, read_release
from dpgen.release.release_page import release_page
from dpgen.release.subject import MARK, Subject
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_bytes

WRITERS: dict[str, Callable[[Subject], str]] = {
    "README.md": dataset_card,
    "RELEASE.md": release_page,
    "release.yaml": registry_entry,
    "croissant.json": croissant,
}
LARGEST_CARD = 1 << 26  # bytes of a page, which lists the class names
assert {*WRITERS, NAME} == set(CARDS)


def cards_of(folder: Path, words: ReleaseFile | None = None) -> dict[str, bytes]:
    """Makes the pages of a set by name, from the certificate or notice in ``folder``.

    Args:
        folder: the synthetic set.
        words: the curator's words; None for none.

    Raises:
        CertificateError: there is no statement of a set, or it lacks a field that a page needs.
    """
    with reading(folder):
        subject = Subject(folder, read_document(folder), words or ReleaseFile())
        return {name: write_fn(subject).encode() for name, write_fn in WRITERS.items()}


def write_cards(folder: Path, release: Path | None = None) -> list[str]:
    """Writes the pages of a set beside its images, each in one step, and returns their names. No
    other file is touched.

    Args:
        folder: the synthetic set.
        release: a ``release.toml``, which is stored beside the pages; None takes the stored one, if
            there is one.

    Raises:
        CertificateError: the set does not hold.
        ValueError: a file with a page's name is not a page, or ``release`` is not valid.
    """
    document = read_document(folder)
    if document.name == "privacy.json":
        failed = [check.name for check in verify(folder) if check.failed]
    else:
        with reading(folder):
            stated = document.content["artifact"]["files"]
            failed = [] if tree_hash(folder) == stated else ["files"]
    if failed:
        raise CertificateError(f"{folder} does not hold ({', '.join(failed)}): it gets no pages")
    kept = folder / NAME
    source = release if release is not None else kept if kept.is_file() else None
    words = read_release(source) if source is not None else ReleaseFile()
    pages = cards_of(folder, words)
    for name in pages:
        _check_replaceable(folder / name)
    if release is not None:
        # Written first, so that a check detects old pages that are left after a kill.
        replace_durably(kept, read_bytes(release, LARGEST_FILE))
    for name, page in pages.items():
        replace_durably(folder / name, page)
    return list(pages)


def cards_check(folder: Path) -> Check:
    """Checks the pages of a set against its certificate: each is made again and compared."""
    there = [name for name in WRITERS if (folder / name).exists()]
    kept = folder / NAME
    if not there and kept.exists():
        return Check("pages", False, f"{NAME} lies there without them: dpgen card writes them")
    if not there:
        return Check("pages", None, "there are none: dpgen card writes them")
    try:
        pages = cards_of(folder, read_release(kept) if kept.exists() else None)
        held = {name: read_bytes(folder / name, LARGEST_CARD) for name in there}
        other = [name for name, page in held.items() if page != pages[name]]
        writers = {_writer(held[name]) for name in other}
    except (OSError, ValueError) as error:
        return Check("pages", False, f"they cannot be made again: {error}")
    if other and version("dpgen") not in writers:
        return Check(
            "pages", None,
            f"{', '.join(other)}: not compared, written by dpgen {', '.join(sorted(writers))}; "
            f"dpgen card {folder} writes them again",
        )  # fmt: skip
    if other:
        return Check(
            "pages", False,
            f"{', '.join(other)}: not what this version makes of the certificate; dpgen card "
            f"{folder} writes it again",
        )  # fmt: skip
    return Check("pages", True, f"{', '.join(there)} say what the certificate says")


def require_compared(folder: Path) -> None:
    """Raises CertificateError for pages that contradict the certificate, or that another version
    wrote, so that they cannot be compared.
    """
    check = cards_check(folder)
    if check.failed or (check.held is None and any((folder / name).exists() for name in WRITERS)):
        raise CertificateError(f"{folder}: {check.name}: {check.seen}: nothing is signed")


def _writer(page: bytes) -> str:
    """Reads the version of dpgen that a page names as its writer."""
    found = re.search(re.escape(MARK) + r" \(dpgen ([^)\s]{1,40})\)", page.decode(errors="replace"))
    return found[1] if found else version("dpgen")


def _check_replaceable(path: Path) -> None:
    """Refuses to overwrite a file that this program did not write: its pages have a mark."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path} must be a file or absent: move it away")
    if not path.exists():
        return
    text = read_bytes(path, LARGEST_CARD)
    if MARK.encode() not in text:
        raise ValueError(f"{path} was not written by dpgen card: move it away, or rename it")
