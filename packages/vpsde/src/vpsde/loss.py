"""Denoising score matching in normalised units: a network of zero output has loss 1."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vpsde.linalg import rows_times
from vpsde.protocols import Graph, ScoreModel
from vpsde.randomness import Generators
from vpsde.sde import SDE


def draw_times(
    n: int, generator: torch.Generator, power: float = 1.0, t_min: float = 1e-4
) -> Float[Tensor, " b"]:
    """Draw n times in (t_min, 1), one in each n-th of the range, in random order; float64.

    Uniform for `power` = 1 (the paper); denser toward t_min above 1, like u^power. Stratified to
    reduce the variance of a batch's loss. Raises ValueError for a `power` that is not positive or
    a `t_min` outside (0, 1).
    """
    if power <= 0 or not 0 < t_min < 1:
        raise ValueError(f"need power > 0 and 0 < t_min < 1, got {power} and {t_min}")
    draws = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
    order = torch.randperm(n, generator=generator, device=generator.device)
    return t_min + (1 - t_min) * ((order + draws) / n) ** power


def denoising_errors(
    model: ScoreModel,
    graph: Graph,
    sde: SDE,
    t: Float[Tensor, " b"],
    generators: Generators,
) -> Float[Tensor, " m"]:
    """Compute the squared error of each mobile atom, averaged over x, y and z, at one noise draw.

    The target is S(t)⁻¹ grad log p(x_t | x_0), of unit variance in each direction at each t.
    Raises ValueError for a graph that cannot be diffused (see `sde.check`).
    """
    noisy = graph.at(sde.perturb(graph, t, generators))
    to_unit = sde.scale(graph, t, power=-1)[graph.batch]
    target = rows_times(sde.conditional_score(noisy, graph.positions, t), to_unit)
    return ((model(noisy, t.to(target)) - target) ** 2).mean(-1)[graph.mobile_indices]


def score_matching_loss(
    model: ScoreModel,
    graph: Graph,
    sde: SDE,
    t: Float[Tensor, " b"],
    generators: Generators,
    weight: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, ""]:
    """Average `denoising_errors` over mobile atoms, weighted by weight(t) of their structure."""
    errors = denoising_errors(model, graph, sde, t, generators)
    if weight is not None:
        errors = errors * weight(t).to(errors)[graph.batch[graph.mobile_indices]]
    return errors.mean()
