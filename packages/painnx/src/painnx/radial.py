"""Functions of distance: Gaussians under a cosine cutoff, and the splines that stand for them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

DEGREE = 5
"""Of the splines: six are not zero at a distance, and their fourth derivatives are continuous."""


def cosine_cutoff(d: Float[Tensor, " e"], cutoff: float) -> Float[Tensor, " e"]:
    """Compute Behler's (cos(pi d / cutoff) + 1) / 2, whose value and slope vanish at the cutoff."""
    return torch.where(d < cutoff, 0.5 * (torch.cos(d * (math.pi / cutoff)) + 1), 0.0)


def radial_basis(d: Float[Tensor, " e"], n: int, cutoff: float) -> Float[Tensor, "e {n}+1"]:
    """Compute n Gaussians and the constant 1, all times the cutoff function, at distances d (Å).

    The Gaussians are centred evenly on [0, cutoff]; their standard deviation is their spacing.
    A filter (PaiNN's Eq. 7 and 8: a linear map of the Gaussians plus a bias, then the cutoff) is
    linear in these n + 1 functions.
    """
    return gaussians(d, n, cutoff) * cosine_cutoff(d, cutoff)[:, None]


def gaussians(d: Float[Tensor, " e"], n: int, cutoff: float) -> Float[Tensor, "e {n}+1"]:
    """Compute the functions of `radial_basis` without the cutoff function."""
    # 2^(-x²), x = (d / spacing - k) / sqrt(2 ln 2), and for the constant x = 0 d - 0. Far from its
    # centre a Gaussian is 0 in float32; torch.exp takes 16 times as long there as torch.exp2.
    centres = torch.arange(n + 1, dtype=d.dtype, device=d.device)
    slopes = torch.ones_like(centres)
    centres[-1] = slopes[-1] = 0.0
    width = math.sqrt(2 * math.log(2))
    scale = (n - 1) / (cutoff * width)
    x = torch.addcmul(-centres / width, (scale * d)[:, None], slopes)
    return torch.exp2(torch.addcmul(x.new_zeros(()), x, x, value=-1.0))


def spline_coefficients(n: int, cutoff: float, nodes: int) -> Float[Tensor, "{nodes}+5 {n}+1"]:
    """Interpolate the functions of `radial_basis` by B-splines; return coefficients in float64.

    The splines are uniform, centred at (k - 2) h with h = cutoff / nodes. The functions continue
    smoothly at both ends, and so far outside that the grid there counts as periodic.
    """
    margin, outside = 2, 64  # the influence of a point falls by 0.43 from node to node
    k = torch.arange(-outside, nodes + outside + 1, dtype=torch.float64)
    d = k * (cutoff / nodes)
    values = gaussians(d, n, cutoff) * (0.5 * (torch.cos(d * (math.pi / cutoff)) + 1))[:, None]
    phase = 2 * math.pi * torch.arange(len(d) // 2 + 1, dtype=torch.float64) / len(d)
    at_nodes = (66 + 52 * torch.cos(phase) + 2 * torch.cos(2 * phase)) / 120  # 1, 26, 66, 26, 1
    waves = torch.fft.rfft(values, dim=0) / at_nodes[:, None]
    coefficients = torch.fft.irfft(waves, n=len(d), dim=0)
    return coefficients[outside - margin : outside + nodes + margin + 1]
