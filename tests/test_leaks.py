"""Everything that a run writes or says, at any time, is searched for numbers that its records made.

Watched: losses, gradient norms, sums before their noise, sizes of batches, how many records there
are and how many of each class, and the mean of their pixels. Searched, as text in several
precisions and as binary: every version of every file that a run writes (checkpoints that are gone
later, too), standard output and error, logs and warnings.
"""

from __future__ import annotations

import logging
import re
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from dpgen.auditing.replay import hurried
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.methods.pge import PGE, PGESettings
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.lineage import keys
from dpgen.privacy.mechanisms import clipping, noisy_sum, shares
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.noisy_step import NoisyStep
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware
from dpgen.stages.sketch_settings import SketchSettings

pytestmark = pytest.mark.usefixtures("one_thread", "remembering_accountant", "small_network")

FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 3600, origin="stated")
COUNTS = (1427, 1271, 1113)  # 3811 records, which are not the 3600 that are stated
FEW, MOST = 4, 1000  # numbers of one tensor, and of one kind, that are searched for
WORD = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]\w)")


class Watch:
    """Numbers that depend on records, and everything that left the run."""

    def __init__(self) -> None:
        self.floats: dict[str, list[float]] = {}
        self.counts: dict[str, list[int]] = {}
        self.left: dict[str, bytes] = {}

    def saw(self, what: str, values: Tensor) -> None:
        held = self.floats.setdefault(what, [])
        held.extend(values.detach().double().flatten()[:FEW].tolist())

    def found(self) -> set[str]:
        """What was found, and where: "losses in stdout"."""
        hits = set()
        shown = {what: _shown(values[:MOST]) for what, values in self.floats.items()}
        for place, content in self.left.items():
            words, eights = set(WORD.findall(content.decode("latin-1"))), _eights(content)
            for what, (texts, patterns) in shown.items():
                nearest = eights[np.searchsorted(eights, patterns).clip(max=len(eights) - 1)]
                if words & texts or (nearest == patterns).any():
                    hits.add(f"{what} in {place}")
            for what, counts in self.counts.items():
                if words & set(map(str, counts)):
                    hits.add(f"{what} in {place}")
        return hits


def _shown(values: Sequence[float]) -> tuple[set[str], np.ndarray]:
    """How numbers show: as text of six digits or more; and in eight bytes, as a double or two in a
    row as floats. Fewer digits or bytes would be met by chance; what shows in those is the matter
    of the neighbour replay.
    """
    told = [value for value in values if np.isfinite(value) and len(_digits(repr(value))) >= 6]
    texts = {f"{value:.{n}{kind}}" for value in told for n in range(4, 18) for kind in "gfe"}
    patterns = [struct.pack("<d", value) for value in told]
    patterns += [struct.pack("<2f", *pair) for pair in pairwise(told)]
    return (
        {text for text in texts if len(_digits(text)) >= 6},
        np.frombuffer(b"".join(patterns), dtype="<u8"),
    )


