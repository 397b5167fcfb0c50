"""The document beside every model and every synthetic set: a certificate, or a notice where there
is no guarantee. Each is a type of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from dpgen.privacy.statements import given_teachers
from dpgen.privacy.statements.certificate import NOTICE, read_statement, statement_bytes
from dpgen.privacy.statements.notice import inherited_notice, read_notice, sentences
from dpgen.privacy.statements.public_start import start_of
from dpgen.privacy.statements.randomised_labels import randomised_of
from dpgen.privacy.statements.statement import inherited
from dpgen.privacy.statements.transcription import words_of


@dataclass(frozen=True)
class Certificate:
    """A privacy statement, ``privacy.json``: everything that ran was charged and its epsilon covers
    it.

    Args:
        content: the statement, as `dpgen.privacy.statements.statement` builds it.
    """

    content: Mapping[str, Any]

    name: ClassVar[Literal["privacy.json"]] = "privacy.json"
    kind: ClassVar[str] = "statement"

    def __repr__(self) -> str:
        return f"Certificate: {self.content.get('statement', 'without a statement')}"

    @property
    def sentences(self) -> list[str]:
        """Returns the sentences that are printed."""
        own = [
            given_teachers.words_of(self.content), start_of(self.content), words_of(self.content),
            *randomised_of(self.content),
        ]  # fmt: skip
        told = [words for words in own if words is not None]
        return [self.content["statement"], self.content["declared"], *told]

    def to_bytes(self) -> bytes:
        return statement_bytes(self.content)

    def inherited(self, *, files: Mapping[str, Any], synthetic: Mapping[str, Any]) -> Certificate:
        """Makes the certificate of a synthetic set that was drawn from this model."""
        return Certificate(inherited(self.content, files=files, synthetic=synthetic))


@dataclass(frozen=True)
class Notice:
    """A notice, ``notice.json``: there is no guarantee.

    Args:
        content: the notice, as `dpgen.privacy.statements.notice` builds it.
    """

    content: Mapping[str, Any]

    name: ClassVar[Literal["notice.json"]] = "notice.json"
    kind: ClassVar[str] = "notice"

    def __repr__(self) -> str:
        return "Notice: no privacy guarantee"

    @property
    def sentences(self) -> list[str]:
        """Returns the sentences that are printed."""
        return sentences(self.content)

    def to_bytes(self) -> bytes:
        return json.dumps(self.content, indent=1).encode()

    def inherited(self, *, files: Mapping[str, Any], synthetic: Mapping[str, Any]) -> Notice:
        """Makes the notice of a synthetic set that was drawn from this model. Raises KeyError or
        TypeError when this notice lacks a field that is printed.
        """
        told = Notice(inherited_notice(self.content, files=files, synthetic=synthetic))
        _ = told.sentences
        return told


def read_document(folder: Path) -> Certificate | Notice:
    """Reads the certificate or the notice of a run or a synthetic set.

    Raises CertificateError when there is neither, when there are both, or when it was changed.
    """
    if (folder / NOTICE).exists():
        return Notice(read_notice(folder))
    return Certificate(read_statement(folder))
