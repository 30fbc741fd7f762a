"""The attributes that this package needs of a graph and of a force field."""

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

Same = TypeVar("Same")


@runtime_checkable
class Graph(Protocol):
    """A batch of structures, atoms of one structure contiguous; Å."""

    @property
    def positions(self) -> Float[Tensor, "n 3"]: ...

    @property
    def batch(self) -> Int[Tensor, " n"]: ...

    @property
    def mobile(self) -> Bool[Tensor, " n"]: ...

    @property
    def n_structures(self) -> int: ...

    def at(self: Same, positions: Float[Tensor, "n 3"]) -> Same: ...


G = TypeVar("G", bound=Graph)

ForceField = Callable[[G], tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]]
"""Energy of each structure (eV) and force on every atom (eV/Å), forces = -dE/dR."""
