"""The sum over neighbours in PaiNN's message block (Eq. 7 and 8), along edges: its definition.

What is here runs on any device, by torch as it is or compiled. `painnx.fused` has the same for
CPUs, several times faster. All hold what depends on the geometry only, are made once per pass, and
map what the senders say to what the receivers hear.

Receivers are atoms. So are senders, or one stands for several: before the first block, all atoms of
a kind say the same.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from painnx.blocks import BY_TORCH, Between
from painnx.protocols import Graph
from painnx.radial import radial_basis
from painnx.traced import Traced


def geometry(
    vectors: Float[Tensor, "e 3"], n_radial: int, cutoff: float
) -> tuple[Float[Tensor, "e r"], Float[Tensor, "e 3"]]:
    """Of each edge, its radial basis and its direction."""
    d = torch.linalg.norm(vectors, dim=-1)
    return radial_basis(d, n_radial, cutoff), vectors / d[:, None]


def summed(
    basis: Float[Tensor, "e r"],
    directions: Float[Tensor, "e 3"],
    contexts: Float[Tensor, "s 3 f"],
    vectors: Float[Tensor, "s 3 f"] | None,
    filters: Float[Tensor, "r 3 f"],
    senders: Int[Tensor, " e"],
    receivers: Int[Tensor, " e"],
    n_receivers: int,
) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
    """The messages' sums for `EdgeMessages`; what goes to the receiver `n_receivers` is dropped."""
    n, features = n_receivers, contexts.shape[2]
    gates = (basis @ filters.flatten(1)).unflatten(1, (3, -1))
    said = contexts.index_select(0, senders) * gates
    to_scalar, along_edge, along_vector = said.unbind(1)
    to_vector = along_edge[:, None] * directions[..., None]
    if vectors is not None:
        to_vector = to_vector + along_vector[:, None] * vectors.index_select(0, senders)
    to_scalars = contexts.new_zeros(n + 1, features).index_add(0, receivers, to_scalar)
    to_vectors = contexts.new_zeros(n + 1, 3, features).index_add(0, receivers, to_vector)
    return to_scalars[:n], to_vectors[:n]


@dataclass(frozen=True)
class EdgeMessages:
    """One message per edge, summed at its receiver."""

    between: ClassVar[Between] = BY_TORCH
    senders: Int[Tensor, " e"]
    receivers: Int[Tensor, " e"]
    per_edge: tuple[Float[Tensor, "e _"], ...]
    """What the edges' vectors come to, with a row for each edge."""
    n_receivers: int
    cutoff: float

    @classmethod
    def of(cls, graph: Graph, n_radial: int) -> "EdgeMessages":
        """The messages between the atoms of this graph, with `n_radial` Gaussians."""
        moving = graph.mobile[graph.senders] | graph.mobile[graph.receivers]
        vectors = graph.vectors  # constants between frozen atoms, as for the kernels
        vectors = torch.where(moving[:, None], vectors, vectors.detach())
        per_edge, n = cls._per_edge(vectors, n_radial, graph.cutoff), len(graph.numbers)
        return cls(graph.senders, graph.receivers, per_edge, n, graph.cutoff)

    @classmethod
    def _per_edge(cls, vectors: Tensor, n_radial: int, cutoff: float) -> tuple[Tensor, ...]:
        return geometry(vectors, n_radial, cutoff)

    def said_by(self, speakers: Int[Tensor, " n"]) -> "EdgeMessages":
        """The same, with another speaker for each atom."""
        return replace(self, senders=speakers[self.senders])

    def only(self, receivers: Int[Tensor, " m"]) -> "EdgeMessages":
        """The same, heard by some atoms alone, which are numbered anew in this order."""
        m = len(receivers)
        number = receivers.new_full((self.n_receivers,), m)  # of those that hear no longer
        number[receivers] = torch.arange(m, device=number.device)
        heard = replace(self, receivers=number[self.receivers], n_receivers=m)
        if torch.compiler.is_compiling():  # how many edges are left must not decide on shapes
            return heard
        (kept,) = torch.nonzero(heard.receivers < m, as_tuple=True)
        return replace(
            heard,
            senders=heard.senders[kept],
            receivers=heard.receivers[kept],
            per_edge=tuple(x[kept] for x in heard.per_edge),
        )

    def __call__(
        self,
        contexts: Float[Tensor, "s 3 f"],
        vectors: Float[Tensor, "s 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours to each receiver's scalars and vectors.

        contexts: what each sender says to scalars, along the edge and along its own vectors.
        vectors: its vectors; None where they are zero, as before the first block.
        filters: the linear maps from the radial basis to the filters of these three.
        """
        basis, directions = self.per_edge
        who = self.senders, self.receivers, self.n_receivers
        return summed(basis, directions, contexts, vectors, filters, *who)


@dataclass(frozen=True)
class CompiledMessages(EdgeMessages):
    """The same by programs that torch compiles, each from the edges' vectors to the sums."""

    between: ClassVar[Between] = Between(*map(Traced, BY_TORCH))

    @classmethod
    def _per_edge(cls, vectors: Tensor, n_radial: int, cutoff: float) -> tuple[Tensor, ...]:
        return (vectors,)

    def __call__(
        self,
        contexts: Float[Tensor, "s 3 f"],
        vectors: Float[Tensor, "s 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours; arguments as for `EdgeMessages`."""
        heard = contexts.new_empty(self.n_receivers, 0)
        said = contexts, vectors, filters
        return _sum(self.cutoff)(*self.per_edge, *said, self.senders, self.receivers, heard)


@cache
def _sum(cutoff: float) -> Traced:
    """The sum by edges' vectors; tensors only, so that the number of receivers is a tensor's."""
    return Traced(
        lambda r, x, v, w, senders, receivers, heard: summed(
            *geometry(r, len(w) - 1, cutoff), x, v, w, senders, receivers, len(heard)
        )
    )
