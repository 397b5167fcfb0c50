r"""The private teacher: a diffusion model trained by DP-SGD with noise multiplicity.

Per record a score matching loss is averaged over J draws of noise level, noise and projection
*before* its gradient is clipped, so sensitivity does not depend on J, while the variance of the
clipped gradient decreases with J. The label is dropped once per record and step.

    l(x, y; theta) = 1/J sum_j sigma_j^4 lambda(sigma_j) L(s(., y'), x, sigma_j, z_j, v_j) / (C H W)
    lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2,   ln sigma ~ N(P_mean, P_std^2)

with s = (D - x) / sigma^2 and L a loss of `dpgen.training.score_matching`. For L = `denoising` this
is the EDM loss, lambda ||D - x||^2 / (C H W); the others share its expected gradient.

Reference: Dockhorn, Cao, Vahdat, Kreis (2023), "Differentially Private Diffusion Models", arXiv
2210.09929, section 3; Karras et al. (2022), arXiv 2206.00364, equation 8 for the loss. Privacy:
theorem B1, DP-SGD on a loss of one record.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate import Accelerator
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.ema import EMA
from dpgen.networks.per_record import require_per_record
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.gradients import BatchedLoss, Call
from dpgen.privacy.mechanisms.shares import Shares
from dpgen.progress import progress_bar
from dpgen.runs.checkpoint import Checkpoints, TrainingState
from dpgen.runs.context import in_memory
from dpgen.stages.micro_batch import records_at_once
from dpgen.stages.teacher_plan import LABEL
from dpgen.training import score_matching
from dpgen.training.denoising import NoiseLevels, score_weight
from samplers import score_from_denoised


@dataclass(frozen=True)
class DenoisingObjective:
    """The score matching loss of records, and their random numbers: the Objective of a NoisyStep.

    Args:
        denoiser: the network; its parameters are given with each question.
        levels: the distribution of noise levels.
        name: name of the loss, a key of `dpgen.training.score_matching.LOSSES`.
        precision: "no" (float32) or "bf16", of the network alone.
    """

    denoiser: Denoiser
    levels: NoiseLevels
    name: str = "denoising"
    precision: str = "no"

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        """Draws every record's random numbers for one step; shapes do not depend on the record."""
        levels, shape = self.levels, (self.levels.n_draws, *self.denoiser.config.shape)
        drawn = {
            "sigma": (levels.mean + levels.std * draws.normal(levels.n_draws)).exp(),
            "noise": draws.normal(*shape),
            "drop": draws.uniform() < levels.label_drop,
        }
        if score_matching.find(self.name).projects:
            drawn["projection"] = draws.signs(*shape)
        return drawn

    @cached_property
    def loss(self) -> BatchedLoss:
        """Returns the loss of one record, averaged over its draws.

        The denoising loss also has a batched form. The sliced losses differentiate by the input
        first, so their gradients by a layer's weights do not follow from its output alone.
        """
        batch = None if score_matching.find(self.name).projects else self.losses
        half = torch.bfloat16 if self.precision == "bf16" else None
        return BatchedLoss(self.denoiser, self._of_record, batch, half)

    def _of_record(
        self, call: Call, pixels: Tensor, label: Tensor, draws: dict[str, Tensor]
    ) -> Tensor:
        return self._of_draws(call, pixels, label, draws["drop"], *_drawn(draws)).mean()

    def losses(
        self, call: Call, pixels: Tensor, labels: Tensor, draws: dict[str, Tensor]
    ) -> Tensor:
        """Computes the losses of many records, (B,), from one call of the network."""
        n_draws = draws["sigma"].shape[1]
        rows = (t.repeat_interleave(n_draws, 0) for t in (pixels, labels, draws["drop"]))
        found = self._of_draws(call, *rows, *(t.flatten(0, 1) for t in _drawn(draws)))
        return found.reshape(-1, n_draws).mean(1)

    def _of_draws(
        self, call: Call, x: Tensor, label: Tensor, drop: Tensor, *draws: Tensor
    ) -> Tensor:
        """Computes the weighted loss of every draw, (J,), for one record x or one per draw."""
        label = torch.where(drop, self.denoiser.null_label, label)

        def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
            return score_from_denoised(call(x, sigma, label.expand(len(x))), x, sigma)

        sigma, noise, *rest = draws
        found = score_matching.find(self.name)(
            score_fn, x, sigma, noise, rest[0] if rest else None
        )
        return score_weight(sigma, self.denoiser.config) * found


