"""The configuration of a run, which its folder stores as ``config.json``."""

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
    """Returns the configuration with which a run of the generator is begun, as JSON values.

    Args:
        generator: a generator with resolved settings.
        seed: seed of the public randomness.
    """
    return {
        "schema": CONFIG_SCHEMA,
        "method": generator.id,
        "version": version("dpgen"),
        "budget": asdict(generator.budget),
        "seed": seed,
        "settings": _written(generator.settings),
    }


def _written(settings: Any) -> Any:  # noqa: ANN401
    """Returns settings as JSON values; those of public images, of other weights, of adapters and of
    silos are there only where there were some, so that other runs are read by versions that know
    none.
    """
    values = plain(asdict(settings))
    teacher, votes = values.get("teacher"), values.get("votes")
    for name in ("public", "init", "adapters"):
        if teacher is not None and not teacher.get(name, ...):
            del teacher[name]
    if votes is not None and votes.get("silos", ...) is None:
        del votes["silos"]
    return values


def as_written_now(config: Any, generator: PrivateGenerator, facts: PublicFacts) -> Any:  # noqa: ANN401
    """Converts a configuration that an earlier version may have written to the present form.

    Settings that were added since get their defaults for the facts, and settings that moved are put
    where they are now. A configuration of another method, or one that cannot be read, is returned
    unchanged.

    Args:
        config: parsed JSON.
        generator: a generator of the method that reads it.
        facts: public facts of the run.
    """
    if not isinstance(config, Mapping) or config.get("method") != generator.id:
        return config
    make: Any = type(generator)
    try:
        held: Any = from_dict(generator.Settings, config["settings"], held=True)
        settings = make(budget=generator.budget, settings=held).resolve(facts)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return config
    return {**config, "settings": _written(settings)}
