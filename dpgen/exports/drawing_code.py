"""Code that draws images from an export without this package. The README of an export shows it, and
the tests run it.
"""

from __future__ import annotations

DRAW = '''\
import json
from pathlib import Path

import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file

folder = Path("FOLDER")
recipe = json.loads((folder / "recipe.json").read_text())
unet = UNet2DModel.from_pretrained(folder / "unet").eval()
prior = load_file(folder / "prior.safetensors") if recipe["prior"] else None


def gaussian(x, sigma, labels):
    """The denoiser of the Gaussian that the network corrects."""
    rows = labels.clamp(max=recipe["n_classes"])
    d = x.flatten(2) - prior["means"][rows]
    noise = sigma[:, None] ** 2
    outside = prior["rest"] / (prior["rest"] + noise)
    vectors, values = prior["vectors"][rows], prior["values"][rows]
    a = torch.einsum("bcd,dk->bkc", d, prior["basis"]).flatten(1)
    a = torch.einsum("bij,bi->bj", vectors, a)
    a = torch.einsum("bij,bj->bi", vectors, a * (values / (values + noise) - outside))
    inside = torch.einsum("bkc,dk->bcd", a.unflatten(1, (-1, x.shape[1])), prior["basis"])
    return (prior["means"][rows] + outside[:, :, None] * d + inside).reshape(x.shape)


def denoise(x, sigma, labels):
    """The clean images (B, C, H, W) under the preconditioning of EDM (arXiv 2206.00364)."""
    total = sigma**2 + recipe["sigma_data"] ** 2
    skip = (recipe["sigma_data"] ** 2 / total).reshape(-1, 1, 1, 1)
    out = (sigma * recipe["sigma_data"] * total.rsqrt()).reshape(-1, 1, 1, 1)
    seen = total.rsqrt().reshape(-1, 1, 1, 1) * x
    start = skip * x if prior is None else gaussian(x, sigma, labels)
    if recipe["prior_input"]:
        seen = torch.cat([seen, (start - skip * x) / out], 1)
    level = sigma if recipe["level"] is None else torch.full_like(sigma, recipe["level"])
    return start + out * unet(seen, level.log() / 4, class_labels=labels).sample


def score(x, sigma, labels):
    return (denoise(x, sigma.expand(len(x)), labels) - x) / sigma**2


@torch.no_grad()
def draw(n, seed):
    """n images (n, C, H, W) in [-1, 1] with their labels: those of dpgen sample --seed."""
    size, sigmas = recipe["block"], torch.tensor(recipe["sigmas"], dtype=torch.float64).float()
    first = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed)))
    images = []
    for block in range(-(-n // size)):
        own = torch.Generator().manual_seed((first + block * 0x9E3779B97F4A7C15) % 2**63)
        labels = torch.arange(block * size, (block + 1) * size) % recipe["n_classes"]
        x = torch.randn(size, *recipe["shape"], generator=own) * sigmas[0]
        for s, s_next in zip(sigmas, sigmas[1:]):
            slope = -s * score(x, s, labels)
            moved = x + (s_next - s) * slope
            if recipe["transport"] == "heun" and s_next > 0:
                end = -s_next * score(moved, s_next, labels)
                moved = x + (s_next - s) * (slope + end) / 2
            x = moved
        images.append(x.clamp(-1, 1))
    return torch.cat(images)[:n], torch.arange(n) % recipe["n_classes"]


images, labels = draw(64, seed=0)
pixels = ((images + 1) * 127.5).round().to(torch.uint8)  # as dpgen sample writes them
'''
SCHEDULER = '''\
import torch
from diffusers import EDMEulerScheduler, UNet2DModel

unet = UNet2DModel.from_pretrained("FOLDER", subfolder="unet").eval()
scheduler = EDMEulerScheduler.from_pretrained("FOLDER", subfolder="scheduler")


@torch.no_grad()
def follow(noise, labels):
    """Images in [-1, 1] from unit noise (B, C, H, W), for labels (B,)."""
    scheduler.set_timesteps(N_STEPS)
    x = noise * scheduler.sigmas[0]
    for t in scheduler.timesteps:
        found = unet(scheduler.scale_model_input(x, t), t, class_labels=labels).sample
        x = scheduler.step(found, t, x).prev_sample
    return x.clamp(-1, 1)
'''
