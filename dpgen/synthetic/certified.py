"""Writes a synthetic set with the statement that it inherits from its model, and their pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpgen.data.export import write_images
from dpgen.images.images import Images
from dpgen.privacy.statements.certificate import CertificateError, tree_hash
from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.release.cards import cards_of


def stated(
    document: Certificate | Notice, files: Mapping[str, Any], synthetic: Mapping[str, Any],
    origin: Path,
) -> Mapping[str, Any]:  # fmt: skip
    """Makes the statement of a set that was drawn from the model of a document.

    Args:
        document: the model's certificate or notice.
        files: the hash over the files of the set.
        synthetic: what the statement says of the set.
        origin: where the document lies, for an error message.

    Raises:
        CertificateError: the document lacks a field that a set inherits.
    """
    try:
        return document.inherited(files=files, synthetic=synthetic).content
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise CertificateError(f"the statement of {origin} lacks or misplaces {error}") from None


def write_certified(
    blocks: Iterable[Images],
    out: Path,
    document: Certificate | Notice,
    synthetic: Mapping[str, Any],
    class_names: Sequence[str],
    origin: Path,
) -> dict[str, Any]:
    """Writes a whole set in the format that ``synthetic`` names, and returns its statement.

    Args:
        blocks: all images of the set, in order.
        out: the folder to make; absent or empty.
        document, synthetic, origin: as for `stated`.
        class_names: one per class, in label order.
    """
    statement: dict[str, Any] = {}

    def certificate(folder: Path) -> dict[str, Any]:
        statement.update(stated(document, tree_hash(folder), synthetic, origin))
        return statement

    write_images(
        blocks,
        out,
        format=synthetic["format"],
        n_images=synthetic["samples"],
        class_names=class_names,
        certificate=certificate,
        certificate_name=document.name,
        pages_fn=cards_of,
    )
    return statement
