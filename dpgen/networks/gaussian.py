r"""The exact denoiser of a class-conditional Gaussian, to which a network adds its correction.

For x_0 ~ N(m_y, B C_y B' + rho^2 (I - B B')) with B low-frequency cosines and C_y = U diag(v) U',

    D(x, sigma, y) = m_y + f d + B U ((v / (v + sigma^2) - f) * U'B'd)
    d = x - m_y,   f = rho^2 / (rho^2 + sigma^2)

is the posterior mean of x_0 given x = x_0 + sigma z. With *released* moments it costs no privacy,
and a network that adds a correction, initialised to zero, only has to learn the difference from it.

Source: residual enhancement (Liu et al. 2024, arXiv 2305.10662), over a private Gaussian.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpgen.networks.fixed.cosines import Cosines


class GaussianDenoiser(nn.Module):
    """The denoiser D of the class-conditional Gaussian; the null class has the mixture's mean and
    covariance. It starts as N(0, sigma_data^2 I) for every class; `set` gives it released moments.

    Args:
        cosines: the basis B.
        n_classes: number of classes; label ``n_classes`` and above is the null class.
        sigma_data: standard deviation of pixels before `set`.
    """

    basis: Tensor
    means: Tensor
    vectors: Tensor
    values: Tensor
    rest: Tensor

    def __init__(self, cosines: Cosines, n_classes: int, sigma_data: float) -> None:
        super().__init__()
        self.n_classes, self._shape = n_classes, cosines.shape
        m, rows = cosines.n_coefficients, n_classes + 1
        channels, height, width = cosines.shape
        plane = Cosines((1, height, width), cosines.bands)
        basis = plane.synthesise(torch.eye(plane.n_coefficients, dtype=torch.float64)).T.float()
        self.register_buffer("basis", basis, persistent=False)  # (H W, m / C)
        self.register_buffer("means", torch.zeros(rows, channels, height * width))
        self.register_buffer("vectors", torch.eye(m).repeat(rows, 1, 1))
        self.register_buffer("values", torch.full((rows, m), sigma_data**2))
        self.register_buffer("rest", torch.tensor(sigma_data**2))

    def set(self, means: Tensor, covariances: Tensor, rest: float) -> None:
        """Sets the moments to released ones.

        Args:
            means: means of the classes, (K, C H W).
            covariances: covariances of the cosines' coefficients, (K, m, m), positive definite.
            rest: rho, standard deviation outside the basis.
        """
        means, covariances = means.double(), covariances.double()
        common = means.mean(0)
        between = self._analyse((means - common).reshape(len(means), *self._shape).float()).double()
        mixed = covariances.mean(0) + between.T @ between / len(means)
        values, vectors = torch.linalg.eigh(torch.cat([covariances, mixed[None]]))
        self.means.copy_(torch.cat([means, common[None]]).reshape(self.means.shape))
        self.values.copy_(values)
        self.vectors.copy_(vectors)
        self.rest.fill_(max(rest, 1e-3) ** 2)

    def _analyse(self, x: Tensor) -> Tensor:
        """Computes coefficients (B, m) of images (B, C, H, W), channels fastest, as `Cosines`."""
        return torch.einsum("bcd,dk->bkc", x.flatten(2), self.basis.to(x)).flatten(1)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Computes the posterior mean (B, C, H, W) of noisy images x at levels sigma (B,), with
        labels (B,).
        """
        rows = labels.clamp(max=self.n_classes)
        means = self.means[rows].to(x)
        d = x.flatten(2) - means
        variance = sigma[:, None] ** 2
        outside = self.rest.to(x) / (self.rest.to(x) + variance)
        vectors, values = self.vectors[rows].to(x), self.values[rows].to(x)
        a = torch.einsum("bij,bi->bj", vectors, self._analyse(d.reshape(x.shape)))
        a = torch.einsum("bij,bj->bi", vectors, a * (values / (values + variance) - outside))
        inside = torch.einsum("bkc,dk->bcd", a.unflatten(1, (-1, x.shape[1])), self.basis.to(x))
        return (means + outside[:, :, None] * d + inside).reshape(x.shape)

    def sample(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draws images (N, C, H, W) of the classes ``labels``, (N,), clipped to [-1, 1]; on the
        CPU.
        """
        e = torch.randn(len(labels), *self._shape, generator=generator) * self.rest.sqrt()
        z = torch.randn(len(labels), self.values.shape[1], generator=generator)
        inside = torch.einsum("bij,bj->bi", self.vectors[labels], z * self.values[labels].sqrt())
        inside = (inside - self._analyse(e)).unflatten(1, (-1, self._shape[0]))
        x = e.flatten(2) + torch.einsum("bkc,dk->bcd", inside, self.basis)
        return (self.means[labels] + x).reshape(-1, *self._shape).clamp(-1, 1)
