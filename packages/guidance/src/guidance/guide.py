"""Eq. 3 of the paper: a force field pulls the reverse process toward low energy."""

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from guidance.protocols import ForceField, G

Number = TypeVar("Number", float, Tensor)
MAX_FORCE = 10.0  # eV/Å; a step eta dt = 0.001 Å^2/eV then moves no atom by more than 0.01 Å


def eta_from_step(eta_dt: float, steps: int) -> float:
    """Return the eta whose product with dt = 1/N is `eta_dt` (paper: 0.001 Å^2/eV), for N steps.

    Raises:
        ValueError: if `eta_dt` is negative or there is no step.
    """
    if steps < 1:
        raise ValueError(f"Guidance needs at least one step, not steps={steps}.")
    return _checked("eta_dt", eta_dt) * steps


@dataclass(frozen=True)
class Guide(Generic[G]):
    """Compute the guiding velocity tau(t) f(M), multiplied by dt in the reverse step (Eq. 3).

    Differs from the paper in `max_force` (eV/Å): longer forces are scaled down to it, because
    forces between overlapping atoms would move them out of the cell in one step. None gives the
    paper's equation.

    Raises:
        ValueError: if `eta` (Å^2/eV) is negative, or `max_force` is not positive.
    """

    force_field: ForceField[G]
    eta: float
    max_force: float | None = MAX_FORCE

    def __post_init__(self) -> None:
        _checked("eta", self.eta)
        _check_max_force(self.max_force)

    def tau(self, t: Number) -> Number:
        """Return the weight of the forces, eta (1 - t), Å^2/eV: zero at t = 1 (noise)."""
        return self.eta * (1 - t)

    def __call__(self, graph: G, t: Number) -> Float[Tensor, "n 3"]:
        """Compute the velocity of every atom, Å per unit of t; zero on frozen atoms.

        A force that is not finite gives NaN, so that the sampler can stop that structure.
        """
        _, forces = self.force_field(graph)
        return self.tau(t) * limited(mobile_only(forces.detach(), graph), self.max_force)


def mobile_only(forces: Float[Tensor, "n 3"], graph: G) -> Float[Tensor, "n 3"]:
    """Set the forces on frozen atoms to zero."""
    return torch.where(graph.mobile[:, None], forces, torch.zeros_like(forces))


def limited(forces: Float[Tensor, "n 3"], max_force: float | None) -> Float[Tensor, "n 3"]:
    """Scale each force down to at most `max_force` (eV/Å); infinite forces become NaN."""
    if max_force is None:
        return forces
    # The square of a force between overlapping atoms overflows float32: divide before squaring.
    largest = forces.abs().amax(dim=1, keepdim=True).clamp(min=max_force)
    excess = torch.linalg.vector_norm(forces / largest, dim=1, keepdim=True) * (largest / max_force)
    return forces / excess.clamp(min=1)


def _checked(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be zero or positive and finite, not {value}.")
    return value


def _check_max_force(max_force: float | None) -> None:
    if max_force is not None and not max_force > 0:
        raise ValueError(f"max_force must be positive, or None for no limit, not {max_force}.")
