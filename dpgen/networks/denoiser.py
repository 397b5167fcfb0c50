r"""The denoiser: diffusers' ``UNet2DModel`` under the preconditioning of EDM.

Noise is variance exploding, ``x = x_0 + sigma z``. Inputs and outputs of the network F are scaled:

    D(x, sigma, y) = c_skip x + c_out F(c_in x, c_noise, y)
    c_skip = sigma_data^2 / (sigma^2 + sigma_data^2)
    c_out  = sigma sigma_data / sqrt(sigma^2 + sigma_data^2)
    c_in   = 1 / sqrt(sigma^2 + sigma_data^2)
    c_noise = ln(sigma) / 4

and ``(D - x) / sigma^2`` is its score. With a prior, the exact denoiser D_0 of a released Gaussian
replaces ``c_skip x``, and with ``prior_input`` the network also gets the input

    F_0 = (D_0 - c_skip x) / c_out

the output for which a network without a prior would give D_0: where sigma is small the Gaussian's
estimate of the noise (-sigma s_0), where sigma is large its estimate of the image. For data from
that Gaussian it is the mean of EDM's training target given x, so by the identities of c_out its
second moment is at most one at every sigma. This is residual enhancement,
s = s_0 + g(x, s_0, sigma, y). The last convolution is initialised to zero, so an untrained denoiser
is exactly its prior, or the posterior mean for data from N(0, sigma_data^2 I).

Reference: Karras, Aittala, Aila, Laine (2022), "Elucidating the Design Space of Diffusion-Based
Generative Models", arXiv 2206.00364, Table 1 (column "Ours") and appendix B.6; Liu et al. (2024),
arXiv 2305.10662, for residual enhancement (our reading).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from dpgen import _torchvision
from dpgen.networks.denoiser_config import PRESETS, DenoiserConfig
from dpgen.networks.fixed.cosines import Cosines
from dpgen.networks.gaussian import GaussianDenoiser

if TYPE_CHECKING:
    from samplers.types import ScoreFn

__all__ = ["PRESETS", "Coefficients", "Denoiser", "DenoiserConfig", "coefficients", "loss_weight"]


class Coefficients(NamedTuple):
    """The factors of EDM's preconditioning at a noise level; each has the shape of sigma."""

    skip: Tensor
    out: Tensor
    input: Tensor
    noise: Tensor


