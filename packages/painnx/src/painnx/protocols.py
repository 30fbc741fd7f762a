"""What a graph must offer to be read by the networks."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor


@runtime_checkable
class Graph(Protocol):
    """A batch of structures with their neighbour list (Å; b structures, n atoms, e edges).

    Atoms come structure by structure. What has no `mobile` atom at either end is constant: networks
    have no gradients by these edges.
    """

    @property
    def numbers(self) -> Int[Tensor, " n"]: ...
    @property
    def batch(self) -> Int[Tensor, " n"]: ...
    @property
    def mobile(self) -> Bool[Tensor, " n"]: ...
    @property
    def senders(self) -> Int[Tensor, " e"]: ...
    @property
    def receivers(self) -> Int[Tensor, " e"]: ...
    @property
    def vectors(self) -> Float[Tensor, "e 3"]: ...
    @property
    def cutoff(self) -> float: ...
    @property
    def n_structures(self) -> int: ...


@runtime_checkable
class Surface(Graph, Protocol):
    """A graph that tells which of its atoms are mobile by their indices, too, in their order."""

    @property
    def movers(self) -> Int[Tensor, " m"]: ...
