"""`dpgen plan` and `dpgen train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dpgen.commands.inputs import (
    budget_of,
    chosen,
    configured,
    hardware,
    open_data,
    open_start,
)  # fmt: skip
from dpgen.commands.launched import led_by_process_0
from dpgen.commands.new_file import NewFile
from dpgen.commands.next_command import EPSILON, carried, fresh, say_next, say_sample
from dpgen.commands.options import (
    account_options,
    budget_options,
    data_options,
    hardware_options,
    init_option,
    json_option,
    public_options,
    quiet_option,
    readers_option,
    unverified_option,
    yes_option,
)


@click.command()
@click.argument("method", required=False)
@data_options
@budget_options
@init_option
@hardware_options
@click.option(
    "--preview",
    type=NewFile(),
    help="Write a picture of what each value of sketch.augment does, on public images.",
)
@json_option
def plan(
    method: str | None, init: Path | None, preview: Path | None, as_json: bool,
    **given: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Show the price and the settings of a run, before any record is read.

    Says what each stage will charge, and estimates time and memory from a rehearsal on random
    images. A mode without a guarantee says so, and what its worst case is. `dpgen methods` lists
    the METHODs; without one, one is chosen for the data, the budget and this machine.
    """
    from dpgen.generator.silos import with_silos

    named = [] if method is None else [method]
    if method is None:
        method, given = chosen(given)
    kind, settings, facts = configured(method, given)
    data = None
    if facts is None or given["unit"] is not None or given["silo"] is not None:
        data = open_data({**given, "quiet": as_json})
        facts = data.facts
    generator = kind(budget=budget_of(given, facts.n_records), settings=settings)
    if data is not None:
        generator.settings = with_silos(generator, generator.settings, data)
    if init is not None:
        open_start(generator, facts, None, None, None, init, show=False)
    generator.settings = generator.resolve(facts)
    if preview is not None:
        from dpgen.commands.plan_preview import save_plan_preview

        save_plan_preview(generator.settings, facts.shape, preview)
    from dpgen.commands.plan_report import PlanReport, plan_report
    from dpgen.methods.expectation import NOTHING
    from dpgen.privacy.accounting.calibration import SAMPLED
    from dpgen.progress import progress_bar

    with progress_bar("rehearsal", 1, show=not as_json) as advance:
        report = plan_report(generator, facts, hardware(given))
        advance()
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=1))
        return
    click.echo(report.text())
    if data is not None and data.silos is not None:
        click.echo(data.silos.sentence)
    if isinstance(report, PlanReport) and report.expectation.level == NOTHING:
        words = [*named, *carried(plan, but={"epsilon", "delta", "preview"})]
        more = max(EPSILON, min(10 * given["epsilon"], SAMPLED[1]))
        say_next("plan", *words, "--epsilon", f"{more:g}")
        return
    words = [*named, *carried(train)]
    words += [] if given["data"] is not None else ["--data", "DATA"]
    words += [] if generator.certified else ["--allow-unverified"]
    say_next("train", *words, "--out", fresh(Path("run")))


@click.command()
@click.argument("method", required=False)
@data_options
@budget_options
@hardware_options
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Run folder to make, or to resume.",
)
@click.option("--seed", type=int, help="Seed of the public randomness, as of initial "
              "weights; never of the noise. Default: a fresh one. Recorded either way.")
@readers_option
@account_options
@public_options
@init_option
@unverified_option
@yes_option
@quiet_option
@led_by_process_0
def train(
    method: str | None, out: Path, seed: int | None, public: str | None,
    public_value_range: str | None, public_classes: str | None, init: Path | None,
    allow_unverified: bool, yes: bool, quiet: bool, **given: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Learn from private images under a budget. Run it again to resume: it never spends twice.

    Before anything is charged it says how much time and memory the run would take on this machine,
    and asks where that is much. `dpgen methods` lists the METHODs; without one, one is chosen for
    the data, the budget and this machine.
    """
    from dpgen.commands.consent import agree
    from dpgen.commands.evaluate import evaluate
    from dpgen.commands.run_notes import note_run
    from dpgen.generator.silos import with_silos

    if method is None:
        method, given = chosen(given)
    kind, settings, _ = configured(method, given)
    kind.check_mode_allowed(settings.mode, allow_unverified)
    data = open_data({**given, "quiet": quiet})
    generator = kind(budget=budget_of(given, data.facts.n_records), settings=settings)
    generator.settings = with_silos(generator, generator.settings, data)
    start = open_start(
        generator, data.facts, public, public_value_range, public_classes, init, show=not quiet
    )
    if not data.public and data.facts.origin != "stated":
        facts = data.facts
        click.echo(
            f"declared public by you: {facts.n_records} records, shape {facts.shape}, "
            f"{facts.n_classes} classes (--facts FILE states them instead)",
            err=True,
        )
    if data.silos is not None:
        click.echo(data.silos.sentence, err=True)
    data.open_ledger(generator.budget, out / "checkpoint")
    if given["overlap"] != "refuse":
        for other in data.overlaps():
            also = "charged there as well" if given["overlap"] == "charge" else "not charged there"
            click.echo(f"shared: {other}; {also}", err=True)
    agree(generator, data, out, hardware(given), yes=yes, show=not quiet)
    finished = any((out / name).exists() for name in ("privacy.json", "notice.json"))
    try:
        generator.fit(
            data,
            out=out,
            seed=seed,
            hardware=hardware(given),
            show=not quiet,
            allow_unverified=allow_unverified,
            **start,
        )
    finally:
        if not data.public:
            reading = carried(evaluate, but={"quiet", "split"})
            note_run(out, data.ledger, given["data"], reading)
    if finished:
        click.echo(f"{out} is finished already; nothing was charged", err=True)
    document = generator.document
    click.echo("\n".join(document.sentences))
    click.echo(
        f"model {out / 'model.safetensors'}, picture {out / 'preview.png'}, "
        f"{document.kind} {out / document.name}"
    )
    if generator.n_distinct is not None:
        click.echo(f"{generator.n_distinct} images; whoever draws more gets them again")
    say_sample(out, unverified=not generator.certified, n_images=generator.n_distinct)