def coefficients(sigma: Tensor, sigma_data: float) -> Coefficients:
    """Computes EDM's preconditioning at noise level ``sigma``.

    Guarantees: for data of standard deviation ``sigma_data`` the input and the training target of
    the network have unit variance: ``c_in^2 (sigma_data^2 + sigma^2) = 1`` and
    ``(1 - c_skip)^2 sigma_data^2 + c_skip^2 sigma^2 = c_out^2``.

    Args:
        sigma: noise levels, positive, any shape.
        sigma_data: standard deviation of the data, a public constant.

    Reference: Karras et al. (2022), Table 1; the identities are equations 114 to 123.
    """
    total = sigma**2 + sigma_data**2
    return Coefficients(
        skip=sigma_data**2 / total,
        out=sigma * sigma_data * total.rsqrt(),
        input=total.rsqrt(),
        noise=sigma.log() / 4,
    )


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Computes lambda(sigma) = 1 / c_out^2, with which every noise level's loss starts at one.

    Reference: Karras et al. (2022), Table 1, "loss weighting".
    """
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


class Denoiser(nn.Module):
    """Predicts the clean image from a noisy one, its noise level and its label.

    Guarantees: no statistic across records (GroupNorm only); an output depends on its own image,
    sigma and label alone. It works under ``torch.func.functional_call`` and ``vmap(grad(...))``
    with a batch of one inside.

    Args:
        config: the numbers. Rows of the label embedding are the classes, then the null class, then
            the reserved ids. With a variant the network may have another preconditioning.
    """

    log_sigmas: Tensor  # of the steps of a variant

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        _torchvision.repair()
        # Imported here because it takes about 4 s, which code that only reads a configuration
        # should not pay.
        from diffusers import UNet2DModel

        attends = [k in config.attention_levels for k in range(len(config.block_out_channels))]
        self.config = config
        self.unet: nn.Module = UNet2DModel(
            sample_size=config.shape[1:],
            in_channels=config.shape[0] * (2 if config.prior_input else 1),
            out_channels=config.shape[0],
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]),
            norm_num_groups=config.norm_groups,
            num_class_embeds=config.n_embeddings,
            add_attention=bool(config.attention_levels),
            **({} if config.variant is None else config.variant.options),
        )
        if config.variant is not None and (levels := config.variant.log_sigmas()):
            self.register_buffer("log_sigmas", torch.tensor(levels), persistent=False)
        self.prior = (
            GaussianDenoiser(
                Cosines(config.shape, config.prior_bands), config.n_classes, config.sigma_data
            )
            if config.prior_bands
            else None
        )
        for parameter in self.unet.get_submodule("conv_out").parameters():
            nn.init.zeros_(parameter)

    @property
    def n_classes(self) -> int:
        """Returns the number of classes; their labels are 0 .. n_classes - 1."""
        return self.config.n_classes

    @property
    def null_label(self) -> int:
        """Returns the label of the null class, which replaces dropped labels in training."""
        return self.config.n_classes

    def forward(
        self, x: Tensor, sigma: Tensor, labels: Tensor, level: Tensor | None = None
    ) -> Tensor:
        """Estimates the clean images, in the shape and dtype of ``x``.

        Args:
            x: noisy images, (B, C, H, W).
            sigma: noise levels, positive, (B,).
            labels: int64 in [0, n_classes + 1 + n_reserved), (B,).
            level: what the noise embedding says, (B,); None: ``config.level``, or else ``sigma``.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != self.config.shape:
            expected = ", ".join(map(str, self.config.shape))
            raise ValueError(f"x must have shape (B, {expected}), got {tuple(x.shape)}")
        if sigma.shape != x.shape[:1] or labels.shape != x.shape[:1]:
            raise ValueError(
                f"sigma and labels must have shape ({x.shape[0]},), "
                f"got {tuple(sigma.shape)} and {tuple(labels.shape)}"
            )
        # At least float32 outside the network: the rounding of c_skip x in half precision would be
        # larger than the contribution of F.
        wide = torch.promote_types(x.dtype, torch.float32)
        c = self._coefficients(sigma.to(wide))
        skip, out, scale = (rearrange(a, "b -> b 1 1 1") for a in (c.skip, c.out, c.input))
        start = skip * x if self.prior is None else self.prior(x.to(wide), sigma.to(wide), labels)
        seen = scale * x
        if self.config.prior_input:
            seen = torch.cat([seen, (start - skip * x) / out], 1)
        told = c.noise
        if level is None and self.config.level is not None:
            level = torch.full_like(sigma, self.config.level)
        if level is not None:
            told = self._coefficients(level.to(wide)).noise
        dtype = next(self.unet.parameters()).dtype
        (f,) = self.unet(seen.to(dtype), told, class_labels=labels, return_dict=False)
        return (start + out * f.to(wide)).to(x.dtype)

    def _coefficients(self, sigma: Tensor) -> Coefficients:
        """Computes the preconditioning of this network, which may be a variant."""
        variant = self.config.variant
        if variant is None or variant.target == "edm":
            return coefficients(sigma, self.config.sigma_data)
        return Coefficients(*variant.coefficients(sigma, self.log_sigmas))

    def score_fn(self, labels: Tensor, guidance: float = 0.0) -> ScoreFn:
        """Returns the score function ``(D - x) / sigma^2`` for these labels and this guidance.

        With guidance w it uses ``D_labels + w (D_labels - D_null)``, with two evaluations a call;
        w = 0 is the conditional score with one evaluation, w = -1 the unconditional one.

        Args:
            labels: int64, (B,); every call must have B images.
            guidance: the weight w of classifier-free guidance.

        Reference: Ho and Salimans (2022), "Classifier-Free Diffusion Guidance", equation 6.
        """
        n_rows = self.config.n_embeddings
        if labels.ndim != 1 or labels.dtype != torch.int64:
            raise ValueError(
                f"labels must be int64 of shape (B,), got {labels.dtype} {tuple(labels.shape)}"
            )
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < n_rows:
            raise ValueError(
                f"labels must lie in [0, {n_rows}), got {int(labels.min())} to {int(labels.max())}"
                f" ({self.n_classes} classes, null label {self.null_label}, "
                f"{self.config.n_reserved} reserved)"
            )

        def score(x: Tensor, sigma: Tensor) -> Tensor:
            sigma = sigma.to(x).expand(x.shape[0])
            denoised = self(x, sigma, labels)
            if guidance != 0.0:
                null = self(x, sigma, torch.full_like(labels, self.null_label))
                denoised = denoised + guidance * (denoised - null)
            return (denoised - x) / rearrange(sigma, "b -> b 1 1 1") ** 2

        return score
