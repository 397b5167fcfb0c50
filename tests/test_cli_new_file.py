"""What a command writes for its user never lies in a run or a set, whose statement would then be
false."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import dpgen


@pytest.mark.parametrize(
    "mark", ["privacy.json", "notice.json", "dpgen-part.json", "checkpoint/run.json"]
)
@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "digits", "--picture"),
        ("plan", "pge", "--data", "digits", "--epsilon", "1", "--preview"),
        ("sample", "run", "-n", "1", "--out", "set", "--preview"),
        ("evaluate", "set", "--reference", "digits", "--json"),
        ("evaluate", "set", "--reference", "digits", "--preview"),
        ("evaluate", "set", "--reference", "digits", "--nearest"),
        ("evaluate", "set", "--reference", "digits", "--cache"),
        ("audit", "run", "--out"),
        ("train", "pge", "--data", "digits", "--epsilon", "1", "--yes", "--out"),
        ("sample", "run", "-n", "1", "--out"),
        ("mix", "set", "set", "--out"),
        ("join", "set", "set", "--out"),
        ("export", "run", "--to", "diffusers", "--out"),
    ],
    ids=" ".join,
)
def test_a_run_and_a_set_take_no_file_of_another_command(
    command: tuple[str, ...], mark: str, tmp_path: Path
) -> None:
    (tmp_path / "stated" / "train").mkdir(parents=True)
    (tmp_path / "stated" / mark).parent.mkdir(exist_ok=True)
    (tmp_path / "stated" / mark).write_text("{}")
    (tmp_path / "another name").symlink_to(tmp_path / "stated")
    for place in ("stated/few.png", "stated/train/few.png", "another name/few.png"):
        found = dpgen(*command, tmp_path / place)
        assert found.exit_code == 2 and "name a place outside" in found.stderr
    assert len(list((tmp_path / "stated").iterdir())) == 2


def test_a_ledger_that_several_runs_share_forbids_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text("")
    assert dpgen("inspect", "digits", "--picture", tmp_path / "few.png").exit_code == 0
