"""Turns what was typed into a method's settings, its budget, its data and its hardware."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def configured(method: str, given: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Returns the class of the method, its settings, and the stated facts (None without a facts
    file). No data are opened: the budget, whose delta depends on the number of records, is not
    made yet, but epsilon and delta are refused here where no number of records allows them.
    """
    from dpgen.images.classes import check_declared, parse_classes
    from dpgen.images.images import PublicFacts
    from dpgen.methods import find
    from dpgen.privacy.accounting.accountant import check_ranges
    from dpgen.settings import assign, from_dict, parse_assignment
    from dpgen.storage.files import read_toml

    check_ranges(given["epsilon"], given["delta"])
    kind = find(method)
    values: dict[str, Any] = {}
    if given["config"] is not None:
        values = read_toml(given["config"])
    for text in given["assignments"]:
        assign(values, *parse_assignment(text))
    settings = from_dict(kind.Settings, values)
    facts = PublicFacts.load(given["facts"]) if given["facts"] is not None else None
    for name in ("adjacency", "max_records_per_unit"):
        if facts is not None and given[name] not in (None, getattr(facts, name)):
            raise ValueError(
                f"--{name.replace('_', '-')} must be what {given['facts']} states, "
                f"{getattr(facts, name)}, got {given[name]}: drop it, or correct the facts"
            )
    if facts is not None and given["classes"] is not None:
        check_declared(parse_classes(given["classes"]), facts.class_names, name="the facts")
    return kind, settings, facts


def chosen(given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Chooses a method for these data, this budget and this machine. Returns its id, and what was
    given with the settings of that choice, and a size where images are large. Says why, on standard
    error.
    """
    import click
    import torch

    from dpgen.images.images import PublicFacts
    from dpgen.methods.advice import advised, advised_size
    from dpgen.privacy.accounting.accountant import check_ranges

    check_ranges(given["epsilon"], given["delta"])  # refused before data are read
    gpu = given["device"] != "cpu" and torch.cuda.is_available()
    stated = given["facts"] is not None
    facts = PublicFacts.load(given["facts"]) if stated else open_data(given).facts
    if given["size"] is None and not stated:
        size = advised_size(facts.shape, gpu=gpu)
        if size is not None:
            wide = f"{facts.shape[1]}x{facts.shape[2]}"
            why = f"as {wide} takes too long here: resized, and cropped to the centre square"
            click.echo(f"chosen: --size {size}, {why}; name another --size to keep more", err=True)
            given = {**given, "size": size}
            facts = open_data(given).facts
    advice = advised(facts, given["epsilon"], gpu=gpu)
    for line in advice.reasons:
        click.echo(f"chosen: {line}", err=True)
    sized = "" if given["size"] is None else f" --size {given['size']}"
    click.echo(f"the same as: {advice.command}{sized}", err=True)
    settings = tuple(f"{name}={value}" for name, value in advice.settings.items())
    return advice.method, {**given, "assignments": (*settings, *given["assignments"])}


def budget_of(given: dict[str, Any], n_records: int) -> Any:  # noqa: ANN401
    """Returns the budget that was typed, for so many records."""
    from dpgen.privacy.accounting.accountant import Budget

    return Budget.for_records(given["epsilon"], given["delta"], n_records)


def open_data(given: dict[str, Any]) -> Any:  # noqa: ANN401
    from dpgen.data.opening import open_images
    from dpgen.images.classes import parse_classes
    from dpgen.images.images import PublicFacts
    from dpgen.privacy.accounting.accountant import Budget
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
            value_range=parse_value_range(given["value_range"]),
            classes=None if given["classes"] is None else parse_classes(given["classes"]),
            facts=facts,
            adjacency=given["adjacency"],
            max_records_per_unit=given["max_records_per_unit"],
            unit=given["unit"],
            silo=given["silo"],
            silos=parse_names(given["silos"]),
            max_records_per_silo=given["max_records_per_silo"],
            label_column=given["label_column"],
            ledger=given.get("ledger"),
            overlap=given.get("overlap", "refuse"),
        )
        advance()
    if given.get("limit") is not None:
        data.limit = Budget.for_records(given["limit"], given["delta"], data.facts.n_records)
    return data


def open_start(
    generator: Any, facts: Any, public: str | None, value_range: str | None,  # noqa: ANN401
    classes: str | None, init: Path | None, *, show: bool,
) -> dict[str, Any]:  # fmt: skip
    """Opens the public images or the weights that were named, and gives the generator the settings
    of a run that starts from them; returns them as arguments of its ``fit``.
    """
    from dpgen.data.public import open_public
    from dpgen.generator.public_start import open_weights, settings_of
    from dpgen.images.classes import parse_classes
    from dpgen.progress import progress_bar

    if public is None and (value_range, classes) != (None, None):
        raise ValueError(
            "--public-value-range and --public-classes are of public images: name them with "
            "--public DATA"
        )
    weights = None if init is None else open_weights(init, facts)
    generator.settings = settings_of(generator, public is not None, weights)
    if public is None:
        return {"init": weights}
    with progress_bar("open public images", 1, show=show) as advance:
        window = parse_value_range(value_range, "--public-value-range")
        named = None if classes is None else parse_classes(classes)
        try:
            opened = open_public(public, facts, value_range=window, classes=named)
        except ValueError as error:
            said = str(error)
            for option in ("--value-range", "--classes"):
                said = said.replace(option, f"--public{option[1:]}")
            raise ValueError(said) from None
        advance()
    return {"public": opened}


def reading_choices(given: dict[str, Any]) -> dict[str, Any]:
    """Returns how the records are to be read, as it was typed, for `dpgen.data.inspection`."""
    from dpgen.images.classes import parse_classes
    from dpgen.images.images import PublicFacts

    facts = PublicFacts.load(given["facts"]) if given["facts"] is not None else None
    return {
        "split": given["split"],
        "size": given["size"],
        "channels": int(given["channels"]) if given["channels"] else None,
        "value_range": parse_value_range(given["value_range"]),
        "classes": None if given["classes"] is None else parse_classes(given["classes"]),
        "else_classes": None if facts is None else facts.class_names,
        "unit": given["unit"],
        "silo": given["silo"],
        "label_column": given["label_column"],
    }


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Reads NAME,NAME; None of None."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def parse_value_range(
    text: str | None, option: str = "--value-range"
) -> tuple[float, float] | None:
    """Reads LOW,HIGH; None of None."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} takes LOW,HIGH as in 0,1; got {text!r}") from None
    return low, high


def hardware(given: dict[str, Any]) -> Any:  # noqa: ANN401
    from dpgen.runs.context import Hardware

    return Hardware(
        given["device"], given["precision"], given["micro_batch"], given.get("readers", "one")
    )
