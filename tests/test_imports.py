"""Imports run one way: the table of rooms is the architecture, and this keeps it true."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import dpgen
from tests.rooms import arrows, floors, imports, modules, room

ROOT = Path(__file__).parents[1]
# By room, what its files import: exactly that. `tests.rooms` says what a room is.
ALLOWED: dict[str, set[str]] = {
    "_torchvision": set(),
    "arguments": set(),
    "networks.fixed": set(),
    "privacy.accounting": set(),
    "progress": set(),
    "samplers": set(),
    "storage": set(),
    "networks": {"_torchvision", "networks.fixed"},
    "privacy.ledger": {"privacy.accounting", "storage"},
    "privacy.mechanisms": {"privacy.accounting", "storage"},
    "settings": {"storage"},
    "auditing.games": {"privacy.accounting", "privacy.mechanisms"},
    "images": {"privacy.accounting", "settings", "storage"},
    "privacy": {"privacy.accounting", "privacy.ledger", "privacy.mechanisms"},
    "privacy.lineage": {"privacy.accounting", "privacy.ledger", "privacy.mechanisms", "storage"},
    "privacy.statements": {"privacy.accounting", "privacy.ledger", "storage"},
    "data.formats": {"images", "storage"},
    "privacy.verification": {
        "privacy.accounting", "privacy.ledger", "privacy.statements", "storage",
    },
    "runs": {
        "networks", "privacy.lineage", "privacy.mechanisms", "privacy.statements", "settings",
        "storage",
    },
    "data": {
        "arguments", "data.formats", "images", "privacy", "privacy.accounting", "privacy.ledger",
        "privacy.lineage", "privacy.mechanisms", "privacy.statements", "runs", "storage",
    },
    "release": {
        "data.formats", "privacy.accounting", "privacy.statements", "privacy.verification",
        "settings", "storage",
    },
    "training": {"images", "networks", "networks.fixed", "progress", "runs", "samplers"},
    "evaluation": {
        "_torchvision", "data", "images", "networks", "privacy.ledger", "progress", "storage",
    },
    "generator": {
        "arguments", "data", "images", "networks", "privacy", "privacy.accounting",
        "privacy.ledger", "privacy.statements", "privacy.verification", "progress", "runs",
        "samplers", "settings", "storage",
    },
    "published": {
        "data", "images", "networks", "privacy.accounting", "privacy.mechanisms",
        "privacy.statements", "progress", "runs", "samplers", "training",
    },
    "stages": {
        "data", "images", "networks", "networks.fixed", "privacy", "privacy.accounting",
        "privacy.mechanisms", "progress", "runs", "samplers", "settings", "training",
    },
    "configurations": {
        "generator", "images", "networks", "privacy", "privacy.accounting", "privacy.statements",
        "published", "stages", "training",
    },
    "report": {"evaluation", "storage"},
    "auditing": {
        "auditing.games", "data", "generator", "images", "privacy", "privacy.accounting",
        "privacy.lineage", "privacy.mechanisms", "privacy.statements", "privacy.verification",
        "progress", "report", "runs", "storage",
    },
    "methods": {
        "arguments", "configurations", "data", "generator", "images", "networks", "privacy",
        "privacy.accounting", "privacy.statements", "privacy.verification", "published", "runs",
        "samplers", "settings", "stages", "storage", "training",
    },
    "benchmark": {
        "data", "data.formats", "evaluation", "generator", "images", "methods",
        "privacy.accounting", "privacy.ledger", "privacy.verification", "progress", "report",
        "runs", "settings", "storage",
    },
    "synthetic": {
        "data", "generator", "images", "methods", "networks", "privacy.statements",
        "privacy.verification", "progress", "release", "settings", "storage",
    },
    "exports": {
        "data", "generator", "images", "methods", "networks", "privacy.statements", "release",
        "runs", "samplers",
    },
    "transcription": {
        "arguments", "configurations", "data", "generator", "images", "methods", "networks",
        "privacy.accounting", "privacy.ledger", "privacy.statements", "privacy.verification",
        "runs", "settings", "stages", "storage", "training",
    },
    "commands": {
        "arguments", "auditing", "benchmark", "data", "data.formats", "evaluation", "exports",
        "generator", "images", "methods", "networks", "networks.fixed", "privacy.accounting",
        "privacy.ledger", "privacy.statements", "privacy.verification", "progress",
        "release", "runs", "samplers", "settings", "stages", "storage", "synthetic",
        "transcription",
    },
}  # fmt: skip


@cache
def _rows() -> dict[str, dict[str, int]]:
    return {name: row for name, row in arrows(ROOT).items() if name}


def test_every_room_imports_what_the_table_says_and_nothing_else() -> None:
    found = {name: set(row) for name, row in _rows().items()}
    assert found == ALLOWED


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    assert not [one for one in imports(ROOT / "dpgen" / "__init__.py", modules(ROOT))]


def test_every_public_name_is_where_the_package_says() -> None:
    assert [name for name in dpgen.__all__ if not hasattr(dpgen, name)] == []


def test_methods_never_import_each_other() -> None:
    known = modules(ROOT)
    own = {name for name in known if name.startswith("dpgen.methods.")}
    for name in own - {"dpgen.methods.loading"}:
        assert not own & {one.target for one in imports(known[name], known)}, name


def test_rooms_have_no_circle_and_at_most_ten_floors() -> None:
    assert len(floors(_rows())) <= 10


def test_at_most_four_modules_lie_loose_and_no_file_is_longer_than_300_lines() -> None:
    known = modules(ROOT)
    loose = {p.stem for p in known.values() if p.parent == ROOT / "dpgen"}
    assert len(loose - {"__init__", "__main__"}) <= 4
    long = {m: n for m, p in known.items() if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_fits_on_released_values_reach_neither_records_nor_what_answers_for_them() -> None:
    """`training` imports them nowhere, and nor does anything that it imports: of privacy it finds
    the relation between neighbours, which is one of the public facts."""
    known = modules(ROOT)
    todo = {name for name in known if room(name, known) == "training"}
    reached: set[str] = set()
    while todo:
        name = todo.pop()
        reached.add(name)
        todo |= {i.target for i in imports(known[name], known) if i.target in known} - reached
    rooms = {room(name, known) for name in reached}
    assert not {name for name in rooms if name.split(".")[0] == "data"}
    assert {name for name in rooms if name.split(".")[0] == "privacy"} <= {"privacy.accounting"}
    assert "dpgen.runs.folder" not in reached and "dpgen.runs.context" in reached


def test_published_flows_are_imported_by_methods_and_their_settings_alone() -> None:
    importers = {name for name, row in _rows().items() if "published" in row}
    assert importers == {"methods", "configurations"}


def test_an_audit_is_handed_a_generator_and_loads_none() -> None:
    for name, row in _rows().items():
        if name.split(".")[0] == "auditing":
            assert not row.keys() & {"methods", "configurations"}, name
