"""Conditioning of every block on the diffusion time, and on properties of the structure."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from painnx.blocks import SiLU, linear, mlp

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


class Conditioning(nn.Module):
    """Map time and properties to a scale and a shift of the scalars before each block (FiLM)."""

    def __init__(self, features: int, blocks: int, properties: int = 0):
        super().__init__()
        self.embed = nn.Sequential(linear(2 + 2 * FREQUENCIES, features), SiLU())
        self.film = linear(features, blocks * 2 * features)
        self.blocks, self.properties = blocks, properties
        if properties:
            self.asked = mlp(2 * properties, features, features)

    def forward(
        self, t: Float[Tensor, " b"], properties: Float[Tensor, "b p"] | None = None
    ) -> tuple[Float[Tensor, "b 2 f"], ...]:
        """Return one (scale, shift) pair per block; zeros leave the scalars unchanged.

        Properties that are NaN, or all of them if None, are not asked for.
        """
        embedded = self.embed(time_features(t))
        if self.properties:
            if properties is None:
                properties = t.new_full((len(t), self.properties), math.nan)
            known = ~properties.isnan()
            given = torch.cat([properties.nan_to_num(0.0), known.to(properties)], dim=1)
            embedded = embedded + self.asked(given)
        film = self.film(embedded)
        return film.unflatten(1, (self.blocks, 2, -1)).unbind(1)
