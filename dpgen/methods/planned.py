"""Checks that the configuration of a finished run gives the stages that were charged."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpgen.images.facts import PublicFacts
from dpgen.methods import find_settings
from dpgen.privacy.plan import SpentBudget
from dpgen.privacy.statements.certificate import EARLIER, CertificateError, read_statement
from dpgen.privacy.statements.transcription import KEY, PARENT_CONFIG
from dpgen.privacy.verification.check import Check
from dpgen.privacy.verification.verify import reading
from dpgen.settings import from_dict, plain, read_config
from dpgen.storage.canonical import canonical

NAME = "plan of the configuration"


def planned_check(folder: Path) -> Check:
    """Plans a run again, from its configuration and its facts, with the noise that was charged.

    Nothing is calibrated again, so this takes no time; whether the noise is enough for the budget
    is checked when epsilon is computed. Raises CertificateError if the folder is not a run.
    """
    statement = read_statement(folder)
    with reading(folder):
        name = PARENT_CONFIG if KEY in statement else "config.json"
        config, mechanism = read_config(folder, name), statement["mechanism"]
        if statement["schema"] == EARLIER:
            return Check(NAME, None, f"a run of {EARLIER} is not planned again by this version")
        if config["version"] != version("dpgen"):
            return Check(NAME, None, f"not planned again: a run of {config['version']!r:.40}")
        stages = mechanism["stages"]
        try:
            planned = _stages(config, statement["facts"], stages)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            return Check(NAME, False, f"gives no plan: {error!s:.200}")
        wrong = [
            label
            for label in planned.keys() | stages.keys()
            if canonical(planned.get(label)) != canonical(stages.get(label))
        ]
    seen = f"gives another {', '.join(sorted(wrong)):.200}" if wrong else "gives these stages"
    return Check(NAME, not wrong, seen)


def planned_checks(folder: Path) -> list[Check]:
    """Checks that a run's configuration gives its stages; nothing for a set, which has none."""
    with reading(folder):
        is_run = read_statement(folder)["artifact"]["kind"] == "model"
    return [planned_check(folder)] if is_run else []


def require_planned(folder: Path) -> None:
    """Raises CertificateError for a run whose configuration gives other stages."""
    for check in planned_checks(folder):
        if check.failed:
            raise CertificateError(f"{folder} does not hold: {check.name}, {check.seen}")


def _stages(
    config: Mapping[str, Any], facts: Mapping[str, Any], charged: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the settings of each stage, by label, that this version plans."""
    multipliers = tuple(stage["noise_multiplier"] for stage in charged.values())
    budget = SpentBudget(config["budget"]["epsilon"], config["budget"]["delta"], multipliers)
    settings = from_dict(find_settings(config["method"]), config["settings"], held=True)
    plan = settings.plan(PublicFacts.from_dict(facts), budget)
    return {stage.label: plain(stage.mechanism.settings) for stage in plan.stages}
