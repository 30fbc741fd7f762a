"""The attributes that the networks read from a graph."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor


@runtime_checkable
class Graph(Protocol):
    """A batch of structures with their neighbour list (Å; b structures, n atoms, e edges).

    Atoms are ordered by structure. Edges without a `mobile` atom at either end are constants: the
    networks have no gradients by them. A graph that never changes can have a `memo`, an empty
    dictionary, where one network leaves for another what depends on the graph alone.
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
    """A graph that also has the indices of its mobile atoms, in ascending order."""

    @property
    def mobile_indices(self) -> Int[Tensor, " m"]: ...
