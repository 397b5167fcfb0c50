"""Compares the configuration and the facts beside a statement with the statement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dpgen.privacy.accounting.accountant import Budget, epsilon_of
from dpgen.privacy.statements import given_teachers, randomised_labels
from dpgen.privacy.statements.public_start import KEY, start_told
from dpgen.privacy.verification.check import Check, agree
from dpgen.privacy.verification.promise import basis_of
from dpgen.storage.files import read_json

FACTS_BYTES = 2**22
SCHEMA = "dpgen-config/1"
KEYS = {"schema", "method", "version", "budget", "seed", "settings"}
ROUNDING = 1 + 1e-9


def configuration_checks(
    folder: Path, statement: Mapping[str, Any], name: str = "config.json"
) -> Iterator[Check]:
    """Checks the configuration and the facts in a run folder.

    Args:
        statement: of the run that was trained with that configuration.
        name: of the file with the configuration.
    """
    mechanism, files = statement["mechanism"], statement["artifact"]["files"]
    missing = [name for name in ("config.json", "facts.json") if name not in files]
    if missing:
        yield Check("configuration", False, f"{', '.join(missing)} is not among the files")
        return
    config = read_json(folder / name)
    keys = KEYS | ({KEY} if KEY in statement else set())
    wrong = [] if config.keys() == keys and config["schema"] == SCHEMA else ["its form"]
    if not wrong and not _same_start(config, statement):
        wrong.append("another public start")
    if randomised_labels.are_randomised(config) != (randomised_labels.KEY in statement):
        wrong.append("another treatment of labels")
    if not agree(given_teachers.told_of(config), statement.get(given_teachers.KEY)):
        wrong.append("other teachers or queries")
    if f"{config['method']}/{config['settings']['mode']}" != mechanism["id"]:
        wrong.append(f"it is of {config['method']!r:.40}, mode {config['settings']['mode']!r:.40}")
    if config["version"] != mechanism["version"]:
        wrong.append(f"version {config['version']!r:.40}")
    basis, budget = basis_of(statement), Budget(**config["budget"])
    spent = epsilon_of(basis.event, budget.delta, basis.relation)
    if budget.delta != basis.delta:
        wrong.append(f"delta = {budget.delta:g}")
    elif spent > budget.epsilon * ROUNDING:
        wrong.append(f"a budget of epsilon = {budget.epsilon:g}, and {spent:.4g} was spent")
    seen = "; ".join(wrong) or f"{mechanism['id']}, budget epsilon = {budget.epsilon:g}"
    yield Check("configuration", not wrong, seen)
    facts = read_json(folder / "facts.json", FACTS_BYTES)
    same = agree(facts, statement["facts"])
    noun = "teachers" if given_teachers.KEY in statement else "records"
    yield Check("facts", same, f"{statement['facts']['n_records']} {noun}, as stated")


def _same_start(config: Mapping[str, Any], statement: Mapping[str, Any]) -> bool:
    """Returns whether configuration, settings and statement say the same of a public start."""
    teacher = config["settings"].get("teacher") or {}
    settings, stated = teacher.get("public"), statement.get(KEY, {})
    images = stated.get("images")
    if (settings is None, teacher.get("init") is None) != (images is None, "weights" not in stated):
        return False
    if settings is not None and (images["n_steps"], "classes" in images) != (
        settings["n_steps"], settings["labels"] == "names",
    ):  # fmt: skip
        return False
    return KEY not in config or agree(start_told(config[KEY]), stated)
