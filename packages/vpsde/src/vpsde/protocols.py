"""What this package needs: a graph, a score model and, optionally, a guide."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor


@runtime_checkable
class Graph(Protocol):
    """A batch of `b` slabs with `n` atoms in all; lengths in Å, cells as row vectors."""

    @property
    def positions(self) -> Float[Tensor, "n 3"]: ...
    @property
    def batch(self) -> Int[Tensor, " n"]: ...  # structure of each atom, ascending
    @property
    def mobile_indices(self) -> Int[Tensor, " m"]: ...  # indices of the mobile atoms, ascending
    @property
    def cell(self) -> Float[Tensor, "b 3 3"]: ...
    @property
    def pbc(self) -> Bool[Tensor, "b 3"]: ...
    @property
    def window(self) -> Float[Tensor, "b 2"]: ...  # z_lo, z_hi of the confinement
    @property
    def n_structures(self) -> int: ...
    def at(self, positions: Float[Tensor, "n 3"]) -> "Graph": ...


# model(graph, t) with t Float[b]: the score in units of `SDE.scale`, [n 3], zero on frozen atoms.
ScoreModel = Callable[..., Tensor]
# guide(graph, t), t a tensor of one number: a velocity [n 3], Å per unit of t; 0 on frozen atoms.
Guide = Callable[..., Tensor]
