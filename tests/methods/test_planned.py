"""A run's configuration gives the stages that it was charged for, for every certified method."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpgen.generator.configuration import configuration
from dpgen.images.images import PublicFacts
from dpgen.methods import METHODS as KNOWN
from dpgen.methods import find, find_settings
from dpgen.methods.dgd import DGD
from dpgen.methods.dp_sad import DPSAD, DPSADSettings
from dpgen.methods.dpdm import DPDM, DPDMSettings
from dpgen.methods.dpsd import DPSD
from dpgen.methods.pge import PGE, PGESettings
from dpgen.methods.planned import planned_check, require_planned
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import SpentBudget, split_budget
from dpgen.privacy.statements.certificate import SCHEMA, CertificateError
from dpgen.settings import plain
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.teacher import TeacherSettings
from dpgen.storage.canonical import canonical
from dpgen.training.distillation_settings import Distillation
from tests.commands import dpgen
from tests.relations import ADD_REMOVE, REPLACE_ONE

FACTS = PublicFacts((1, 8, 8), ("a", "b"), 200)
ROOT = Path(__file__).parents[2]
PLANNED = """
import sys
from pathlib import Path
from dpgen.methods.planned import planned_check

checks = [planned_check(Path(folder)) for folder in sys.argv[1:]]
print([check.held for check in checks], "torch" in sys.modules, "diffusers" in sys.modules)
"""
TEACHER = TeacherSettings(n_steps=3, batch=20, bands=4)
METHODS = {
    "dp-sad": lambda budget: DPSAD(budget=budget, settings=DPSADSettings(teacher=TEACHER)),
    "dpdm": lambda budget: DPDM(budget=budget, settings=DPDMSettings(teacher=TEACHER)),
    "dpdm on a sketch": lambda budget: DPDM(
        budget=budget,
        settings=DPDMSettings(teacher=TeacherSettings(n_steps=3, batch=20, warm_start="sketch")),
    ),
    "dpdm alone": lambda budget: DPDM(
        budget=budget,
        settings=DPDMSettings(teacher=TeacherSettings(n_steps=3, batch=20, warm_start_share=0.0)),
    ),
    "pge": lambda budget: PGE(budget=budget, settings=PGESettings(teacher=TEACHER)),
    "sketch": lambda budget: PGE(
        budget=budget, settings=PGESettings(mode="sketch", sketch=SketchSettings())
    ),
    "dpsd": lambda budget: DPSD(budget=budget),
    "dgd": lambda budget: DGD(budget=budget),
}


def folder_of(name: str, place: Path, facts: PublicFacts = FACTS) -> Path:
    """What of a finished run is looked at."""
    budget = Budget(8.0, 1e-4)
    if name == "dpdm alone":
        budget = SpentBudget(8.0, 1e-4, (1.5,))  # no shares, so any noise will do
    generator: Any = METHODS[name](budget)
    generator.settings = generator.resolve(facts)
    stages = {s.label: s.mechanism.settings for s in generator.plan(facts).stages}
    place.mkdir(exist_ok=True)
    config = configuration(generator, 1) | {"budget": {"epsilon": 8.0, "delta": 1e-4}}
    (place / "config.json").write_text(canonical(config))
    stated = {
        "schema": SCHEMA, "facts": facts.to_dict(), "artifact": {"kind": "model"},
        "mechanism": {"id": generator.mechanism_id, "stages": plain(stages)},
    }  # fmt: skip
    (place / "privacy.json").write_text(json.dumps(stated))
    return place


def edit(path: Path, *keys: str, value: object) -> None:
    table = json.loads(path.read_text())
    at = table
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    path.write_text(json.dumps(table))


@pytest.mark.parametrize("name", METHODS)
def test_a_configuration_gives_the_stages_that_were_charged(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path / "run")
    assert planned_check(folder).held is True
    edit(folder / "privacy.json", "facts", "n_records", value=201)
    assert planned_check(folder).held is (True if name == "sketch" else False)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("settings", "teacher", "n_steps"), 4),
        (("settings", "teacher", "batch"), 19),
        (("settings", "teacher", "clip_norm"), 2.0),
        (("settings", "teacher", "warm_start_share"), 0.8),
        (("settings", "teacher", "means_share"), 0.5),
        (("settings", "teacher", "bands"), 5),
        (("settings", "teacher", "warm_start"), "sketch"),
        (("settings", "teacher", "unknown"), 1),
        (("settings", "mode"), "sealed"),
        (("budget", "epsilon"), 8.5),
        (("budget", "delta"), 2e-4),
        (("method",), "dp-sad"),
        (("method",), "none"),
    ],
)
def test_a_setting_that_gives_other_stages_is_seen(
    keys: tuple[str, ...], value: object, tmp_path: Path
) -> None:
    folder = folder_of("dpdm", tmp_path / "run")
    edit(folder / "config.json", *keys, value=value)
    assert planned_check(folder).failed


def test_a_run_whose_configuration_gives_other_stages_is_not_signed(tmp_path: Path) -> None:
    folder = folder_of("dpdm", tmp_path / "run")
    require_planned(folder)
    edit(folder / "config.json", "settings", "teacher", "clip_norm", value=2.0)
    with pytest.raises(CertificateError, match="plan of the configuration, gives another teacher"):
        require_planned(folder)
    told = dpgen("sign", folder, "--key", tmp_path / "none.pem")
    assert told.exit_code == 1 and "FAILED" in told.stderr and "gives another" in told.stderr


def test_shares_that_give_other_noise_are_seen_where_all_was_calibrated(tmp_path: Path) -> None:
    folder = folder_of("sketch", tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    rounds = config["settings"]["sketch"]["rounds"]
    assert len(rounds) == 2
    edit(folder / "config.json", "settings", "sketch", "rounds", value=[rounds[1], rounds[0]])
    assert planned_check(folder).failed or rounds[0] == rounds[1]


def test_a_run_of_another_version_is_not_planned_again(tmp_path: Path) -> None:
    folder = folder_of("dpdm", tmp_path / "run")
    edit(folder / "config.json", "version", value="9.9")
    assert planned_check(folder).held is None


def test_a_split_that_is_on_record_is_given_back_and_no_other() -> None:
    budget, given = Budget(3.0, 1e-5), {"shares": [0.3, 0.2], "rate": 0.1, "n_steps": 5}
    releases, sgd = split_budget(budget, ADD_REMOVE, **given)
    assert sgd is not None
    spent = SpentBudget(3.0, 1e-5, (*releases, sgd))
    assert split_budget(spent, ADD_REMOVE, **given) == (releases, sgd)
    for other in ({"shares": [0.2, 0.3]}, {"shares": [0.5]}, {"shares": [0.301, 0.2]}):
        with pytest.raises(ValueError, match="charged"):
            split_budget(spent, ADD_REMOVE, **given | other)
    with pytest.raises(ValueError, match="other noise than was charged"):
        split_budget(spent, REPLACE_ONE, **given)


def test_runs_are_planned_again_without_torch(tmp_path: Path) -> None:
    """All of them in one process."""
    folders = [str(folder_of(name, tmp_path / name)) for name in METHODS]
    command = [sys.executable, "-c", PLANNED, *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{[True] * len(METHODS)} False False"


@pytest.mark.parametrize("method", KNOWN)
def test_the_settings_that_are_planned_with_are_those_that_the_method_runs_with(
    method: str,
) -> None:
    assert find(method).Settings is find_settings(method)


@pytest.mark.parametrize("n_steps", [1, 2, 4, 8])
def test_a_students_ladder_that_is_not_tried_beforehand_can_be_built(n_steps: int) -> None:
    for low, high in ((1e-30, 1.001e-30), (9.99e29, 1e30), (1e-30, 1e30), (1.0, 1.001)):
        assert len(Distillation(n_steps=n_steps, sigma_min=low, sigma_max=high).levels()) > n_steps


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (1.0, 1 + 2e-16), (2.0, 1.0), (0.0, 1.0)])
def test_a_students_ladder_that_cannot_be_built_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="sigma_min|descending"):
        Distillation(sigma_min=low, sigma_max=high)
