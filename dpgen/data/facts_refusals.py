"""Messages for data whose facts are not those of their ledger: what differs, and what to do."""

from __future__ import annotations

from pathlib import Path

from dpgen.images.facts import PublicFacts


def other_bound(path: Path, known: PublicFacts) -> str:
    """Describes the conflict between a ledger of counted units and data of uncounted ones, or the
    reverse, and what to do.
    """
    apart = "Otherwise they can have an account of their own: --ledger NEWFILE --overlap charge"
    if known.unit_bound == "enforced":
        return (
            f"the ledger {path} is kept for units whose records were counted, and these were not: "
            f"give --unit and --max-records-per-unit {known.max_records_per_unit}, as before. "
            f"{apart}"
        )
    return (
        f"the ledger {path} is kept for units whose size is declared, and statements of its runs "
        f"say so: drop --unit to continue with it. {apart}"
    )


def other_facts(path: Path, known: PublicFacts, facts: PublicFacts) -> str:
    """Describes the facts that differ from those in the data set's ledger, and what to do."""
    cures = []
    if known.shape != facts.shape:
        depth, height, width = known.shape
        size = f"--size {height} " if height == width else ""
        cures.append(f"open the data as they were then ({size}--channels {depth})")
    if known.class_names != facts.class_names:
        cures.append(f"name the {known.n_classes} classes as they were then (--classes)")
    if facts.relation.is_of_teachers and known.n_records != facts.n_records:
        cures.append(f"name the folder of the {known.n_records} teachers in the slots of then")
    if facts.origin == "stated":
        cures.append("state these facts in the file of --facts, or drop --facts to use them")
    return (
        f"the ledger {path} holds other facts for this data set: {known.to_dict()}, got "
        f"{facts.to_dict()}: {', '.join(cures)}. Under other facts they can have an account of "
        "their own, which is charged beside this one: --ledger NEWFILE --overlap charge"
    )
