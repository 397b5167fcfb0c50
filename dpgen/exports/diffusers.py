"""Exports to diffusers: a stock UNet2DModel, with everything that is needed to draw its images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from dpgen.exports.drawing_code import DRAW, SCHEDULER
from dpgen.exports.model import Model, model_of
from dpgen.exports.stated import origin, stated
from dpgen.generator.fitted import Fitted
from samplers import Sampler

SCHEMA = "dpgen-diffusers/1"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PRIOR = ("means", "vectors", "values", "rest", "basis")


def export(
    generator: Fitted, network: str | None, sampler: Sampler | None, folder: Path
) -> None:  # fmt: skip
    """Writes a denoiser of a fitted generator, ``model`` unless another is named."""
    write(model_of(generator, network or "model", sampler), folder)


def write(model: Model, folder: Path) -> None:
    """Writes ``unet/``, ``recipe.json``, ``README.md`` and the statement of the run; also
    ``prior.safetensors`` if the network corrects a Gaussian, and ``scheduler/`` if a stock
    scheduler draws the same images.

    Args:
        model: the model to write.
        folder: an empty folder.
    """
    told = stated(model.document)
    unet: Any = model.denoiser.unet
    unet.save_pretrained(folder / "unet", safe_serialization=True)
    path = folder / "unet" / WEIGHTS
    save_file(load_file(path), path, metadata={"format": "pt", **told})
    prior = model.denoiser.prior
    if prior is not None:
        tensors = {name: getattr(prior, name).detach().contiguous() for name in PRIOR}
        save_file(tensors, folder / "prior.safetensors", metadata=told)
    scheduler = _scheduler(model)
    if scheduler is not None:
        scheduler.save_pretrained(folder / "scheduler")
    config = model.denoiser.config
    recipe = {
        "schema": SCHEMA,
        "shape": list(config.shape),
        "class_names": list(model.facts.class_names),
        "n_classes": config.n_classes,
        "sigma_data": config.sigma_data,
        "prior": prior is not None,
        "prior_input": config.prior_input,
        "level": config.level,
        "sigmas": list(model.sigmas),
        "transport": model.transport,
        "block": model.block,
    }
    text = json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
    (folder / "recipe.json").write_text(text, encoding="utf-8")
    (folder / f"run-{model.document.name}").write_bytes(model.document.to_bytes())
    readme = "\n".join(_readme(model, with_scheduler=scheduler is not None))
    (folder / "README.md").write_text(readme, encoding="utf-8")


def _scheduler(model: Model) -> Any:  # noqa: ANN401
    """Returns the stock scheduler whose steps are those of the model; None if there is none, as any
    other scheduler would draw other images.
    """
    from diffusers import EDMEulerScheduler

    levels = model.sigmas[:-1]
    if model.denoiser.prior is not None or model.transport != "euler" or len(levels) < 2:
        return None
    scheduler = EDMEulerScheduler(
        sigma_min=levels[-1],
        sigma_max=levels[0],
        sigma_data=model.denoiser.config.sigma_data,
        num_train_timesteps=len(levels),
    )
    scheduler.set_timesteps(len(levels))
    wanted = torch.tensor(model.sigmas)
    same = torch.allclose(scheduler.sigmas, wanted, rtol=1e-5, atol=0)
    return scheduler if same else None


def _readme(model: Model, *, with_scheduler: bool) -> Iterator[str]:
    yield f"# A denoiser of {model.document.content['mechanism']['id']}, as parts of diffusers\n"
    yield from origin(model.document)
    yield "## What is here\n"
    yield "* `unet/`: a stock `UNet2DModel`."
    yield "* `recipe.json`: noise levels, preconditioning, classes."
    if model.denoiser.prior is not None:
        yield (
            "* `prior.safetensors`: the Gaussian that the network corrects. Without it the network "
            "draws nothing that makes sense, so no stock scheduler or pipeline is here."
        )
    elif with_scheduler:
        yield "* `scheduler/`: the stock `EDMEulerScheduler` whose steps draw the same images."
    yield "\nNo pipeline of diffusers draws images of a class from such a network: this does.\n"
    yield "## Drawing\n"
    yield (
        "`draw(n, seed)` gives the images of `dpgen sample RUN -n N --seed SEED --device cpu` with "
        "the sampler that was exported, in their order, up to what float32 rounds (a pixel of 255 "
        "may differ by one).\n"
    )
    yield f"```python\n{DRAW}```\n"
    if with_scheduler:
        yield "With the scheduler, from noise of your own:\n"
        yield f"```python\n{SCHEDULER.replace('N_STEPS', str(len(model.sigmas) - 1))}```\n"
