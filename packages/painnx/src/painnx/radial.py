"""Functions of distance: Gaussians under a cosine cutoff."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def cosine_cutoff(d: Float[Tensor, " e"], cutoff: float) -> Float[Tensor, " e"]:
    """Behler's cutoff (cos(pi d / cutoff) + 1) / 2: value and slope vanish at the cutoff."""
    return torch.where(d < cutoff, 0.5 * (torch.cos(d * (math.pi / cutoff)) + 1), 0.0)


def gaussians(d: Float[Tensor, " e"], n: int, cutoff: float) -> Float[Tensor, "e {n}"]:
    """n Gaussians centred evenly on [0, cutoff], as wide (standard deviation) as their spacing."""
    centres = torch.linspace(0.0, cutoff, n, dtype=d.dtype, device=d.device)
    width = cutoff / (n - 1)
    return torch.exp(-0.5 * ((d[:, None] - centres) / width) ** 2)


def radial_basis(d: Float[Tensor, " e"], n: int, cutoff: float) -> Float[Tensor, "e {n}+1"]:
    """The Gaussians and the constant 1, all times the cutoff function.

    A filter (PaiNN's Eq. 7 and 8: a linear map of the Gaussians plus a bias, then the cutoff) is
    linear in these n + 1 functions, which is what lets messages be summed over periodic images
    before any filter is applied.
    """
    basis = torch.cat([gaussians(d, n, cutoff), torch.ones_like(d)[:, None]], dim=-1)
    return basis * cosine_cutoff(d, cutoff)[:, None]