def _drawn(draws: dict[str, Tensor]) -> list[Tensor]:
    return [draws[name] for name in ("sigma", "noise", "projection") if name in draws]


def train_teacher(
    denoiser: Denoiser,
    data: PrivateDataset,
    mechanism: NoisySGD,
    levels: NoiseLevels,
    *,
    loss: str,
    learning_rate: float,
    ema_decay: float,
    micro_batch: int | None,
    checkpoints: Checkpoints,
    accelerator: Accelerator,
    show: bool,
    shares: Shares | None = None,
) -> None:
    """Trains by DP-SGD, in place; the network ends with the averaged weights.

    Everything after the noisy gradient (Adam, averaging) is post-processing. It resumes from its
    checkpoint; a finished stage is loaded and reads no record.
    """
    require_per_record(denoiser)
    parameters = dict(denoiser.named_parameters())
    optimizer = torch.optim.Adam(parameters.values(), lr=learning_rate)
    ema = EMA(denoiser, ema_decay, warm_up=True)
    state = TrainingState({"model": denoiser, "ema": ema}, {"adam": optimizer})
    held = checkpoints.load(LABEL)
    start = 0
    if held is not None:
        tensors, numbers = held
        start = int(numbers["step"])
        state.load(tensors)
    else:
        # Saved so that a resume starts the first step from exactly these parameters: computed again
        # they might differ, and the question with them.
        checkpoints.save(LABEL, state.tensors(), step=0)
    if start < mechanism.n_steps:
        objective = DenoisingObjective(denoiser, levels, loss, accelerator.mixed_precision)
        device = accelerator.device
        size = micro_batch or data.noted_micro_batch(LABEL, mechanism) or records_at_once(
            denoiser, levels.n_draws, mechanism.expected_batch, device,
            half=accelerator.mixed_precision == "bf16",
        )  # fmt: skip
        steps = data.steps(
            mechanism, label=LABEL, start=start, micro_batch=size, device=device,
            shares=shares,
        )  # fmt: skip
        with (
            in_memory(lambda: _cure(size, data.noted_micro_batch(LABEL, mechanism))),
            progress_bar("teacher (private)", mechanism.n_steps, show=show, done=start) as advance,
        ):
            for step in steps:
                released = {name: p.detach() for name, p in parameters.items()}
                for name, gradient in step.gradient(objective, released).items():
                    parameters[name].grad = gradient
                optimizer.step()
                ema.update(denoiser)
                done = step.index + 1
                if checkpoints.due() or done == mechanism.n_steps:
                    data.save_state(checkpoints, LABEL, state.tensors(), step=done)
                advance()
    data.finish(LABEL, mechanism)
    denoiser.load_state_dict(ema.module.state_dict())


def _cure(size: int, noted: int | None) -> str:
    """Tells the user what to do if there is no memory for a micro-batch of this size."""
    again = "run the same command again"
    if noted is not None:
        return (
            f"micro_batch must stay {noted}, with which this stage has given answers: free some, "
            f"or take a device with more, and {again}"
        )
    if size == 1:
        return f"micro_batch is 1, and no less is possible: take a smaller network, or {again}"
    return (
        f"micro_batch is {size}, and its gradients must be in memory at once: {again} with "
        f"--micro-batch {max(1, size // 2)} (possible until this stage has given its first answer)"
    )
