"""The command line. Results on standard output, progress on standard error.

Exit status: 0 done; 1 the check said no; 2 bad input or budget refused, nothing written; 3 the
machine failed (disk, memory), run it again to resume; 130 interrupted, run it again to resume.

Commands import what they use when they run: `dpgen --help` loads neither torch nor diffusers.
"""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dpgen.methods import METHODS

REFUSED, MACHINE_FAILED, INTERRUPTED = 2, 3, 130


class _Program(click.Group):
    """Turns what can go wrong into one clear line and the right exit status."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, MemoryError, KeyboardInterrupt) as error:
            if ctx.params.get("verbose"):
                traceback.print_exc()
            status, text = _outcome(error)
        click.echo(f"dpgen: {text}", err=True)
        ctx.exit(status)


_INPUT_ERRORS = (
    ValueError,
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
)


def _outcome(error: BaseException) -> tuple[int, str]:
    """The exit status of an error, and the line that says it."""
    if isinstance(error, _INPUT_ERRORS):
        return REFUSED, str(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted; the same command goes on where this one stopped"
    again = "run the same command again"
    if isinstance(error, MemoryError):
        return MACHINE_FAILED, f"out of memory: lower --micro-batch or free some, then {again}"
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    cure = f"make space, then {again}" if full else again
    return MACHINE_FAILED, f"the machine failed ({error}): {cure}"


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"dpgen {version('dpgen')}")
        ctx.exit()


@click.group(
    cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
              help="Show the version and exit.")  # fmt: skip
def main(verbose: bool) -> None:
    """Learn once from private images under differential privacy, then sample for ever.

    \b
    A first run, on digits that come with the package:
      dpgen plan     dp-sad --data digits --epsilon 10
      dpgen train    dp-sad --data digits --epsilon 10 --out run
      dpgen sample   run -n 10000 --out images --preview images.png
      dpgen evaluate images --reference digits
      dpgen verify   images

    DATA is `digits`, or a path to IDX files (MNIST's own), npz, Parquet in the Hugging Face layout,
    WebDataset tar shards, or a folder of PNG or JPEG images with one sub-folder per class.
    """


def _options(*options: Callable[..., Any]) -> Callable[..., Any]:
    def apply(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


_data = _options(
    click.option("--data", metavar="DATA", help="The private images: `digits` or a path."),
    click.option("--split", type=click.Choice(["train", "test", "all"]), default="train",
                 show_default=True, help="Which of them, where the data have splits."),
    click.option("--size", type=int, metavar="PIXELS",
                 help="Resize the short side and crop the centre square."),
    click.option("--channels", type=click.Choice(["1", "3"]),
                 help="Convert to grey (1) or RGB (3)."),
    click.option("--value-range", metavar="LOW,HIGH", help="Black and white of float arrays."),
    click.option("--facts", metavar="FILE", type=click.Path(path_type=Path),
                 help="TOML file of public facts: shape, class_names, n_records. Without it the "
                 "data's own headers are declared public by whoever runs this."),
    click.option("--adjacency", type=click.Choice(["add_remove", "replace_one"]),
                 help="What neighbouring data sets differ by: a record more or less (the "
                 "default), or another record in its place."),
)  # fmt: skip

_budget = _options(
    click.option("--epsilon", type=float, required=True, help="Privacy budget, greater than 0."),
    click.option("--delta", type=float, help="Default: min(1e-5, 1 / (10 n_records))."),
    click.option("--config", metavar="FILE", type=click.Path(path_type=Path),
                 help="TOML file of method settings; --set goes over it."),
    click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE",
                 help="One method setting, as in teacher.n_steps=500. Repeat for more."),
)  # fmt: skip

_hardware = _options(
    click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True,
                 help="auto takes a GPU where there is one."),
    click.option("--precision", type=click.Choice(["no", "bf16"]), default="no", show_default=True,
                 help="Of the networks; clipping, sums and noise are float64 either way."),
    click.option("--micro-batch", type=click.IntRange(1), default=32, show_default=True,
                 help="Records whose gradients are held at once: memory against speed."),
)  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bars.")


@main.command()
@click.argument("method")
@_data
@_budget
@_hardware
@_json
def plan(method: str, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """The price and the settings of a run, before any record is read.

    Says what each stage will charge, and estimates time and memory from a rehearsal on random
    images.
    """
    generator, facts = _configured(method, given)
    if facts is None:
        facts = _open(given).facts
    generator.budget = _with_delta(generator.budget, given["delta"], facts.n_records)
    generator.settings = generator.resolve(facts)
    from dpgen.reports import plan_report

    report = plan_report(generator, facts, _work(given))
    click.echo(json.dumps(report.to_dict(), indent=1) if as_json else report.text())


@main.command()
@click.argument("method")
@_data
@_budget
@_hardware
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Run folder to make, or to resume.",
)
@click.option("--seed", type=int, help="Of the public randomness; drawn and recorded by default.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    help="Ledger file instead of the one of this data set.",
)
@click.option("--limit", type=float, metavar="EPSILON",
              help="Most that this data set may ever spend; default: "
              "the budget of its first run.")  # fmt: skip
@_quiet
def train(method: str, out: Path, seed: int | None, quiet: bool, **given: Any) -> None:  # noqa: ANN401
    """Learn from private images under a budget. Run it again to resume: it never spends twice."""
    generator, _ = _configured(method, given)
    data = _open({**given, "quiet": quiet})
    generator.budget = _with_delta(generator.budget, given["delta"], data.facts.n_records)
    if not data.public and data.facts.origin == "declared":
        facts = data.facts
        click.echo(
            f"declared public by you: {facts.n_records} records, shape {facts.shape}, "
            f"{facts.n_classes} classes (--facts FILE states them instead)",
            err=True,
        )
    finished = (out / "privacy.json").exists()
    generator.fit(data, out=out, seed=seed, hardware=_work(given), show=not quiet)
    if finished:
        click.echo(f"{out} is finished already; nothing was charged", err=True)
    click.echo(generator.privacy["statement"])
    click.echo(
        f"model {out / 'model.safetensors'}, picture {out / 'preview.png'}, "
        f"statement {out / 'privacy.json'}"
    )


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-n", "n_images", type=click.IntRange(1), required=True, help="How many images.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to make; absent or empty."
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(["folder", "npz", "parquet", "webdataset"]),
    default="folder",
    show_default=True,
)
@click.option(
    "--preview", type=click.Path(path_type=Path), help="Write a picture of a few images, by class."
)
@click.option("--seed", type=int, help="Default: a fresh one. Recorded either way.")
@click.option("--sampler", help="ddim, ddpm, heun or edm; default: the method's own.")
@click.option(
    "--steps", type=click.IntRange(1), default=50, show_default=True, help="Of --sampler."
)
@click.option(
    "--guidance",
    type=float,
    default=0.0,
    show_default=True,
    help="Classifier-free guidance weight.",
)
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True)
@_quiet
def sample(
    run: Path, n_images: int, out: Path, layout: str, preview: Path | None, seed: int | None,
    sampler: str | None, steps: int, guidance: float, device: str, quiet: bool,
) -> None:  # fmt: skip
    """Make a synthetic data set from a trained RUN. Costs no privacy, any number of times."""
    from dpgen.synthesis import synthesise

    statement = synthesise(
        run, n_images, out, layout=layout, preview=preview, seed=seed, sampler=sampler, steps=steps,
        guidance=guidance, device=device, show=not quiet,
    )  # fmt: skip
    click.echo(f"{n_images} images in {out}")
    click.echo(statement["statement"])


@main.command()
@click.argument("sets", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--reference", required=True, metavar="DATA", help="Real images to test on: `digits` or a path."
)
@click.option(
    "--split",
    type=click.Choice(["train", "test", "all"]),
    default="test",
    show_default=True,
    help="Which of the reference.",
)
@click.option("--size", type=int, metavar="PIXELS")
@click.option("--channels", type=click.Choice(["1", "3"]))
@click.option("--network", type=click.Choice(["cnn", "mlp"]), default="cnn", show_default=True)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Classifiers per set."
)
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    help="Write a picture: a strip per set, the reference first.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the scores to a file."
)
@_quiet
def evaluate(sets: tuple[Path, ...], reference: str, json_file: Path | None, **given: Any) -> None:  # noqa: ANN401
    """Accuracy on real images of a classifier that was trained on synthetic ones only.

    Reading a private reference is not covered by any epsilon: keep such scores in the house.
    """
    from dpgen.reports import evaluation_report

    for option, file in (("--json", json_file), ("--preview", given["preview"])):
        if file is not None and not file.absolute().parent.is_dir():
            raise ValueError(f"{option} {file}: there is no folder {file.absolute().parent}")
    report = evaluation_report(sets, reference, **given)
    if json_file is not None:
        from dpgen.privacy.chain import replace_durably

        replace_durably(json_file, json.dumps(report.to_dict(), indent=1).encode())
    click.echo(report.text())


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_json
def verify(folder: Path, as_json: bool) -> None:
    """Recompute epsilon from the events of a run or a synthetic set, and check every hash."""
    from dpgen.privacy.certificate import CertificateError, read_statement
    from dpgen.privacy.certificate import verify as check

    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist")
    try:
        checks = check(folder)
        statement = read_statement(folder)["statement"]
    except CertificateError as error:
        click.echo(f"FAILED: {error}", err=True)
        sys.exit(1)
    passed = all(c.passed for c in checks)
    if as_json:
        click.echo(json.dumps({"passed": passed, "checks": [c.__dict__ for c in checks]}, indent=1))
    else:
        for c in checks:
            click.echo(f"{'ok    ' if c.passed else 'FAILED'}  {c.name}: {c.seen}")
        click.echo(f"\n{statement}" if passed else "\nThe statement does not hold.")
        click.echo("Checked: integrity. Not checked: authenticity (nothing is signed).")
    sys.exit(0 if passed else 1)


@main.command()
@_json
def methods(as_json: bool) -> None:
    """The methods, their modes and what each guarantees."""
    if as_json:
        click.echo(json.dumps({name: m._asdict() for name, m in METHODS.items()}, indent=1))
        return
    for name, method in METHODS.items():
        click.echo(f"{name:8}{method.summary}")
        for mode, guarantee in method.modes.items():
            click.echo(f"        {mode}: {guarantee}")


@main.command()
@click.option(
    "--ledger",
    "path",
    type=click.Path(path_type=Path),
    help="One ledger file; default: all of them.",
)
@click.option(
    "--raise", "raised", type=float, metavar="EPSILON", help="Raise the limit, on record."
)
def ledger(path: Path | None, raised: float | None) -> None:
    """Data sets known here: spent, limit, runs."""
    from dpgen.reports import ledger_table

    click.echo(ledger_table(path, raised))


def _configured(method: str, given: dict[str, Any]) -> tuple[Any, Any]:
    """The generator with its settings, and the stated facts (None without a facts file)."""
    import tomllib

    from dpgen.data.images import PublicFacts
    from dpgen.methods import find
    from dpgen.privacy.accounting import Budget
    from dpgen.settings import assign, from_dict, parse_assignment

    kind = find(method)
    values: dict[str, Any] = {}
    if given["config"] is not None:
        try:
            values = tomllib.loads(given["config"].read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"--config {given['config']} must be TOML: {error}") from None
    for text in given["assignments"]:
        assign(values, *parse_assignment(text))
    # A placeholder delta until the facts are known; `Budget` checks both numbers now, before any
    # data are opened.
    budget = Budget(given["epsilon"], given["delta"] if given["delta"] is not None else 1e-9)
    generator = kind(budget=budget, settings=from_dict(kind.Settings, values))
    facts = PublicFacts.load(given["facts"]) if given["facts"] is not None else None
    return generator, facts


def _with_delta(budget: Any, delta: float | None, n_records: int) -> Any:  # noqa: ANN401
    from dpgen.privacy.accounting import Budget, default_delta

    chosen = Budget(budget.epsilon, delta if delta is not None else default_delta(n_records))
    chosen.check_records(n_records)
    return chosen


def _open(given: dict[str, Any]) -> Any:  # noqa: ANN401
    from dpgen.data.images import PublicFacts
    from dpgen.data.private import open_images
    from dpgen.privacy.accounting import Budget, default_delta
    from dpgen.progress import progress_bar

    if given["data"] is None:
        raise ValueError("--data is missing: name `digits` or a path")
    facts = PublicFacts.load(given["facts"]) if given["facts"] is not None else None
    with progress_bar("open data", 1, show=not given.get("quiet", True)) as advance:
        data = open_images(
            given["data"],
            split=given["split"],
            size=given["size"],
            channels=int(given["channels"]) if given["channels"] else None,
            value_range=_value_range(given["value_range"]),
            facts=facts,
            adjacency=given["adjacency"],
            ledger=given.get("ledger"),
        )
        advance()
    if given.get("limit") is not None:
        delta = (
            given["delta"] if given["delta"] is not None else default_delta(data.facts.n_records)
        )
        data.limit = Budget(given["limit"], delta)
    return data


def _value_range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--value-range takes LOW,HIGH as in 0,1; got {text!r}") from None
    return low, high


def _work(given: dict[str, Any]) -> Any:  # noqa: ANN401
    from dpgen.workplace import Hardware

    return Hardware(given["device"], given["precision"], given["micro_batch"])
