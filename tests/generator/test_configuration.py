"""Configurations as they were written before all samplers had one type of settings
(``earlier_configurations.json``, taken from runs of that version): runs that hold one load, sample,
verify and are resumed as before.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dpgen
from dpgen.data.private import PrivateDataset
from dpgen.generator import interface
from dpgen.generator.configuration import as_written_now, configuration
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.facts import PublicFacts
from dpgen.methods import find
from dpgen.methods.planned import planned_check
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.verification.verify import verify
from dpgen.runs.checkpoint import Checkpoints
from dpgen.settings import from_dict

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

EARLIER = json.loads(Path(__file__).with_name("earlier_configurations.json").read_text())
FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 30, "add_remove", origin="stated")
RUNS = ["dpdm-steps", "dp-sad", "pge-edm"]


def generator_of(name: str, settings: str = "given") -> PrivateGenerator:
    """An unfitted generator, with the settings that a user gave or those that were written."""
    row = EARLIER[name]
    method = find(row["method"])
    held = from_dict(method.Settings, row[settings])
    made: PrivateGenerator = method(budget=Budget(0.3, 1e-3), settings=held)
    return made


def earlier(name: str) -> Callable[[PrivateGenerator, int], dict[str, Any]]:
    """The function that wrote the configuration of a run before."""
    return lambda made, seed: configuration(made, seed) | {"settings": EARLIER[name]["written"]}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", EARLIER)
def test_what_was_written_before_gives_the_sampler_that_it_gave(name: str) -> None:
    held = generator_of(name, "written")
    held.settings = held.resolve(FACTS)
    for network, sampler in EARLIER[name]["samplers"].items():
        assert repr(held.default_sampler(network)) == sampler


@pytest.mark.parametrize("name", EARLIER)
def test_what_was_written_before_is_the_configuration_of_the_same_settings_now(name: str) -> None:
    made = generator_of(name)
    made.settings = made.resolve(FACTS)
    now = configuration(made, 1)
    held = now | {"settings": copy.deepcopy(EARLIER[name]["written"])}
    assert held != now
    assert as_written_now(held, made, FACTS) == now == as_written_now(now, made, FACTS)
    assert json.loads(json.dumps(now)) == now
    again = from_dict(made.Settings, now["settings"])
    assert again.sampler == made.settings.sampler


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("settings", "sampling_steps"), 3),
        (("settings", "teacher", "n_steps"), 4),
        (("settings", "teacher", "clip_norm"), 0.06),
        (("settings", "mode"), "paper"),
        (("settings", "step"), None),
        (("settings",), None),
        (("method",), "pge"),
        (("seed",), 2),
        (("budget", "epsilon"), 0.4),
    ],
    ids=lambda one: ".".join(one) if isinstance(one, tuple) else None,
)
def test_what_differs_otherwise_still_differs(where: tuple[str, ...], value: object) -> None:
    made = generator_of("dpdm-steps")
    made.settings = made.resolve(FACTS)
    now = configuration(made, 1)
    held = copy.deepcopy(now | {"settings": EARLIER["dpdm-steps"]["written"]})
    inner = held
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    assert as_written_now(held, made, FACTS) != now


def test_no_table_of_a_configuration_stays_as_it_is() -> None:
    made = generator_of("dpdm-steps")
    for held in (None, [], "text", {"method": "dpdm"}, {"method": ["dpdm"]}):
        assert as_written_now(held, made, FACTS) == held


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("finished", ["before", "now"])
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_a_run_that_was_begun_before_is_resumed_and_one_that_was_finished_is_used(
    finished: str,
    name: str,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, save = tmp_path / "run", Checkpoints.save

    def fit(generator: PrivateGenerator | None = None) -> PrivateGenerator:
        one = generator_of(name) if generator is None else generator
        return one.fit(dataset(records), out=folder, seed=1)

    def stop(states: Checkpoints, label: str, tensors: Any, **numbers: Any) -> None:  # noqa: ANN401
        save(states, label, tensors, **numbers)
        raise KeyboardInterrupt

    def written() -> Any:  # noqa: ANN401
        return json.loads((folder / "config.json").read_text())["settings"]

    with monkeypatch.context() as patch:
        patch.setattr(interface, "configuration", earlier(name))
        patch.setattr(interface, "as_written_now", lambda held, *_: held)
        with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
            stopped.setattr(Checkpoints, "save", stop)
            fit()
        if finished == "before":
            fit()
            assert written() == EARLIER[name]["written"]
    begun = folder / "checkpoint" / "run.json"
    if finished == "now":
        held = json.loads(begun.read_text())["configuration"]["settings"]
        assert held == EARLIER[name]["written"]
    one = fit()
    assert not begun.exists() and (written() == EARLIER[name]["written"]) == (finished == "before")
    lines = [json.loads(row) for row in (folder / "ledger.jsonl").read_text().splitlines()]
    charges = [line["label"] for line in lines if line["kind"] == "charge"]
    assert charges == ["class means", "class spread", "teacher"]
    assert not any(check.failed for check in [*verify(folder), planned_check(folder)])
    drawn = one.sample(5, generator=seeded(3)).pixels
    assert torch.equal(drawn, dpgen.load(folder).sample(5, generator=seeded(3)).pixels)
    other = generator_of(name)
    row = EARLIER[name]["given"] | {"sampler": {"name": "ddim", "n_steps": 3}}
    row.pop("sampling_steps", None)
    other.settings = from_dict(other.Settings, row)
    with pytest.raises(ValueError, match="finished run of another configuration"):
        fit(other)
