"""Conditioning of every block on the diffusion time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from painnx.blocks import SiLU, linear

T_MIN = 1e-4  # at t = T_MIN the logarithmic feature is 1
FREQUENCIES = 6


def time_features(t: Float[Tensor, " b"]) -> Float[Tensor, "b k"]:
    """Compute t and log t, each with cosines of its first multiples.

    Noise levels near the data differ by factors: log t resolves 0.001 from 0.002 as well as 0.5
    from 1. Raises ValueError for a time outside (0, 1].
    """
    if not torch.compiler.is_compiling() and not bool(((t > 0) & (t <= 1)).all()):
        raise ValueError(f"time must be in (0, 1] (0 is data, 1 is noise), not {t.tolist()}")
    u = torch.stack([t, torch.log(t) / math.log(T_MIN)], dim=-1)
    k = torch.arange(1, FREQUENCIES + 1, dtype=t.dtype, device=t.device)
    return torch.cat([u, torch.cos(math.pi * k * u[..., None]).flatten(1)], dim=-1)


class TimeConditioning(nn.Module):
    """Map the time to a scale and a shift of the scalars before each block (FiLM)."""

    def __init__(self, features: int, blocks: int):
        super().__init__()
        self.embed = nn.Sequential(linear(2 + 2 * FREQUENCIES, features), SiLU())
        self.film = linear(features, blocks * 2 * features)
        self.blocks = blocks

    def forward(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b 2 f"], ...]:
        """Return one (scale, shift) pair per block; zeros leave the scalars unchanged."""
        film = self.film(self.embed(time_features(t)))
        return film.unflatten(1, (self.blocks, 2, -1)).unbind(1)
