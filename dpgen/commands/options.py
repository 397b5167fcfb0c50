"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from dpgen.data.formats.table import written


class OneOf(click.ParamType):  # type: ignore[type-arg]
    """A name of a table, which is read when it is needed.

    Args:
        names_fn: the names.
    """

    name = "choice"

    def __init__(self, names_fn: Callable[[], Iterable[str]]) -> None:
        self.names_fn = names_fn

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.names_fn())}]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None  # noqa: ANN401
    ) -> str:  # fmt: skip
        names = list(self.names_fn())
        if value not in names:
            from dpgen.settings import nearest

            self.fail(
                f"{value!r} is not one of {', '.join(names)}; {nearest(value, names)}", param, ctx
            )
        return str(value)


def options(*chosen: Callable[..., Any]) -> Callable[..., Any]:
    def apply(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(chosen):
            command = option(command)
        return command

    return apply


reading_options = options(
    click.option("--split", type=click.Choice(["train", "test", "validation", "all"]),
                 default="train", show_default=True,
                 help="Which split to read, where the data have several."),
    click.option("--size", type=int, metavar="PIXELS",
                 help="Resize the short side and crop the centre square."),
    click.option("--channels", type=click.Choice(["1", "3"]),
                 help="Convert to grey (1) or RGB (3)."),
    click.option("--value-range", metavar="LOW,HIGH",
                 help="Black and white of float arrays, and of grey pictures of more than 8 bits: "
                 "for these it is a window, beyond which they are black or white."),
    click.option("--classes", metavar="N or NAME,NAME",
                 help="The classes of data whose labels are bare numbers, as in IDX: how many (10 "
                 "for MNIST), or their names. They are published, so they are declared and never "
                 "counted in private labels. Of folders such as batch_0/ their names say that they "
                 "are classes, and 1 that they are none."),
    click.option("--label-column", metavar="NAME",
                 help="The column of metadata.csv, Parquet or of the JSON in tar shards that holds "
                 "the labels, where no column has a usual name (label, class, ...), or several "
                 "have."),
    click.option("--facts", metavar="FILE", type=click.Path(path_type=Path),
                 help="TOML file of public facts: shape, class_names, n_records. Without it the "
                 "data's own headers are declared public by the person who runs this."),
)  # fmt: skip

unit_option = click.option(
    "--unit", metavar="COLUMN or folder or FILE.csv",
    help="Where it is written which person each record is of, so that of each person no more "
    "records are used than plan and train are told. It is a column of Parquet or metadata.csv, an "
    "array of an npz, or a key of the JSON in tar shards; or `folder`, for the folder that a "
    "picture lies in (PERSON/ or CLASS/PERSON/), `top-folder` for PERSON/CLASS/; or a CSV file "
    "with the columns file_name and unit, for IDX index and unit.",
)  # fmt: skip

silo_option = click.option(
    "--silo", metavar="COLUMN or folder or top-folder or FILE.csv",
    help="Where it is written which silo (hospital, branch) each record is of: each silo is then a "
    "shard with a teacher of its own, in dpsd and dgd. As --unit; in folders `folder` reads "
    "CLASS/SILO/, and `top-folder` reads SILO/CLASS/; the column of a CSV file is silo. The list "
    "of silos is published.",
)  # fmt: skip

data_options = options(
    click.option("--data", metavar="DATA",
                 help="The private images: `digits`, or a path or address (see `dpgen --help`)."),
    reading_options,
    click.option("--adjacency", type=click.Choice(["add_remove", "replace_one"]),
                 help="What neighbouring data sets differ by: a record more or less (the "
                 "default), or another record in its place."),
    click.option("--max-records-per-unit", type=click.IntRange(1), metavar="M",
                 help="The most records that one person has in the data; epsilon then protects a "
                 "whole person, not one record. With --unit no more are used of anyone; without it "
                 "you declare that nobody has more. Default: what --facts or the ledger say, else "
                 "1."),
    unit_option,
    silo_option,
    click.option("--silos", metavar="NAME,NAME",
                 help="All silos, also those without records. Default: those that the data name, "
                 "which you then declare public."),
    click.option("--max-records-per-silo", type=click.IntRange(1), metavar="M",
                 help="The most records of a silo that its teacher sees, needed with --silo. It is "
                 "published, so it is declared and never counted."),
)  # fmt: skip

budget_options = options(
    click.option("--epsilon", type=float, required=True,
                 help="Privacy budget, greater than 0: the less, the stronger the guarantee."),
    click.option("--delta", type=float,
                 help="Probability that the bound by epsilon may exceed. Default: min(1e-5, 1 / "
                 "(10 n_records))."),
    click.option("--config", metavar="FILE", type=click.Path(path_type=Path),
                 help="TOML file of method settings; --set takes precedence."),
    click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE",
                 help="One method setting, as in teacher.n_steps=500; `dpgen settings METHOD` "
                 "lists them. Repeat for more."),
)  # fmt: skip

