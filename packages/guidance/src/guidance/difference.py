"""What one potential lacks to be another, as a quadratic function learnt where both are known.

At some points R_j the missing forces e_j are known. Near R, where they are e, they are modelled as
e + D v at R + v, with the smallest symmetric matrix D (in the Frobenius norm) that has D s_j =
e_j - e for all steps s_j = R_j - R, if there is one: Powell's symmetric form of Broyden's update
for several steps at once (Schnabel, Quasi-Newton methods using multiple secant equations,
CU-CS-247-83). With the steps as columns of S, the differences as those of Y, G = (SᵀS)⁻¹ and A the
symmetric part of SᵀY,

    D = Y G Sᵀ + S G Yᵀ - S G A G Sᵀ,

which is never written out. Where SᵀY is not symmetric, for D itself changes from point to point,
SᵀDS = A still holds. Each step and its difference are scaled alike, to 1 Å for the atom that goes
farthest, and a small ridge on SᵀS keeps G finite where steps are nearly parallel.
"""

from collections import deque
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from guidance.protocols import Graph
from guidance.relax import longest

MEMORY = 20  # points; 8 need a tenth more calls of the reference, 40 no fewer
FAR = 0.5  # Å, of the atom that is farthest: points beyond say nothing; 1.5 is no better
RIDGE = 0.01  # between 0.001 and 0.05 there is little to choose


class Point(NamedTuple):
    """Of all structures at once; those in `known` are to be believed."""

    positions: Float[Tensor, "n 3"]
    missing: Float[Tensor, "n 3"]
    known: Bool[Tensor, " b"]


class Difference:
    """The last points of a batch of structures at which both potentials have been asked."""

    def __init__(self, graph: Graph) -> None:
        self.batch, self.b = graph.batch, graph.n_structures
        self.points: deque[Point] = deque(maxlen=MEMORY)

    def learn(
        self,
        positions: Float[Tensor, "n 3"],
        missing: Float[Tensor, "n 3"],
        known: Bool[Tensor, " b"],
    ) -> None:
        """At these positions (Å) the first potential's forces lack `missing` (eV/Å).

        What is not finite tells nothing.
        """
        known = known & longest(missing, self.batch, self.b).isfinite()
        self.points.append(Point(positions, missing, known))

    def near(
        self,
        positions: Float[Tensor, "n 3"],
        missing: Float[Tensor, "n 3"],
        which: Bool[Tensor, " b"],
    ) -> "Quadratic":
        """The model around positions where `missing` is known, for the structures in `which`."""
        atoms = which[self.batch]
        steps, changes = [], []
        for point in self.points:
            step = point.positions - positions
            length = longest(step, self.batch, self.b)
            usable = point.known & (length > 0) & (length < FAR)
            scale = torch.where(usable, 1 / length, 0.0)[self.batch, None]
            told = usable[self.batch, None]
            steps.append((scale * torch.where(told, step, 0.0))[atoms])
            changes.append((scale * torch.where(told, point.missing - missing, 0.0))[atoms])
        batch = (which.cumsum(0) - 1)[self.batch[atoms]]
        return Quadratic(batch, int(which.sum()), missing[atoms], steps, changes)


class Quadratic:
    """The missing energy and forces around a point, for a batch of b structures."""

    def __init__(
        self,
        batch: Int[Tensor, " n"],
        b: int,
        missing: Float[Tensor, "n 3"],
        steps: list[Float[Tensor, "n 3"]],
        changes: list[Float[Tensor, "n 3"]],
    ) -> None:
        self.batch, self.b, self.missing = batch, b, missing
        self.s, self.y = torch.stack(steps, dim=2), torch.stack(changes, dim=2)
        gram = self._sum(self.s.mT @ self.s)
        ridge = RIDGE * gram.diagonal(dim1=1, dim2=2)
        self.g = torch.linalg.inv(gram + torch.diag_embed(ridge.masked_fill(ridge == 0, 1.0)))
        a = self._sum(self.s.mT @ self.y)
        self.a = (a + a.mT) / 2

    def _sum(self, per_atom: Tensor) -> Tensor:
        like = per_atom.new_zeros(self.b, *per_atom.shape[1:])
        return like.index_add(0, self.batch, per_atom)

    def __call__(
        self, way: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
        """What is missing at a way (Å) from there: energy (eV), counted from there, and forces."""
        along = self._sum((self.s * way[..., None]).sum(1))[..., None]
        across = self._sum((self.y * way[..., None]).sum(1))[..., None]
        p = self.g @ along
        q = self.g @ (across - self.a @ p)
        bent = (self.y @ p[self.batch] + self.s @ q[self.batch])[..., 0]
        work = self._sum(((self.missing + bent / 2) * way).sum(1))
        return -work, self.missing + bent
