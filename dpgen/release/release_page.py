"""``RELEASE.md``: one page for the people who sign a release."""

from __future__ import annotations

from collections.abc import Iterator

from dpgen.privacy.statements.attack import percent
from dpgen.release.subject import MARKED, Subject
from dpgen.release.wording import (
    WARNING,
    attacks,
    bullets,
    code,
    delta,
    guarantee,
    larger_units,
    limits,
    neighbours,
    not_covered,
    public_facts,
    unit,
    why_none,
)

ROWS = {
    "curators": "Published by",
    "publication_date": "On",
    "intended_use": "Intended use",
    "region": "Region",
    "sector": "Sector",
    "actors": "Who sees what, and who is trusted",
    "retention": "Kept for",
    "license": "License",
}


def release_page(subject: Subject) -> str:
    """Writes the page in Markdown."""
    return "\n".join(_sections(subject))


def _sections(subject: Subject) -> Iterator[str]:
    yield f"# Release of {subject.name}\n"
    if not subject.certified:
        yield f"**{WARNING}**\n"
    yield "## What is released\n"
    yield f"{subject.description}. Made by {subject.methods}, {subject.created}.\n"
    yield "The curator's own words, which nothing here checks:\n"
    words = {said: subject.words.of(key) for key, said in ROWS.items()}
    yield bullets(f"{said}: {text or 'not stated'}" for said, text in words.items())
    if subject.certified:
        yield from _privacy(subject)
    else:
        yield "## Privacy\n"
        yield f"{why_none(subject)}\n"
        yield "## Published as it is\n"
        yield bullets(public_facts(subject))
    yield "## Limits\n"
    yield bullets(limits(subject))
    yield from _files(subject)
    yield "## Signatures\n"
    yield (
        "I have read this page and release the files that it lists"
        + ("." if subject.certified else ", **without a privacy guarantee**.")
        + "\n"
    )
    for role in ("Curator", "Privacy or data protection officer"):
        yield f"{role}: ______________________  Name: ______________________  Date: ____________\n"
    yield f"<!-- {MARKED} -->\n"


def _privacy(subject: Subject) -> Iterator[str]:
    stated = subject.content["guarantee"]
    yield "## Whose privacy, and how much\n"
    yield f"**{guarantee(subject)}**\n"
    rows = {
        "Unit": unit(subject),
        "Neighbours": neighbours(subject),
        "epsilon": f"{stated['epsilon']:g} ({larger_units(subject) or 'of one unit.'})",
        "delta": f"{delta(subject)}, the same for all of these numbers.",
        "Covers": f"{stated['covers']}.",
        "Why this epsilon (the curator's words)": subject.words.of("justification") or "not stated",
    }
    yield bullets(f"{name}: {text}" for name, text in rows.items())
    yield "### What an attacker can gain\n"
    yield bullets(attacks(subject))
    found = subject.attack().found
    yield "| False positive rate | True positive rate, at most |\n|---|---|"
    yield "".join(f"| {percent(rate)} | {percent(share)} |\n" for rate, share in found.items())
    yield "These are upper bounds for every attacker, computed from the stages that ran.\n"
    yield "## Published as it is: epsilon does not cover it\n"
    yield bullets(public_facts(subject))
    yield "## Not covered\n"
    yield bullets(not_covered(subject))


def _files(subject: Subject) -> Iterator[str]:
    stated = subject.content["artifact"]["files"]
    yield "## Files\n"
    yield (
        f"{stated['count']} files, of which {subject.document.name} states one SHA-256 over all "
        f"names and contents: {code(stated['sha256'])}.\n"
    )
    yield bullets(f"{code(name)} {code(value)}" for name, value in subject.hashes().items())
    if subject.certified:
        yield (
            "`dpgen verify FOLDER` computes epsilon and every hash again, and compares this page "
            "with the statement that it was made from.\n"
        )
