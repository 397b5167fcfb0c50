"""Reports what an audit found: one line for each test, with what it would have detected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpgen.privacy.statements.certificate import CERTIFICATE

SCHEMA = "dpgen-audit/1"


@dataclass(frozen=True)
class Curve:
    """The points of a game's plot: true positives (y) against false positives (x).

    limit: the most that the claim allows, at the same x.
    """

    title: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    limit: tuple[float, ...]


@dataclass(frozen=True)
class Finding:
    """One test of one stage, or of the whole run.

    kind: "deterministic", "two worlds" or "one run".
    seen: what was found, in words.
    power: what the test would have seen, in words, and what it would not.
    numbers: the numbers of the finding, as JSON values.
    """

    kind: str
    name: str
    passed: bool
    seen: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    curve: Curve | None = None
    power: str = ""


@dataclass(frozen=True)
class Audit:
    """All findings about one run.

    certificate: digest of the run's privacy statement, which names every file and event.
    files: SHA-256 of the files that were audited, by name.
    meaning: what the claimed epsilon means, in sentences.
    date: when the audit ended, in UTC.
    version: of dpgen, which audited.
    document: the file whose digest ``certificate`` is: a notice where nothing is guaranteed.
    """

    run: str
    certificate: str
    statement: str
    findings: Sequence[Finding]
    files: Mapping[str, str]
    meaning: Sequence[str]
    date: str
    version: str
    document: str = CERTIFICATE

    @property
    def passed(self) -> bool:
        return all(finding.passed for finding in self.findings)

    @property
    def verdict(self) -> str:
        failed = [finding.name for finding in self.findings if not finding.passed]
        if failed:
            return f"VIOLATION: {', '.join(failed)}"
        return (
            "No violation found. An audit can refute an epsilon and never prove one: each line "
            "says what it would have seen."
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "run": self.run,
            "certificate": self.certificate,
            "statement": self.statement,
            "meaning": list(self.meaning),
            "files": dict(self.files),
            "date": self.date,
            "version": self.version,
            "passed": self.passed,
            "findings": [
                {
                    "kind": f.kind,
                    "name": f.name,
                    "passed": f.passed,
                    "seen": f.seen,
                    "power": f.power,
                    "numbers": _written(f.numbers),
                }
                for f in self.findings
            ],
        }

    def text(self) -> str:
        what = "certificate" if self.document == CERTIFICATE else "notice"
        lines = [f"audited {self.date} by dpgen {self.version}: {self.run}, {what} SHA-256 "
                 f"{self.certificate}"]  # fmt: skip
        kind = None
        for finding in self.findings:
            if finding.kind != kind:
                kind = finding.kind
                lines.append(f"\n{kind}")
            mark = "ok    " if finding.passed else "FAILED"
            lines.append(f"{mark}  {finding.name}: {finding.seen}")
            if finding.power:
                lines.append(f"        would have seen {finding.power}")
        claimed = [f"Claimed: {self.statement}", *self.meaning]
        return "\n".join([*lines, "", *claimed, "", self.verdict])


def _written(value: Any) -> Any:  # noqa: ANN401
    """Writes infinity as a word, because JSON has none."""
    if isinstance(value, Mapping):
        return {name: _written(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_written(held) for held in value]
    return "infinity" if isinstance(value, float) and math.isinf(value) else value
