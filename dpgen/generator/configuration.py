"""The configuration of a run, which its folder holds as ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dpgen.images.facts import PublicFacts
from dpgen.settings import CONFIG_SCHEMA, from_dict, plain

if TYPE_CHECKING:
    from dpgen.generator.interface import PrivateGenerator


def configuration(generator: PrivateGenerator, seed: int) -> dict[str, Any]:
    """Returns what a run of the generator is begun with, as JSON values.

    Args:
        generator: with resolved settings.
        seed: of its public randomness.
    """
    return {
        "schema": CONFIG_SCHEMA,
        "method": generator.id,
        "version": version("dpgen"),
        "budget": asdict(generator.budget),
        "seed": seed,
        "settings": plain(asdict(generator.settings)),
    }


def as_written_now(config: Any, generator: PrivateGenerator, facts: PublicFacts) -> Any:  # noqa: ANN401
    """Returns a configuration that an earlier version may have written as this one writes it.

    Settings that came since are at their defaults for the facts, those that moved are where they
    are now. A configuration of another method, or one that cannot be read, is returned as it is.

    Args:
        config: parsed JSON.
        generator: of the method that asks.
    """
    if not isinstance(config, Mapping) or config.get("method") != generator.id:
        return config
    make: Any = type(generator)
    try:
        held: Any = from_dict(generator.Settings, config["settings"])
        settings = make(budget=generator.budget, settings=held).resolve(facts)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return config
    return {**config, "settings": plain(asdict(settings))}
