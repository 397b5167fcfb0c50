"""Texts: facts, settings, ledgers, and what a run or a benchmark keeps of itself."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from dpgen.benchmark.schedule import BenchmarkSettings, Cell, Entry, read
from dpgen.commands.inputs import configured
from dpgen.commands.ledger_report import ledger_table
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import GaussianLeaf, event_to_json
from dpgen.privacy.ledger.chain import GENESIS, chain
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.runs.folder import RunFolder
from dpgen.storage.canonical import canonical
from tests.hostile.formats import Format, as_json, plain, tabled

FACTS = """\
shape = [1, 8, 8]
n_records = 100
class_names = ["a", "b"]
adjacency = "replace_one"
"""
BENCHMARK = """\
data = "digits"
epsilons = [1, 10.0]
networks = ["cnn"]
seeds = 2
[[methods]]
label = "a"
method = "dp-sad"
[methods.settings.teacher]
n_steps = 3
[[methods]]
label = "b"
method = "dpdm"
teacher_of = "a"
"""
SETTINGS = """\
mode = "sketch"
[sketch]
rounds = [0.5, 0.5]
n_steps = [10, 10]
[sampler]
name = "ddim"
"""


def facts(content: bytes, folder: Path) -> None:
    (folder / "facts.toml").write_bytes(content)
    found = PublicFacts.load(folder / "facts.toml")
    assert found.n_classes >= 1 and found.n_records >= 1 and len(found.shape) == 3


def benchmark(content: bytes, folder: Path) -> None:
    (folder / "b.toml").write_bytes(content)
    settings = BenchmarkSettings.load(folder / "b.toml")
    for cell in settings.cells():
        assert settings.identity(cell) and "/" not in cell.name


def settings(content: bytes, folder: Path) -> None:
    (folder / "c.toml").write_bytes(content)
    given = {"config": folder / "c.toml", "assignments": (), "epsilon": 1.0, "delta": None}
    kind, held, _ = configured("pge", {**given, "facts": None})
    kind(budget=Budget(1.0, 1e-5), settings=held).resolve(PublicFacts((1, 8, 8), ("a", "b"), 100))


CELL = Cell("a", 1.0, 0)
ONE = BenchmarkSettings("digits", (Entry("a", "dpdm"),))
HELD = {
    "identity": ONE.identity(CELL), **CELL._asdict(), "shared": None, "status": "done",
    "error": None, "privacy": {"epsilon": 1.0, "delta": 1e-5, "verified": True, "statement": "s"},
    "metrics": {"fid": 1.5, "accuracy_cnn": None}, "seconds": {"train": 1.0}, "peak_mib": 5.5,
    "grid": "grid.png", "fidelity": {"network": {}, "protocol": {}},
}  # fmt: skip


def cell(content: bytes, folder: Path) -> None:
    from dpgen.report import markdown, render

    path = folder / "cells" / CELL.name / "cell.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    held = read(ONE, folder, CELL)
    results = {
        "schema": "dpgen-benchmark/1", "methods": [{"label": "a", "method": "dpdm"}],
        "cells": [held], "data": {"name": "digits", "class_names": ["0"]}, "epsilons": [1.0],
        "seeds": 1,
    }  # fmt: skip
    assert markdown(results) and render(results, folder)


def ledger_lines() -> list[dict[str, Any]]:
    event = event_to_json(GaussianLeaf(0.5, 6.0, 4).event)
    facts = PublicFacts((1, 8, 8), ("a",), 100).to_dict()
    limit = {"epsilon": 3.0, "delta": 1e-5}
    stage = {"run": "r", "label": "t", "plan": "p"}
    bodies: list[dict[str, Any]] = [
        {"kind": "open", "dataset": "d", "adjacency": "add_remove", "facts": facts, "limit": limit},
        {"kind": "charge", **stage, "event": event},
        {"kind": "executed", **stage, "start": 0, "stop": 4},
        {"kind": "limit", "limit": {**limit, "epsilon": 4.0}},
        {"kind": "unverified", "run": "u", "mechanism": "m"},
    ]
    return [{"schema": "dpgen-ledger/1", "time": "now", **body} for body in bodies]


def forged(bodies: Any) -> bytes:  # noqa: ANN401
    """Lines with hashes that fit, whatever they say."""
    rows = [body if isinstance(body, dict) else {"x": body} for body in bodies] if isinstance(
        bodies, list
    ) else []
    try:
        lines = chain(rows, GENESIS)
        return "".join(canonical(line) + "\n" for line in lines).encode()
    except (ValueError, TypeError):  # no canonical text, so no hash either
        return as_json(bodies)


def ledger(content: bytes, folder: Path) -> None:
    path = folder / "ledger.jsonl"
    path.write_bytes(content)
    rows = content.decode(errors="replace").split("\n")[:-1]
    try:
        last = json.loads(rows[-1])["hash"]
    except (ValueError, LookupError, TypeError, RecursionError):
        last = GENESIS
    (folder / "ledger.jsonl.head").write_text(canonical({"lines": len(rows), "hash": str(last)}))
    assert isinstance(ledger_table(path, None), str)
    held = PrivacyLedger(path)
    assert isinstance(held.limit, Budget) and held.spent() >= 0


def head(content: bytes, folder: Path) -> None:
    (folder / "ledger.jsonl").write_bytes(forged(ledger_lines()))
    (folder / "ledger.jsonl.head").write_bytes(content)
    assert len(PrivacyLedger(folder / "ledger.jsonl").lines()) == 5


def run_state(content: bytes, folder: Path) -> None:
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "run.json").write_bytes(content)
    assert type(RunFolder.seed_of(folder)) is int
    RunFolder(folder, {"seed": 5}).close()


def text_formats() -> list[Format]:
    """Settings, facts, ledgers and what a run or a benchmark keeps of itself."""
    last = json.loads(forged(ledger_lines()).decode().split("\n")[-2])["hash"]
    state = {"schema": "dpgen-run/2", "id": "ab", "configuration": {"seed": 5}}
    return [
        plain("facts", FACTS.encode(), facts),
        tabled("facts, within", tomllib.loads(FACTS), as_toml, facts),
        plain("benchmark", BENCHMARK.encode(), benchmark),
        tabled("benchmark, within", tomllib.loads(BENCHMARK), as_toml, benchmark),
        plain("settings", SETTINGS.encode(), settings),
        tabled("settings, within", tomllib.loads(SETTINGS), as_toml, settings),
        plain("cell", as_json(HELD), cell),
        tabled("cell, within", HELD, as_json, cell),
        plain("ledger", forged(ledger_lines()), ledger),
        tabled("ledger, forged", ledger_lines(), forged, ledger),
        plain("ledger head", as_json({"lines": 5, "hash": last}), head),
        tabled("ledger head, within", {"lines": 5, "hash": last}, as_json, head),
        plain("run state", as_json(state), run_state),
        tabled("run state, within", state, as_json, run_state),
    ]


def as_toml(value: Any) -> bytes:  # noqa: ANN401
    """The top-level values of a table as inline TOML; what TOML has no word for, as a fault."""
    if not isinstance(value, dict):
        return b"= " + as_json(value)
    rows = [f"{json.dumps(str(key))} = {_inline(item)}\n" for key, item in value.items()]
    return "".join(rows).encode(errors="surrogatepass")


def _inline(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, dict):
        rows = (f"{json.dumps(str(key))} = {_inline(item)}" for key, item in value.items())
        return "{" + ", ".join(rows) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, float) and "." not in repr(value):
        return f"{value:.3e}"
    return json.dumps(value)
