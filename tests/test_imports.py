"""Imports run one way: the table of rooms is the architecture, and this keeps it true."""

from __future__ import annotations

from pathlib import Path

from tests.rooms import arrows, imports, modules

ROOT = Path(__file__).parents[1]
# By room, what its files import: exactly that. `tests.rooms` says what a room is.
ALLOWED: dict[str, set[str]] = {
    "_torchvision": set(),
    "auditing": {
        "data", "evaluation.report", "images", "privacy", "privacy.accounting", "privacy.lineage",
        "privacy.mechanisms", "storage",
    },
    "auditor": {
        "auditing", "generator", "images", "methods", "privacy", "privacy.accounting",
        "privacy.mechanisms", "progress", "runs",
    },
    "benchmarking": {
        "cell", "data", "evaluation", "evaluation.report", "images", "settings", "storage",
    },
    "cell": {
        "data", "evaluation", "generator", "images", "methods", "privacy", "privacy.accounting",
        "runs", "settings",
    },
    "commands": {
        "auditing", "auditor", "benchmarking", "data", "evaluation", "images", "methods", "mixing",
        "privacy", "privacy.accounting", "progress", "reports", "runs", "scoring", "settings",
        "storage", "synthesis",
    },
    "configurations": {
        "images", "networks", "privacy", "privacy.accounting", "published", "samplers", "stages",
        "training",
    },
    "data": {
        "images", "privacy", "privacy.accounting", "privacy.ledger", "privacy.lineage",
        "privacy.mechanisms", "storage",
    },
    "evaluation": {
        "_torchvision", "images", "networks", "privacy.ledger", "progress", "settings", "storage",
    },
    "evaluation.report": {"storage"},
    "generator": {
        "data", "images", "networks", "privacy", "privacy.accounting", "privacy.ledger", "runs",
        "samplers", "settings", "storage",
    },
    "images": {"privacy.accounting", "storage"},
    "methods": {
        "configurations", "data", "generator", "images", "networks", "privacy",
        "privacy.accounting", "privacy.checks", "published", "runs", "samplers", "settings",
        "stages", "storage", "training",
    },
    "mixing": {"data", "images", "privacy", "progress"},
    "networks": {"_torchvision", "networks.fixed"},
    "networks.fixed": set(),
    "privacy": {
        "privacy.accounting", "privacy.checks", "privacy.ledger", "privacy.mechanisms", "storage",
    },
    "privacy.accounting": set(),
    "privacy.checks": {"privacy", "privacy.accounting", "privacy.ledger", "storage"},
    "privacy.ledger": {"privacy.accounting", "storage"},
    "privacy.lineage": {"privacy.accounting", "privacy.ledger", "privacy.mechanisms", "storage"},
    "privacy.mechanisms": {"privacy.accounting", "storage"},
    "progress": set(),
    "published": {
        "data", "images", "networks", "privacy", "privacy.accounting", "privacy.mechanisms",
        "progress", "runs", "samplers", "training",
    },
    "reports": {
        "data", "generator", "images", "privacy", "privacy.accounting", "privacy.ledger", "runs",
    },
    "runs": {
        "networks", "privacy", "privacy.lineage", "privacy.mechanisms", "settings", "storage",
    },
    "samplers": set(),
    "scores": {"evaluation", "evaluation.report"},
    "scoring": {"data", "evaluation", "images", "privacy.ledger", "progress", "scores", "storage"},
    "settings": {"storage"},
    "stages": {
        "data", "images", "networks", "networks.fixed", "privacy", "privacy.accounting",
        "privacy.mechanisms", "progress", "runs", "samplers", "training",
    },
    "storage": set(),
    "synthesis": {
        "data", "generator", "images", "methods", "networks", "privacy", "progress", "samplers",
    },
    "training": {"images", "networks", "networks.fixed", "progress", "runs", "samplers"},
}  # fmt: skip


def test_every_room_imports_what_the_table_says_and_nothing_else() -> None:
    found = {name: set(row) for name, row in arrows(ROOT).items() if name}
    assert found == ALLOWED


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    assert not [one for one in imports(ROOT / "dpgen" / "__init__.py", modules(ROOT))]


def test_methods_never_import_each_other() -> None:
    known = modules(ROOT)
    own = {name for name in known if name.startswith("dpgen.methods.")}
    for name in own - {"dpgen.methods.loading"}:
        assert not own & {one.target for one in imports(known[name], known)}, name