def _eights(content: bytes) -> np.ndarray:
    """Every eight bytes in a row, as sorted integers; 0 is always among them."""
    n = max(0, len(content) - 7)
    starts = range(min(8, n))
    rows = [np.frombuffer(content, "<u8", (n - start + 7) // 8, start) for start in starts]
    return np.sort(np.concatenate([np.zeros(1, dtype="<u8"), *rows]))


def _digits(text: str) -> str:
    """The significant ones."""
    return text.lower().split("e")[0].replace(".", "").replace("-", "").strip("0")


@pytest.fixture
def watched(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    records: Any,  # noqa: ANN401
) -> Iterator[Callable[[Any], Watch]]:
    """Trains a generator on 3811 records with everything watched, under fixed keys."""
    watch, home = Watch(), tmp_path / "home"
    monkeypatch.setenv("DPGEN_HOME", str(home))
    monkeypatch.setattr(keys, "new_key", lambda: bytes(range(32)))
    home.mkdir()
    (home / "key").write_bytes(bytes(range(32)))  # marks are bytes in which a number may turn up
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)

    add_clipped, factors, add = shares.add_clipped, clipping.clip_factors, KeyedNoise.add
    coins = KeyedNoise.coins

    def clipped(total: Any, loss_fn: Any, parameters: Any, batch: Any, *rest: Any) -> None:  # noqa: ANN401
        rows = [tree_map(lambda held, row=row: held[row], batch) for row in range(FEW)]
        watch.saw("losses", torch.stack([loss_fn(parameters, *row) for row in rows]))
        add_clipped(total, loss_fn, parameters, batch, *rest)

    def clip(norms: Tensor, bound: float) -> Tensor:
        # Some statistics normalise their records: that norm is the bound, a public number.
        watch.saw("norms", norms[(norms / bound - 1).abs() > 1e-4])
        return factors(norms, bound)

    def noised(source: KeyedNoise, total: Tensor, std: float, **of: Any) -> Tensor:  # noqa: ANN401
        watch.saw("sums", total)
        return add(source, total, std, **of)

    def tossed(source: KeyedNoise, n: int, rate: float, **of: Any) -> np.ndarray:  # noqa: ANN401
        chosen = coins(source, n, rate, **of)
        watch.counts.setdefault("batch sizes", []).append(len(chosen))
        return chosen

    monkeypatch.setattr(shares, "add_clipped", clipped)
    for module in (clipping, noisy_sum):
        monkeypatch.setattr(module, "clip_factors", clip)
    monkeypatch.setattr(KeyedNoise, "add", noised)
    monkeypatch.setattr(KeyedNoise, "coins", tossed)

    def keep(event: str, arguments: tuple[Any, ...]) -> None:
        """Files at the moment at which they get their name."""
        if event == "os.rename" and listening and str(arguments[0]).startswith(str(tmp_path)):
            path = Path(arguments[0])
            for file in [path] if path.is_file() else path.rglob("*"):
                if file.is_file():
                    watch.left[f"file {len(watch.left)} {Path(arguments[1]).name}"] = (
                        file.read_bytes()
                    )

    listening: list[bool] = [True]
    sys.addaudithook(keep)

    def train(generator: Any) -> Watch:  # noqa: ANN401
        rng = np.random.default_rng(0)
        n = sum(COUNTS)
        pixels = rng.integers(0, 256, (n, 8, 8), dtype=np.uint8)
        labels = np.repeat(range(3), COUNTS).tolist()
        data = PrivateDataset(type(records)(pixels, labels, ("a", "b", "c")), facts=FACTS)
        watch.floats["mean pixel"] = [pixels.mean().item(), pixels.mean().item() / 255]
        watch.counts["number of records"] = [n, *COUNTS]
        capfd.readouterr()
        with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            generator.fit(
                data, out=tmp_path / "run", seed=1, hardware=Hardware("cpu", micro_batch=128),
                show=True,
            )  # fmt: skip
        out, err = capfd.readouterr()
        watch.left["stdout"], watch.left["stderr"] = out.encode(), err.encode()
        watch.left["log"] = caplog.text.encode()
        watch.left["warnings"] = " ".join(str(w.message) for w in warned).encode()
        for path in (*home.rglob("*"), *(tmp_path / "run").rglob("*")):
            if path.is_file() and path != home / "key":
                watch.left[f"file at the end {path.name}"] = path.read_bytes()
        return watch

    yield train
    listening.clear()


def generator_of(method: str, untrained: Callable[..., Any]) -> Any:  # noqa: ANN401
    """With tiny settings, and a delta that fits so many records."""
    budget = Budget(2.0, 1e-5)
    if method != "sketch":
        tiny = untrained(method, batch=1200, n_steps=2, n_draws=1)
        return type(tiny)(budget=budget, settings=tiny.settings)
    sketch = SketchSettings(
        n_frequencies=40, n_hidden_frequencies=20, n_samples=60, labeller_share=0.3
    )
    settings = PGE(budget=budget, settings=PGESettings("sketch", sketch=sketch)).resolve(FACTS)
    return PGE(budget=budget, settings=hurried(settings))


@pytest.mark.parametrize("method", ["dp-sad", "sketch"])
def test_nothing_that_a_run_writes_or_says_holds_a_number_that_its_records_made(
    watched: Callable[[Any], Watch], untrained: Callable[..., Any], method: str
) -> None:
    watch = watched(generator_of(method, untrained))
    assert watch.found() == set()
    assert len(watch.floats["sums"]) >= 6
    assert any("privacy.json" in place for place in watch.left)
    if method == "dp-sad":
        assert min(len(watch.floats[what]) for what in ("losses", "norms")) > 50
        assert len(watch.counts["batch sizes"]) == 2
        assert any("teacher.safetensors" in place for place in watch.left)
    assert "private" in (watch.left["stderr"] + watch.left["stdout"]).decode()


gradient, save, saw = NoisyStep.gradient, Checkpoints.save, Watch.saw


def test_planted_leaks_are_found_each_where_it_is(
    watched: Callable[[Any], Watch],
    untrained: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last: dict[str, float] = {}

    def seeing(watch: Watch, what: str, values: Tensor) -> None:
        saw(watch, what, values)
        if watch.floats.get(what):
            last[what] = watch.floats[what][-1]

    def telling(step: NoisyStep, *given: Any) -> Any:  # noqa: ANN401
        answer = gradient(step, *given)
        print(f"a batch of {len(step._slots)}")
        logging.getLogger("dpgen").debug("%d records", step._records.n_slots)
        warnings.warn(f"sum {last['sums']:.7g}", stacklevel=1)
        return answer

    def saving(states: Checkpoints, name: str, tensors: Any, **numbers: Any) -> None:  # noqa: ANN401
        if "losses" in last:
            tensors = {**tensors, "norm": torch.tensor(last["norms"], dtype=torch.float64)}
            numbers["best loss"] = round(last["losses"], 8)
        save(states, name, tensors, **numbers)

    monkeypatch.setattr(Watch, "saw", seeing)
    monkeypatch.setattr(NoisyStep, "gradient", telling)
    monkeypatch.setattr(Checkpoints, "save", saving)
    found = watched(generator_of("dpdm", untrained)).found()
    assert {re.sub(r"file \d+ ", "", hit) for hit in found} == {
        "batch sizes in stdout",
        "number of records in log",
        "sums in warnings",
        "losses in teacher.safetensors",
        "norms in teacher.safetensors",
    }