USUAL_STEPS = 50  # of a sampler that is named


def steps_of(sampler: str | None, steps: int | None) -> int:
    """Returns the steps of a named sampler; refuses steps where none is named."""
    if sampler is None and steps is not None:
        raise ValueError(f"--steps {steps} is for a sampler: name one by --sampler, or drop it")
    return steps or USUAL_STEPS


steps_option = click.option(
    "--steps", type=click.IntRange(1),
    help=f"Number of steps of --sampler.  [default: {USUAL_STEPS}]",
)  # fmt: skip
set_options = options(
    click.option("--out", required=True, type=click.Path(path_type=Path),
                 help="Folder to make; absent or empty."),
    click.option("--format", "layout", default="folder", show_default=True,
                 type=OneOf(written), help="How the images are stored."),
)  # fmt: skip

public_options = options(
    click.option("--public", metavar="DATA",
                 help="Images that you declare public, of any form that --data may have, labelled "
                 "or not: the network learns from them before the private stages. They are named "
                 "in the certificate, and none of them may be a private record. Settings: "
                 "teacher.public.*"),
    click.option("--public-value-range", metavar="LOW,HIGH",
                 help="As --value-range, of the public images."),
    click.option("--public-classes", metavar="N or NAME,NAME",
                 help="As --classes, of the public images; labels that are numbers need none."),
)  # fmt: skip

init_option = click.option(
    "--init", metavar="FOLDER", type=click.Path(path_type=Path),
    help="Weights with which the network begins, in place of --public: a folder of diffusers with "
    "a UNet2DModel, which you declare public, or a finished run of other records (or its `dpgen "
    "export`), which has a certificate of its own. They are named in the certificate. "
    "teacher.adapters trains few numbers of a large network.",
)  # fmt: skip

OVERLAP = ["refuse", "charge", "separate"]

account_options = options(
    click.option("--ledger", type=click.Path(path_type=Path),
                 help="Ledger file to use instead of the one kept for this data set: that of the "
                 "data set before it grew or changed, so that the runs on both add up."),
    click.option("--limit", type=float, metavar="EPSILON",
                 help="Largest epsilon that all runs on this data set together may spend; "
                 "default: the budget of its first run."),
    click.option("--overlap", type=click.Choice(OVERLAP),
                 default="refuse", show_default=True,
                 help="What to do when other ledgers hold some of these images: refuse, charge the "
                 "run to them as well, or keep the accounts separate, which statements then say."),
)  # fmt: skip

hardware_options = options(
    click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True,
                 help="auto takes a GPU where there is one."),
    click.option("--precision", type=click.Choice(["no", "bf16"]), default="no", show_default=True,
                 help="Numbers of the networks: `no` is float32, bf16 is faster on a GPU. "
                 "Clipping, sums and noise are float64 either way."),
    click.option("--micro-batch", type=click.IntRange(1),
                 help="Records whose gradients are held in memory at once: fewer take less memory "
                 "and more time. Default: what suits device and batch. A resumed run keeps its "
                 "own."),
)  # fmt: skip
readers_option = click.option(
    "--readers", type=click.Choice(["one", "all"]), default="one", show_default=True,
    help="Under a launcher: process 0 reads the images and sends the others what they compute, or "
    "all read their own, for which --data must name the same images in each.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
yes_option = click.option(
    "-y", "--yes", is_flag=True,
    help="Do not ask whether a run that takes over an hour, or more than half of what the data set "
    "has left, may begin.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
unverified_option = click.option(
    "--allow-unverified",
    is_flag=True,
    help="Accept a mode, or a run, without a verified privacy guarantee, as mode paper; it gets a "
    "notice in place of a certificate.",
)
