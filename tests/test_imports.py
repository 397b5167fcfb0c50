"""Imports run one way: the table of rooms is the architecture, and this keeps it true."""

from __future__ import annotations

from pathlib import Path

from tests.rooms import arrows, imports, modules

ROOT = Path(__file__).parents[1]
# By room, what its files import: exactly that. `tests.rooms` says what a room is.
ALLOWED: dict[str, set[str]] = {
    "_torchvision": set(),
    "networks.fixed": set(),
    "privacy.accounting": set(),
    "progress": set(),
    "samplers": set(),
    "storage": set(),
    "images": {"privacy.accounting", "storage"},
    "networks": {"_torchvision", "networks.fixed"},
    "privacy.ledger": {"privacy.accounting", "storage"},
    "privacy.mechanisms": {"privacy.accounting", "storage"},
    "settings": {"storage"},
    "auditing.games": {"privacy.accounting", "privacy.mechanisms"},
    "data.formats": {"images", "storage"},
    "privacy": {"privacy.accounting", "privacy.ledger", "privacy.mechanisms"},
    "privacy.lineage": {"privacy.accounting", "privacy.ledger", "privacy.mechanisms", "storage"},
    "privacy.statements": {"privacy.accounting", "privacy.ledger", "storage"},
    "data": {
        "data.formats", "images", "privacy", "privacy.accounting", "privacy.ledger",
        "privacy.lineage", "privacy.mechanisms", "privacy.statements", "storage",
    },
    "privacy.verification": {
        "privacy.accounting", "privacy.ledger", "privacy.statements", "storage",
    },
    "runs": {
        "networks", "privacy.lineage", "privacy.mechanisms", "privacy.statements", "settings",
        "storage",
    },
    "evaluation": {
        "_torchvision", "data", "images", "networks", "privacy.ledger", "progress", "storage",
    },
    "generator": {
        "data", "images", "networks", "privacy", "privacy.accounting", "privacy.ledger",
        "privacy.statements", "runs", "samplers", "settings", "storage",
    },
    "training": {"images", "networks", "networks.fixed", "progress", "runs", "samplers"},
    "published": {
        "data", "images", "networks", "privacy.accounting", "privacy.mechanisms",
        "privacy.statements", "progress", "runs", "samplers", "training",
    },
    "report": {"evaluation", "storage"},
    "stages": {
        "data", "images", "networks", "networks.fixed", "privacy", "privacy.accounting",
        "privacy.mechanisms", "progress", "runs", "samplers", "training",
    },
    "configurations": {
        "images", "networks", "privacy", "privacy.accounting", "privacy.statements", "published",
        "samplers", "stages", "training",
    },
    "methods": {
        "configurations", "data", "generator", "images", "networks", "privacy",
        "privacy.accounting", "privacy.statements", "privacy.verification", "published", "runs",
        "samplers", "settings", "stages", "storage", "training",
    },
    "auditing": {
        "auditing.games", "data", "generator", "images", "methods", "privacy",
        "privacy.accounting", "privacy.lineage", "privacy.mechanisms", "privacy.verification",
        "progress", "report", "runs", "storage",
    },
    "benchmark": {
        "data", "data.formats", "evaluation", "generator", "images", "methods",
        "privacy.accounting", "privacy.ledger", "privacy.verification", "progress", "report",
        "runs", "settings", "storage",
    },
    "synthetic": {
        "data", "generator", "images", "methods", "networks", "privacy.statements",
        "privacy.verification", "progress", "samplers",
    },
    "commands": {
        "auditing", "benchmark", "data", "evaluation", "generator", "images", "methods",
        "privacy.accounting", "privacy.ledger", "privacy.statements", "privacy.verification",
        "progress", "runs", "settings", "storage", "synthetic",
    },
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
