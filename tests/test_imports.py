"""Imports run one way: the table of rooms is the architecture, and this keeps it true."""

from __future__ import annotations

from pathlib import Path

from tests.rooms import arrows, imports, modules

ROOT = Path(__file__).parents[1]
# By room, what its files import: exactly that. `tests.rooms` says what a room is.
ALLOWED: dict[str, set[str]] = {
    "_torchvision": set(),
    "auditing": {"data", "evaluation.report", "images", "privacy", "storage"},
    "auditor": {"auditing", "generator", "images", "privacy", "progress", "workplace"},
    "benchmarking": {
        "cell", "data", "evaluation", "evaluation.report", "images", "settings", "storage",
    },
    "cell": {
        "data", "evaluation", "generator", "images", "methods", "privacy", "settings", "workplace",
    },
    "checkpoint": {"networks", "storage"},
    "cli": {"commands", "privacy"},
    "commands": {
        "auditing", "auditor", "benchmarking", "data", "evaluation", "images", "methods", "mixing",
        "planned", "privacy", "progress", "reports", "scoring", "settings", "storage", "synthesis",
        "workplace",
    },
    "configurations": {
        "distillation_settings", "images", "networks", "privacy", "samplers", "stages",
    },
    "data": {"images", "privacy", "storage"},
    "distillation": {"checkpoint", "distillation_settings", "networks", "progress", "samplers"},
    "distillation_settings": {"samplers"},
    "drawing": {"images", "networks", "samplers"},
    "evaluation": {
        "_torchvision", "images", "networks", "privacy", "progress", "settings", "storage",
    },
    "evaluation.report": {"storage"},
    "fitted": {"drawing", "images", "networks", "privacy", "samplers"},
    "generator": {
        "data", "fitted", "images", "methods", "privacy", "released", "run_folder", "settings",
        "storage", "workplace",
    },
    "images": {"privacy", "storage"},
    "matching": {"networks", "progress"},
    "methods": {
        "configurations", "data", "distillation", "generator", "images", "networks", "privacy",
        "samplers", "settings", "stages", "workplace",
    },
    "mixing": {"data", "images", "privacy", "progress"},
    "networks": {"_torchvision", "networks.fixed"},
    "networks.fixed": set(),
    "planned": {"images", "methods", "privacy", "privacy.checks", "settings", "storage"},
    "privacy": {"privacy.checks", "storage"},
    "privacy.checks": {"privacy", "storage"},
    "progress": set(),
    "released": {"networks", "privacy", "settings", "storage"},
    "reports": {"data", "generator", "images", "privacy", "workplace"},
    "run_folder": {"checkpoint", "privacy", "storage"},
    "samplers": set(),
    "score_matching": set(),
    "scores": {"evaluation", "evaluation.report"},
    "scoring": {"data", "evaluation", "images", "privacy", "progress", "scores", "storage"},
    "settings": {"storage"},
    "stages": {
        "checkpoint", "data", "distillation", "distillation_settings", "images", "matching",
        "networks", "networks.fixed", "privacy", "progress", "samplers", "score_matching",
        "workplace",
    },
    "storage": set(),
    "synthesis": {
        "data", "drawing", "generator", "images", "networks", "privacy", "progress", "samplers",
    },
    "workplace": {"run_folder"},
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
