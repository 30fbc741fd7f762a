"""The difference of two potentials as a quadratic function fitted to points where both are known.

At some points R_j the force differences e_j are known. Near R, where they are e, the model is
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

MEMORY = 20  # points; 8 need a tenth more evaluations of the reference, 40 no fewer
FAR = 0.5  # Å, largest displacement of an atom up to which a point is used; 1.5 is no better
RIDGE = 0.01  # results hardly change between 0.001 and 0.05


class Point(NamedTuple):
    """Positions and force differences of all structures; valid for those in `known`."""

    positions: Float[Tensor, "n 3"]
    missing: Float[Tensor, "n 3"]
    known: Bool[Tensor, " b"]


class Difference:
    """The last points of a batch of structures at which both potentials were evaluated."""

    def __init__(self, graph: Graph) -> None:
        self.batch, self.b = graph.batch, graph.n_structures
        self.points: deque[Point] = deque(maxlen=MEMORY)

    def add(
        self,
        positions: Float[Tensor, "n 3"],
        missing: Float[Tensor, "n 3"],
        known: Bool[Tensor, " b"],
    ) -> None:
        """Add a point: the difference of the forces (eV/Å) at these positions (Å).

        Points with a difference that is not finite are ignored.
        """
        known = known & longest(missing, self.batch, self.b).isfinite()
        self.points.append(Point(positions, missing, known))

    def around(
        self,
        positions: Float[Tensor, "n 3"],
        missing: Float[Tensor, "n 3"],
        which: Bool[Tensor, " b"],
    ) -> "Quadratic":
        """Build the model around positions (Å) where `missing` is known, for those in `which`."""
        atoms = which[self.batch]
        steps, changes = [], []
        for point in self.points:
            step = point.positions - positions
            length = longest(step, self.batch, self.b)
            usable = point.known & (length > 0) & (length < FAR)
            scale = torch.where(usable, 1 / length, 0.0)[self.batch, None]
            used = usable[self.batch, None]
            steps.append((scale * torch.where(used, step, 0.0))[atoms])
            changes.append((scale * torch.where(used, point.missing - missing, 0.0))[atoms])
        batch = (which.cumsum(0) - 1)[self.batch[atoms]]
        return Quadratic(batch, int(which.sum()), missing[atoms], steps, changes)


class Quadratic:
    """The difference of energy and forces around a point, for a batch of b structures."""

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
        self, displacement: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
        """Evaluate the differences of energy (eV, zero at the point) and forces there."""
        along = self._sum((self.s * displacement[..., None]).sum(1))[..., None]
        across = self._sum((self.y * displacement[..., None]).sum(1))[..., None]
        p = self.g @ along
        q = self.g @ (across - self.a @ p)
        bent = (self.y @ p[self.batch] + self.s @ q[self.batch])[..., 0]
        work = self._sum(((self.missing + bent / 2) * displacement).sum(1))
        return -work, self.missing + bent
