"""Sentences that several pages share, each of which follows from the statement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dpgen.privacy.accounting.accountant import round_up
from dpgen.privacy.statements.attack import attack_sentences
from dpgen.privacy.statements.public_start import start_of
from dpgen.privacy.statements.randomised_labels import randomised_of
from dpgen.privacy.statements.statement import is_enforced, stated_relation
from dpgen.privacy.statements.transcription import words_of
from dpgen.release.subject import Subject

ORIGINS = {
    "uniform": "are equal",
    "given": "were chosen by whoever drew the set",
    "released": "follow noisy class counts of the private records, under the same guarantee",
}
MOST_NAMES = 30  # of classes, on a page that is read
WARNING = (
    "NO PRIVACY GUARANTEE. These images were made by a method whose privacy claim is not verified. "
    "Nothing here bounds what they give away about a record. Treat them as you treat the private "
    "records themselves."
)


def guarantee(subject: Subject) -> str:
    """States the guarantee in a sentence, word for word as it is stated."""
    return str(subject.content["statement"])


def why_none(subject: Subject) -> str:
    """Says why a set without a guarantee has none; no number of it."""
    content = subject.content
    return (
        f"The method is {content['mechanism']['id']}. {content['reason']} "
        f"({content['reference']}). notice.json says more."
    )


def unit(subject: Subject) -> str:
    """States whose privacy is protected: a record's, or a whole person's."""
    relation = stated_relation(subject.content["guarantee"])
    if is_enforced(subject.content["guarantee"]):
        return (
            "One person, with all of their records. Enforced: the records of each person were "
            f"counted by unit id, and at most {relation.max_records_per_unit} of each were used."
        )
    if relation.is_of_teachers:
        return (
            "One teacher, with all records that it was trained on: a whole silo. That no record is "
            "behind two of them is declared by whoever ran the transcription, and not checked."
        )
    if relation.max_records_per_unit == 1:
        return (
            "One record, an image with its label. Who has several images in the data is protected "
            "less than epsilon says."
        )
    return (
        f"One person, with all of their records, of which there are at most "
        f"{relation.max_records_per_unit}: declared by whoever ran the training, and not checked."
    )


def larger_units(subject: Subject) -> str:
    """States what the same run costs someone who has more or fewer records; "" where nothing is
    stated.
    """
    group: Mapping[str, Any] = subject.content["guarantee"]["group"]
    told = [f"{price} for {m}" for m, price in group.items() if price is not None]
    what = "teachers" if subject.content["guarantee"]["unit"] == "teacher" else "records"
    return f"By number of {what}, epsilon at the same delta: {', '.join(told)}." if told else ""


def neighbours(subject: Subject) -> str:
    """Says what two data sets differ by that nobody can tell apart."""
    relation = stated_relation(subject.content["guarantee"])
    if relation.is_of_teachers:
        return f"Two lists of teachers are neighbours that differ by {relation.phrase}."
    return f"Two data sets are neighbours that differ by {relation.phrase}."


def delta(subject: Subject) -> str:
    return f"{round_up(subject.content['guarantee']['delta'], 6):g}"


def attacks(subject: Subject) -> list[str]:
    """Says what epsilon means: what an attacker can gain, at most."""
    return attack_sentences(subject.content)


def public_facts(subject: Subject) -> list[str]:
    """Says what is published as it is, and covered by no epsilon."""
    facts = subject.facts
    names = [code(name) for name in facts["class_names"]]
    more = len(names) - MOST_NAMES
    listed = ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    told = [str(subject.content["declared"])] if subject.certified else []
    channels, height, width = facts["shape"]
    said = [words for part in subject.parts for words in (start_of(part), words_of(part))]
    origins = [words for words in said if words is not None]
    return [
        *told,
        f"Shape of the images: {channels} x {height} x {width} (channels, height, width).",
        f"Number of {'teachers' if facts.get('adjacency') == 'fixed_slots' else 'records'}: "
        + ", ".join(dict.fromkeys(str(part["facts"]["n_records"]) for part in subject.parts))
        + ".",
        f"Classes: {listed}.",
        *dict.fromkeys(origins),
    ]


def not_covered(subject: Subject) -> list[str]:
    """Says what the guarantee leaves out, as the statement says it."""
    content = subject.content
    choices = [part["tuning"]["statement"] for part in subject.parts]
    caveats = [one for part in subject.parts for one in part["implementation"]["caveats"]]
    told = [
        "What is learned about the whole population, which is what the set is for.",
        "Evaluation: scores that were computed on private records.",
        *choices,
        *(one for part in subject.parts for one in randomised_of(part)),
        *(f"{one[0].upper()}{one[1:]}." for one in caveats),
    ]
    if content.get("mixture", {}).get("disjoint"):
        told.append("That the data sets share no record is declared by whoever mixed the set.")
    return list(dict.fromkeys(told))


def limits(subject: Subject) -> list[str]:
    """Says what a reader of the images has to know."""
    drawn: Mapping[str, Any] = subject.content["synthetic_dataset"]
    told = [
        "The images were drawn from a model. The guarantee bounds what they give away about a "
        "record, and does not rule out that one looks like it."
        if subject.certified
        else WARNING,
        "Noise was added in training: rare cases and small groups are shown worst, or not at all. "
        "Errors and bias of the private records are learned with the rest.",
        "Labels say which class an image was drawn for. They are not annotations of what it shows.",
    ]
    if drawn.get("labels") == "uniform":
        told.append(
            "Every class has the same number of images, but for a remainder: shares of classes say "
            "nothing about the private data."
        )
    elif str(drawn.get("labels", "")).startswith("released"):
        told.append(
            "Shares of classes follow class counts of the private records that were released with "
            "noise, under the same guarantee: they are near the true shares, and not equal to them."
        )
    elif "labels" in drawn and "fair" not in drawn:
        told.append(
            "How many images each class has was chosen by whoever drew them, and not learned from "
            "the private data."
        )
    if "fair" in drawn:
        told += _fair(drawn["fair"])
    if drawn.get("filters", "none") != "none":
        told.append(f"Images were chosen: {drawn['filters']}{_counted(drawn)}.")
    if drawn.get("repeats", "none") != "none":
        told.append(f"Images repeat: {drawn['repeats']}.")
    return told


def _fair(table: Mapping[str, Any]) -> list[str]:
    """Says what fair labels are, whence their shares are, and what they do not promise."""
    groups: dict[str, int] = {}
    for name, (_, group) in table["classes"].items():
        groups[group] = groups.get(group, 0) + table["counts"][name]
    names = [f"{n} of {code(group)}" for group, n in groups.items()]
    more = len(names) - MOST_NAMES
    listed = ", ".join(names[:MOST_NAMES]) + (f" and of {more} more groups" if more > 0 else "")
    gap = table["parity_gap"]
    rounded = f" but for {gap:.3g}, as images are whole" if gap else ""
    told = [
        "Labels are fair: target and group of a class, as privacy.json lists them, are "
        f"independent. Every group has the same shares of targets{rounded}. Images by group: "
        f"{listed}."
    ]
    for by, words in ORIGINS.items():
        axes = [axis for axis in ("targets", "groups") if table.get(axis, {}).get("by") == by]
        if axes:
            told.append(f"Shares of {' and of '.join(axes)} {words}.")
    return [
        *told,
        "Fair labels do not say that images of all groups are equally good, nor that a classifier "
        "of them treats groups alike: `dpgen evaluate SET --reference DATA --fair FILE` measures "
        "that.",
    ]


def _counted(drawn: Mapping[str, Any]) -> str:
    """Says how many images were drawn again, where a set says so."""
    if "redraws" not in drawn:
        return ""
    n = drawn["redraws"]
    return (
        f"; {n['images']} of {drawn['samples']} were, {n['draws']} times in all, and it still "
        f"takes {n['rejected']} for another class"
    )


def code(text: str) -> str:
    """Writes a name in Markdown, as it is and with no power over the page.

    >>> code("red fox"), code("a`b")
    ('`red fox`', '`` a`b ``')
    """
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{shown}{space}{fence}"


def bullets(lines: Iterable[str]) -> str:
    return "".join(f"* {line}\n" for line in lines)
