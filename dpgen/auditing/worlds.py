"""A world of the neighbour replay: one run on stand-in records that records its questions and
answers, and that may be given the answers of another world.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from dpgen.auditing.isolation import Asked
from dpgen.auditing.stand_ins import StandIns
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms import noisy_ensemble, noisy_step, noisy_sum
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.mechanisms.noisy_step import NoisyStep
from dpgen.privacy.mechanisms.teachers import Fit
from dpgen.privacy.plan import Plan

READERS = (noisy_step.__file__, noisy_sum.__file__, noisy_ensemble.__file__)
N_STEPS = 2  # per DP-SGD stage, as a step depends only on released parameters and its batch


class World:
    """One run: its sums before the noise and its answers, by stage, release and tensor.

    sources: the noise source of each stage, by plan: the production source in the first world, and
        in all others that of the first.
    asked: the first question of each stage, by label; of an ensemble, ``taught``: what trains its
        teachers.
    published: every word that the run published, the names that identify it first.
    """

    def __init__(self, forced: World | None = None) -> None:
        self.forced = forced
        self.before: dict[tuple[str, int, str], Tensor] = {}
        self.answers: dict[tuple[str, int, str], Tensor] = {}
        self.stds: dict[tuple[str, int, str], float] = {}
        self.questions: dict[str, list[str]] = {}
        self.released: dict[str, bytes] = {}
        self.outside: set[str] = set()
        self.sources: dict[str, NoiseSource] = {} if forced is None else forced.sources
        self.asked: dict[str, Asked] = {}
        self.taught: dict[str, Fit] = {}
        self.names: list[str] = []
        self.published: list[str] = []

    @property
    def noise(self) -> dict[tuple[str, int, str], Tensor]:
        """Returns the noise by stage, release and tensor, in standard deviations."""
        return {k: (self.answers[k].cpu() - self.before[k]) / self.stds[k] for k in self.before}


class Transcript:
    """A NoiseSource that records every answer, and repeats the forced world's. Every record is in
    every batch.
    """

    def __init__(self, source: NoiseSource, plan: str, world: World) -> None:
        self._source, self._plan, self._world = source, plan, world

    def for_question(self, question: str) -> Self:
        self._world.questions.setdefault(self._plan, []).append(question)
        bound = copy.copy(self)
        bound._source = self._source.for_question(question)
        return bound

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        key, forced = (self._plan, release, name), self._world.forced
        self._world.before[key] = total.detach().double().cpu().clone()
        self._world.stds[key] = std
        if forced is None or key not in forced.answers:
            answer = self._source.add(total, std, release=release, name=name)
        else:
            answer = forced.answers[key].clone().to(total.device)
        self._world.answers[key] = answer.clone()
        return answer

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return np.arange(n, dtype=np.int64)

    def draws(self, slots: np.ndarray, **where: Any) -> Draws:  # noqa: ANN401
        return self._source.draws(slots, **where)

    def tag(self, content: bytes) -> bytes:
        return self._source.tag(content)


class Guarded(StandIns):
    """Stand-in records that notice which function reads them."""

    world: World

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        reader = sys._getframe(1)
        frame: FrameType | None = reader
        while frame is not None and frame.f_code.co_filename not in READERS:
            frame = frame.f_back
        if frame is None:
            self.world.outside.add(reader.f_code.co_qualname)
        return super().read(indices)


class ReplayedDataset(PrivateDataset):
    """Stand-in records whose answers are those of a world; only the first steps of DP-SGD."""

    def __init__(self, source: StandIns, facts: PublicFacts, world: World) -> None:
        guarded = Guarded(source.pixels, source.labels, source.class_names, source.silos)
        object.__setattr__(guarded, "world", world)
        super().__init__(guarded, facts=facts)
        self._world = world

    def begin(self, run: str, keys: StageKeys, plan: Plan) -> None:
        super().begin(run, keys, plan)
        self._world.names.append(run)
        for stage in plan.stages:
            self._world.names += [stage.charge.plan, stage.label]

    def noise(self, keys: StageKeys, plan: str) -> NoiseSource:
        if plan not in self._world.sources:
            self._world.sources[plan] = super().noise(keys, plan)
        return Transcript(self._world.sources[plan], plan, self._world)

    def release(self, mechanism: NoisySum, *, label: str) -> dict[str, Tensor]:
        self._world.asked[label] = Asked(mechanism)
        return super().release(mechanism, label=label)

    def ensemble(self, mechanism: NoisyEnsemble, fit: Fit, **given: Any) -> Ensemble:  # noqa: ANN401
        self._world.taught[given["label"]] = fit
        return super().ensemble(mechanism, fit, **given)

    def steps(self, mechanism: NoisySGD, **given: Any) -> Iterator[NoisyStep]:  # noqa: ANN401
        for step in islice(super().steps(mechanism, **given), N_STEPS):
            step.gradient = partial(  # type: ignore[method-assign]
                self._gradient, step.gradient, mechanism, given
            )
            yield step

    def _gradient(
        self, answer: Callable[..., Any], mechanism: NoisySGD, given: Mapping[str, Any],
        *question: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401  # fmt: skip
        if given["label"] not in self._world.asked:
            # Parameters are updated in place afterwards.
            kept = tuple(
                copy.deepcopy(part) if isinstance(part, dict) else part for part in question
            )
            self._world.asked[given["label"]] = Asked(
                mechanism, kept, given["micro_batch"], torch.device(given["device"])
            )
        return answer(*question)
