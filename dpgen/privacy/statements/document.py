"""What lies beside every model and every synthetic set: a certificate, or the notice of one that
has no guarantee. Which of the two it is, is its type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from dpgen.privacy.statements.certificate import NOTICE, read_statement, statement_bytes
from dpgen.privacy.statements.notice import inherited_notice, read_notice, sentences
from dpgen.privacy.statements.statement import inherited


@dataclass(frozen=True)
class Certificate:
    """A privacy statement, ``privacy.json``: what ran was charged and epsilon covers it.

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
        """What is printed of it."""
        return [self.content["statement"], self.content["declared"]]

    def to_bytes(self) -> bytes:
        return statement_bytes(self.content)

    def inherited(self, *, files: Mapping[str, Any], synthetic: Mapping[str, Any]) -> Certificate:
        """The certificate of a synthetic set that was drawn from this model."""
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
        """What is printed of it."""
        return sentences(self.content)

    def to_bytes(self) -> bytes:
        return json.dumps(self.content, indent=1).encode()

    def inherited(self, *, files: Mapping[str, Any], synthetic: Mapping[str, Any]) -> Notice:
        """The notice of a synthetic set that was drawn from this model; KeyError or TypeError when
        this one lacks what is printed of it.
        """
        told = Notice(inherited_notice(self.content, files=files, synthetic=synthetic))
        _ = told.sentences
        return told


def read_document(folder: Path) -> Certificate | Notice:
    """The certificate or the notice of a run or a synthetic set.

    Raises CertificateError when there is neither, when there are both, or when it was changed.
    """
    if (folder / NOTICE).exists():
        return Notice(read_notice(folder))
    return Certificate(read_statement(folder))
