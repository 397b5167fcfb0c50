"""A violated invariant is told, counted and repeated by the number of its round."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fault_rounds import session
from fault_rounds.rounds import Round, Skipped
from fault_rounds.tally import table, tally


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """``scripts/faults.py``."""
    path = Path(__file__).parents[2] / "scripts" / "faults.py"
    spec = importlib.util.spec_from_file_location("faults_script", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Nowhere:
    """A world without data."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, name: str) -> Any:  # noqa: ANN401
        from fault_rounds.world import Place

        return Place(self.path / name)

    def clear(self, place: object) -> None:
        pass


def torn(this: Round) -> None:
    this.seen.append("killed")
    this.check("files whole", [f"file {this.rng.random()} is torn"])


def sound(this: Round) -> None:
    this.check("files whole", [])


def absent(this: Round) -> None:
    raise Skipped("this machine has no such thing")


def broken(this: Round) -> None:
    raise KeyError("the checker's own fault")


def test_a_violation_is_counted_and_its_round_draws_the_same_again(tmp_path: Path) -> None:
    world: Any = Nowhere(tmp_path)
    kinds = {"torn": torn, "sound": sound, "absent": absent, "broken": broken}
    pairs = session.order(kinds, 8, None)
    rows = [session.do(world, name, kinds[name], 5, number) for number, name in pairs]
    told = {row["round"]: row["violations"] for row in rows if row["violations"]}
    assert sorted(told) == [0, 3, 4, 7]
    assert told[0] != told[4]
    ((number, name),) = session.order(kinds, 8, 4)
    assert session.do(world, name, kinds[name], 5, number)["violations"] == told[4]
    lines = {line.split("  ")[0]: line.split() for line in tally(rows).splitlines()}
    assert lines["torn"][1:4] == ["2", "0", "2"] and lines["absent"][1:4] == ["2", "2", "0"]
    assert lines["sound"][1:4] == ["2", "0", "0"] and lines["broken"][1:4] == ["2", "0", "2"]
    assert lines["all"][1:4] == ["8", "2", "4"] and lines["files whole"][2:] == ["4", "2"]
    shown = table(rows, "python it").splitlines()
    assert shown[0].startswith("Made by `python it`, in 0 minutes")
    assert {"| torn | 2 | 0 | 2 |", "| sound | 2 | 0 | 0 |", "| absent | 2 | 2 | 0 |"} < {*shown}
    assert {"| **all** | 8 | 2 | 4 |", "| files whole | 4 | 2 |", "| finishes | 0 | 0 |"} < {*shown}


def test_the_script_ends_with_1_when_an_invariant_is_violated(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "World", Nowhere)
    for kind, status in ((torn, 1), (sound, None)):
        monkeypatch.setattr(session, "all_kinds", lambda kind=kind: {"kind": kind})
        out, more = tmp_path / "out.json", ["--table", str(tmp_path / "table.md")]
        monkeypatch.setattr(sys, "argv", ["faults.py", "--rounds", "2", "--out", str(out), *more])
        if status is None:
            script.main()
        else:
            with pytest.raises(SystemExit) as ended:
                script.main()
            assert ended.value.code == status
        assert out.read_text().count('"kind": "kind"') == 2
        told = (tmp_path / "table.md").read_text()
        assert told.startswith("Made by `python scripts/faults.py --rounds 2 --seed 0`")
        assert f"| kind | 2 | 0 | {2 * (status or 0)} |" in told and str(tmp_path) not in told
