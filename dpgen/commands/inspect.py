"""`dpgen inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpgen.commands.new_file import NewFile
from dpgen.commands.next_command import EPSILON, carried, say_next
from dpgen.commands.options import json_option, reading_options, silo_option, unit_option

if TYPE_CHECKING:
    from dpgen.data.inspection import Inspection

N_SHOWN = 20  # classes, files and shapes in words; JSON has all


@click.command()
@click.argument("data", metavar="DATA")
@reading_options
@unit_option
@silo_option
@click.option(
    "--picture", metavar="FILE", type=NewFile(".png"),
    help="Write a picture of a few records by class, a PNG that only you may read. It shows "
    "private records.",
)  # fmt: skip
@json_option
def inspect(data: str, picture: Path | None, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Show what would be read from DATA, before anything is charged: format, splits, classes,
    shape, values, and the files passed over.

    Every record is read as `dpgen train` would read it, with the same options. Nothing is charged,
    and nothing is written but the file of --picture.
    """
    from dpgen.commands.inputs import reading_choices
    from dpgen.data.formats.pictures import encode_png
    from dpgen.data.inspection import inspect_images
    from dpgen.progress import progress_bar
    from dpgen.storage.durable import replace_durably

    with progress_bar("reading images", 1, show=not as_json) as advance:
        found, shown = inspect_images(data, **reading_choices(given))
        advance()
    if picture is not None:
        replace_durably(picture, encode_png(shown), mode=0o600)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _print_table(found)
    if picture is not None:
        click.echo(f"{picture} shows private records", err=True)
    if not as_json:
        from dpgen.commands.train import plan

        bound = [] if given["unit"] is None else ["--max-records-per-unit", "1"]
        bound += [] if given["silo"] is None else ["--max-records-per-silo", "M"]
        method = [] if given["silo"] is None else ["dpsd"]
        say_next("plan", *method, *carried(plan), *bound, "--epsilon", EPSILON)


def _print_table(found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dpgen.commands.cli import one_line
    from dpgen.data.inspection import PRIVATE

    table = Table.grid(padding=(0, 2))
    for name, text in _rows(found):
        # One character could move the cursor or be taken for a style: names are anyone's.
        table.add_row(Text(name, style="bold"), Text(one_line(text)))
    Console().print(table)
    click.echo(PRIVATE)


def _rows(found: Inspection) -> list[tuple[str, str]]:
    depth, height, width = found.shape
    mode = {1: "grey", 3: "RGB"}[depth]
    rows = [
        ("data", found.location),
        ("format", ", ".join([found.kind, *(f"{n} {name}" for name, n in found.files.items())])),
        *_split_rows(found),
        ("records", f"{found.n_records} of split {found.split}"),
        ("shape", f"{mode}, {height}x{width}, as {depth}x{height}x{width}"),
    ]
    stored = [f"{shape} ({n})" for shape, n in found.stored.items()]
    rows.append(("stored as", _shortened(stored, "shapes")))
    rows.append((
        "values",
        f"{found.lowest} to {found.highest} of 0..255; {found.black:.1%} of the pixels are black, "
        f"{found.white:.1%} white",
    ))  # fmt: skip
    classes = [
        f"{name} ({n})" for name, n in zip(found.class_names, found.class_counts, strict=True)
    ]
    rows.append(
        (
            "1 class" if len(classes) == 1 else f"{len(classes)} classes",
            _shortened(classes, "classes"),
        )
    )
    if found.unit_counts is not None:
        each = [f"{n} with {size}" for size, n in found.unit_counts.items()]
        rows.append((f"{sum(found.unit_counts.values())} people", _shortened(each, "sizes")))
    if found.silo_counts is not None:
        silos = [f"{name} ({n})" for name, n in found.silo_counts.items()]
        rows.append((f"{len(silos)} silos", _shortened(silos, "silos")))
    over = [f"{name}: {why}" for name, why in found.passed_over.items()]
    rows += [("passed over", text) for text in over[:N_SHOWN]]
    if len(over) > N_SHOWN:
        rows.append(("", f"and {len(over) - N_SHOWN} more files (--json lists all)"))
    if not over:
        rows.append(("passed over", "no file"))
    return [*rows, *(("note", note) for note in found.notes)]


def _split_rows(found: Inspection) -> list[tuple[str, str]]:
    counts = {name: n for name, n in found.splits.items() if isinstance(n, int)}
    if len(counts) == len(found.splits) and len(set(counts.values())) == 1:
        return [("splits", "none: the same records for train, test and all")]
    told = ", ".join(f"{name} {n}" for name, n in counts.items())
    refused = [(name, why) for name, why in found.splits.items() if name not in counts]
    return [("splits", told), *(("", f"not {name}: {why}") for name, why in refused)]


def _shortened(items: list[str], what: str) -> str:
    left = len(items) - N_SHOWN
    return ", ".join(items[:N_SHOWN]) + (f" and {left} more {what} (--json)" if left > 0 else "")
