"""What an export says of the privacy of its run."""

from __future__ import annotations

from collections.abc import Iterator

from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.privacy.statements.public_start import KEY, start_of
from dpgen.release.wording import WARNING


def stated(document: Certificate | Notice) -> dict[str, str]:
    """Returns the privacy metadata of weights: texts by name, as in a safetensors file."""
    content = document.content
    if not isinstance(document, Certificate):
        return {"privacy": WARNING, "notice_sha256": content["sha256"]}
    guarantee = content["guarantee"]
    keys = ("epsilon", "delta", "adjacency", "unit", "max_records_per_unit")
    told = {key: repr(guarantee[key]).strip("'") for key in keys}
    told["unit_bound"] = guarantee.get("unit_bound", "declared")
    if (start := start_of(content)) is not None:
        told[KEY] = start
    return {"privacy": content["statement"], **told, "certificate_sha256": content["sha256"]}


def origin(document: Certificate | Notice) -> Iterator[str]:
    """Yields the paragraphs of a README that say what holds for the run, and where that is stated:
    in ``run-privacy.json`` or ``run-notice.json`` beside it.
    """
    content, certified = document.content, isinstance(document, Certificate)
    yield " ".join(document.sentences) + "\n" if certified else f"**{WARNING}**\n"
    yield (
        f"`run-{document.name}` is the {document.kind} of the run that it was exported "
        f"from (sha256 {content['sha256']}). Exporting and using it cost no privacy. "
        "`dpgen verify` checks the run; this folder holds other files.\n"
    )
