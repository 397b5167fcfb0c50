"""The notice of a transcription that has no guarantee: it was made of a run with a notice, or of a
classifier that came alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpgen.privacy.statements.certificate import now
from dpgen.privacy.statements.notice import SCHEMA, VERIFIED
from dpgen.privacy.statements.transcription import KEY, METHOD, Chain
from dpgen.storage.canonical import digest

WHY_ALONE = (
    "The classifier came alone, and nothing that can be computed from it shows how it was trained: "
    "no bound on what it gives away about a record can be derived, and none on what is made of it."
)
WHERE_ALONE = "post-processing, theorem A3, hands on the guarantee of what it begins with"


def notice_of_transcription(
    parent: Mapping[str, Any], chain: Chain, *, files: Mapping[str, str], version: str
) -> dict[str, Any]:
    """Makes the notice of a transcription of a run with a notice: that notice, word for word, and
    what was made of the run.

    Args:
        parent: notice of the run.
        chain: the runs that it goes back to.
        files: SHA-256 of every file that it covers.
        version: version of dpgen that made it.
    """
    made_of = ", then ".join(f"{x['folder']!r} with notice {x['statement'][:12]}" for x in chain)
    held = {
        "chain": [dict(link) for link in chain],
        "version": version,
        "statement": f"Generator and student were made of {made_of}, and have no guarantee either.",
    }
    own = ("artifact", "sha256", KEY)
    rest = {key: value for key, value in parent.items() if key not in own}
    return _sealed({**rest, "artifact": _artifact(files, [digest(parent)]), KEY: held})


def notice_of_lone_classifier(
    sha256: str, *, settings: Mapping[str, Any], facts: Mapping[str, Any],
    files: Mapping[str, str], version: str,
) -> dict[str, Any]:  # fmt: skip
    """Makes the notice of a transcription of a classifier that came alone. It states no epsilon.

    Args:
        sha256: of the classifier's file.
        settings: every number that shapes what was made of it.
        facts: public facts of its records, as they were stated.
        files: SHA-256 of every file that it covers.
        version: version of dpgen that made it.
    """
    return _sealed({
        "schema": SCHEMA,
        "verified": VERIFIED,
        "notice": "no guarantee: nothing here bounds what these files give away about a record",
        "artifact": _artifact(files, []),
        "mechanism": {"id": f"{METHOD}/alone", "version": version, "settings": dict(settings)},
        "reason": WHY_ALONE,
        "reference": WHERE_ALONE,
        "facts": dict(facts),
        "data_set": {"name": "not known", "ledger": "none: nothing was charged"},
        KEY: {
            "chain": [],
            "classifier": sha256,
            "version": version,
            "statement": f"Generator and student were made of the classifier {sha256[:12]} alone.",
        },
    })  # fmt: skip


def _artifact(files: Mapping[str, str], parents: list[str]) -> dict[str, Any]:
    return {"kind": "model", "files": dict(files), "created": now(), "parents": parents}


def _sealed(notice: Mapping[str, Any]) -> dict[str, Any]:
    return {**notice, "sha256": digest(notice)}
