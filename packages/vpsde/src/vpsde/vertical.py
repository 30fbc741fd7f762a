"""The vertical half of the transition kernel: Gaussian noise confined to a window in z.

Both kernels are functions of the mean, the noise level and a standard normal number; the same
`sample` draws p(z_t | z_0) in training and makes one confined step of the sampler.

Shapes: m atoms, each with its own window (z_lo, z_hi), Å. Sums should run in float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vpsde.linalg import interpolate
from vpsde.plane import VANISHED

LogInformation = Callable[[Tensor, Tensor], Tensor]
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_NODES = 256


@dataclass(frozen=True)
class Reflected:
    """Brownian motion between two mirrors: exact, by the sum over mirror images.

    The images repeat with twice the width of the window; a wide kernel tends to the uniform one.
    """

    def sample(
        self,
        mean: Float[Tensor, " m"],
        sigma: Float[Tensor, " m"],
        window: Float[Tensor, "m 2"],
        noise: Float[Tensor, " m"],
    ) -> Float[Tensor, " m"]:
        """Fold the free position back into the window, Å."""
        low, high = window.unbind(-1)
        width = high - low
        folded = width - ((mean + sigma * noise - low).remainder(2 * width) - width).abs()
        return (low + folded).clamp(low, high)

    def log_density(
        self,
        z: Float[Tensor, " m"],
        mean: Float[Tensor, " m"],
        sigma: Float[Tensor, " m"],
        window: Float[Tensor, "m 2"],
    ) -> Float[Tensor, " m"]:
        """Compute log p(z), normalised over the window; p in 1/Å."""
        images = _mirrored(z, mean, sigma, window)
        return _exponents(images, sigma).logsumexp(-1) - sigma.log() - _LOG_SQRT_2PI

    def score(
        self,
        z: Float[Tensor, " m"],
        mean: Float[Tensor, " m"],
        sigma: Float[Tensor, " m"],
        window: Float[Tensor, "m 2"],
    ) -> Float[Tensor, " m"]:
        """Compute d log p/dz, 1/Å; zero at both walls."""
        images = _mirrored(z, mean, sigma, window)
        return -(_exponents(images, sigma).softmax(-1) * images).sum(-1) / sigma**2

    def log_information(self, window: Float[Tensor, "b 2"]) -> "LogInformation":
        """Tabulate log(σ² E[s²]) by alpha (1 here) and sigma, averaged over z_0 in the window."""
        table, last = _reflected_table()
        tables = table.to(window).unsqueeze(0)
        row = torch.zeros(len(window), dtype=torch.long, device=window.device)
        end = last * (window[:, 1] - window[:, 0])
        return lambda alpha, sigma: interpolate(tables, row, sigma / end * (_NODES - 1))


@dataclass(frozen=True)
class Truncated:
    """The Gaussian cut off at the walls (the paper): N(z; mean, σ²) / Z inside, 0 outside."""

    def sample(
        self,
        mean: Float[Tensor, " m"],
        sigma: Float[Tensor, " m"],
        window: Float[Tensor, "m 2"],
        noise: Float[Tensor, " m"],
    ) -> Float[Tensor, " m"]:
        """Compute the quantile at Φ(noise), Å; at sigma = 0 the point nearest to the mean."""
        low, high = window.unbind(-1)
        sigma_ = sigma.clamp_min(torch.finfo(sigma.dtype).tiny)
        quantile = _truncated_normal((low - mean) / sigma_, (high - mean) / sigma_, noise)
        z = torch.where(sigma > 0, mean + sigma * quantile, mean)
        return torch.where(mean.isfinite(), z.clamp(low, high), torch.nan)

    def log_density(
        self,
        z: Float[Tensor, " m"],
        mean: Float[Tensor, " m"],
        sigma: Float[Tensor, " m"],
        window: Float[Tensor, "m 2"],
    ) -> Float[Tensor, " m"]:
        """Compute log p(z) for a mean inside the window; p in 1/Å."""
        low, high = ((wall - mean) / sigma for wall in window.unbind(-1))
        inside = _normal_cdf(high) - _normal_cdf(low)
        return -0.5 * ((z - mean) / sigma) ** 2 - (sigma * inside).log() - _LOG_SQRT_2PI

    def score(
        self,
        z: Float[Tensor, " m"],
        mean: Float[Tensor, " m"],
        sigma: Float[Tensor, " m"],
        window: Float[Tensor, "m 2"],
    ) -> Float[Tensor, " m"]:
        """Compute d log p/dz inside the window, 1/Å."""
        return -(z - mean) / sigma**2

    def log_information(self, window: Float[Tensor, "b 2"]) -> "LogInformation":
        """Compute log(σ² E[s²]) by alpha and sigma, averaged over z_0 uniform in the window.

        For one mean, with a and b the walls in units of sigma from it and φ the normal density,
        σ² E[s²] = 1 + (a φ(a) - b φ(b)) / (Φ(b) - Φ(a)).
        """
        z_0, weights = (x.to(window) for x in _gauss_legendre())
        width = window[:, 1] - window[:, 0]

        def value(alpha: Tensor, sigma: Tensor) -> Tensor:
            half_width = (width / (2 * sigma)).unsqueeze(-1)
            a, b = (half_width * (wall - alpha.unsqueeze(-1) * z_0) for wall in (-1.0, 1.0))
            inside = _normal_cdf(b) - _normal_cdf(a)
            phi_a, phi_b = (torch.exp(-0.5 * x**2 - _LOG_SQRT_2PI) for x in (a, b))
            variance = 1 + (a * phi_a - b * phi_b) / inside
            return (variance * weights).sum(-1).clamp_min(VANISHED).log()

        return value


def _mirrored(z: Tensor, mean: Tensor, sigma: Tensor, window: Tensor) -> Float[Tensor, "m k"]:
    """Return z - (image of the mean) for every mirror image that is not negligible."""
    low, high = window.unbind(-1)
    width = high - low
    reach = (width**2 + 60 * sigma**2).sqrt()  # exp(-30) = 1e-13 of the nearest image's weight
    n = int((reach / (2 * width) + 1).ceil().amax())
    shifts = 2 * width.unsqueeze(-1) * torch.arange(-n, n + 1).to(z)
    direct, mirrored = (x.unsqueeze(-1) for x in (z - mean, z + mean - 2 * low))
    return torch.cat([direct + shifts, mirrored + shifts], -1)


def _exponents(images: Float[Tensor, "m k"], sigma: Float[Tensor, " m"]) -> Float[Tensor, "m k"]:
    return -(images**2) / (2 * sigma.unsqueeze(-1) ** 2)


def _normal_cdf(x: Tensor) -> Tensor:
    """Compute Φ(x), accurate in the left tail, where torch.special.ndtr gives 0 below -8."""
    return torch.special.erfc(-x * math.sqrt(0.5)) / 2


def _truncated_normal(low: Tensor, high: Tensor, noise: Tensor) -> Tensor:
    """Compute the quantile at Φ(noise) of a standard normal between `low` and `high`.

    The side with more mass is mirrored to the left, where Φ is accurate down to 1e-300; beyond
    30 standard deviations Φ(x) ~ exp(-x²/2) is inverted, and corrected by one Newton step.
    """
    flip = torch.where(low + high > 0, -1.0, 1.0)
    low, high = torch.where(flip > 0, low, -high), torch.where(flip > 0, high, -low)
    share = _normal_cdf(flip * noise)
    below, above = _normal_cdf(low), _normal_cdf(high)
    bulk = torch.special.ndtri(below + share * (above - below))

    log_ndtr = torch.special.log_ndtr
    log_share = (share + (1 - share) * (log_ndtr(low) - log_ndtr(high)).exp()).log()
    tail = -(high**2 - 2 * log_share).sqrt()
    tail = tail - (log_ndtr(high) + log_share - log_ndtr(tail)) / tail
    return flip * torch.where(high < -30, tail, bulk)


@cache
def _gauss_legendre() -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Return nodes in (-1, 1), and weights of sum 1."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    return torch.from_numpy(nodes), torch.from_numpy(weights / 2)


@cache
def _reflected_table() -> tuple[Float[Tensor, " s"], float]:
    """Tabulate log(σ² E[s²]) of the reflected kernel from σ/width = 0 to the last value returned.

    E averages over z and z_0 by Gauss-Legendre sums over the unit interval; density and slope are
    cosine series, which stay accurate where the kernel is flat. For σ/width < 0.05 the walls act
    independently, and their effect is proportional to σ/width.
    """
    last, narrow = 5 / math.pi, 0.05
    z, weights = _gauss_legendre()
    z = (z + 1) / 2

    def information(r: float) -> float:
        k = math.pi * torch.arange(1, math.ceil(8.5 / (math.pi * r)) + 1).double()
        amplitude = 2 * torch.exp(-0.5 * (k * r) ** 2) * torch.cos(z.unsqueeze(-1) * k)
        density = (1 + amplitude @ torch.cos(k.unsqueeze(-1) * z)).clamp_min(1e-13)
        slope = -(k * amplitude) @ torch.sin(k.unsqueeze(-1) * z)
        return r**2 * float(weights @ (slope**2 / density) @ weights)

    loss = (1 - information(narrow)) / narrow
    ratios = torch.linspace(0, last, _NODES).tolist()
    values = [1 - loss * r if r < narrow else information(r) for r in ratios]
    return torch.tensor(values, dtype=torch.float64).clamp_min(VANISHED).log(), last
