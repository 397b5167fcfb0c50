"""`dpgen transcribe --teachers`: what was typed, what is declared, what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

# What is typed with --teachers alone, by the name of the parameter.
OWN = (
    "images", "public", "public_value_range", "epsilon", "delta", "classes", "ledger", "limit",
)  # fmt: skip


def refuse_without_teachers(given: dict[str, Any]) -> None:
    """Refuses options that mean nothing without --teachers."""
    typed = [name for name in OWN if given[name] is not None]
    typed += ["plan"] if given["plan"] else []
    typed += ["overlap"] if given["overlap"] != "refuse" else []
    if typed:
        raise ValueError(
            f"--{typed[0].replace('_', '-')} is of --teachers FOLDER, which charges the teachers: "
            "a transcription of a run costs nothing and takes none"
        )


def teach(
    teachers: Path, out: Path | None, assignments: tuple[str, ...], seed: int | None, device: str,
    *, quiet: bool, **given: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Plans, and unless only the plan was asked for charges and asks, the teachers in a folder."""
    from dpgen.commands.inputs import parse_value_range
    from dpgen.commands.next_command import say_next
    from dpgen.commands.run_notes import note_run
    from dpgen.data.public import open_public
    from dpgen.data.teachers import open_teachers
    from dpgen.images.classes import parse_classes
    from dpgen.methods.teachers import Teachers
    from dpgen.privacy.accounting.accountant import Budget, check_ranges
    from dpgen.runs.context import Hardware
    from dpgen.settings import assign, from_dict, parse_assignment
    from dpgen.transcription.teaching import open_teaching, require_apart

    if given["epsilon"] is None:
        raise ValueError("--epsilon is missing: the most that each teacher may spend")
    if out is None and not given["plan"]:
        raise ValueError("--out is missing: the run folder to make, or to resume (or --plan)")
    if out is not None:
        require_apart(teachers, out)
    check_ranges(given["epsilon"], given["delta"])
    values: dict[str, Any] = {}
    for text in assignments:
        assign(values, *parse_assignment(text))
    settings = from_dict(Teachers.Settings, values)
    data = open_teachers(
        teachers, classes=None if given["classes"] is None else parse_classes(given["classes"]),
        ledger=given["ledger"], overlap=given["overlap"],
    )  # fmt: skip
    n = data.facts.n_records
    if given["limit"] is not None:
        data.limit = Budget.for_records(given["limit"], given["delta"], n)
    public = given["public"]
    window = parse_value_range(given["public_value_range"], "--public-value-range")
    if public is None and window is not None:
        raise ValueError("--public-value-range is of public images: name them with --public DATA")
    if public is not None:
        public = open_public(public, data.facts, value_range=window)
    found = open_teaching(
        data, images=given["images"], public=public, settings=settings,
        budget=Budget.for_records(given["epsilon"], given["delta"], n),
    )  # fmt: skip
    click.echo("\n".join(found.price), err=not given["plan"])
    click.echo(f"declared by you: {found.declared}", err=not given["plan"])
    if given["plan"]:
        click.echo("nothing was charged")
        return
    assert out is not None
    finished = (out / "privacy.json").exists()
    try:
        made = found.run(out, seed=seed, hardware=Hardware(device=device), show=not quiet)
    finally:
        note_run(out, data.ledger, str(teachers), [])
    if finished:
        click.echo(f"{out} is finished already; nothing was charged", err=True)
    document = made.document
    click.echo("\n".join(document.sentences))
    click.echo(f"student {out / 'student.safetensors'}, statement {out / document.name}")
    say_next("evaluate", out, "--reference", "DATA")
