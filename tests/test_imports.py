"""Imports run one way: the table of rooms is the architecture, and this keeps it true."""

from __future__ import annotations

from pathlib import Path

from tests.rooms import arrows, imports, modules

ROOT = Path(__file__).parents[1]
# By room, what its files import: exactly that. `tests.rooms` says what a room is.
ALLOWED: dict[str, set[str]] = {
    "_torchvision": set(),
    "auditing": {"data", "evaluation.report", "privacy", "storage"},
    "auditor": {"auditing", "data", "generator", "privacy", "progress", "workplace"},
    "benchmarking": {"cell", "data", "evaluation", "evaluation.report", "settings", "storage"},
    "cell": {"data", "evaluation", "generator", "methods", "privacy", "settings", "workplace"},
    "checkpoint": {"networks", "storage"},
    "cli": {"commands", "privacy"},
    "commands": {
        "auditing", "auditor", "benchmarking", "data", "evaluation", "methods", "mixing",
        "planned", "privacy", "progress", "reports", "scoring", "settings", "storage", "synthesis",
        "workplace",
    },
    "configurations": {
        "data", "distillation_settings", "networks", "privacy", "samplers", "stages",
    },
    "cosines": set(),
    "data": {"privacy", "storage"},
    "distillation": {"checkpoint", "distillation_settings", "networks", "progress", "samplers"},
    "distillation_settings": {"samplers"},
    "drawing": {"data", "networks", "samplers"},
    "evaluation": {
        "_torchvision", "data", "networks", "privacy", "progress", "settings", "storage",
    },
    "evaluation.report": {"storage"},
    "fitted": {"data", "drawing", "networks", "privacy", "samplers"},
    "fourier": set(),
    "gabor": set(),
    "generator": {
        "data", "evaluation", "fitted", "methods", "privacy", "released", "run_folder", "settings",
        "storage", "workplace",
    },
    "matching": {"networks", "progress"},
    "methods": {
        "configurations", "data", "distillation", "generator", "networks", "privacy", "samplers",
        "settings", "stages", "workplace",
    },
    "mixing": {"data", "privacy", "progress"},
    "networks": {"_torchvision", "cosines", "fourier", "gabor", "warps"},
    "planned": {"data", "methods", "privacy", "privacy.checks", "settings", "storage"},
    "privacy": {"privacy.checks", "storage"},
    "privacy.checks": {"privacy", "storage"},
    "progress": set(),
    "released": {"networks", "privacy", "settings", "storage"},
    "reports": {"data", "generator", "privacy", "workplace"},
    "run_folder": {"checkpoint", "privacy", "storage"},
    "samplers": set(),
    "score_matching": set(),
    "scores": {"evaluation", "evaluation.report"},
    "scoring": {"data", "evaluation", "privacy", "progress", "scores", "storage"},
    "settings": {"storage"},
    "stages": {
        "checkpoint", "cosines", "data", "distillation", "distillation_settings", "fourier",
        "gabor", "matching", "networks", "privacy", "progress", "samplers", "score_matching",
        "warps", "workplace",
    },
    "storage": set(),
    "synthesis": {
        "data", "drawing", "evaluation", "generator", "networks", "privacy", "progress", "samplers",
    },
    "warps": set(),
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
