"""The sum over neighbours in PaiNN's message block (Eq. 7 and 8), along edges: its definition.

What is here runs on any device. `painnx.fused` has the same for CPUs, several times faster. Both
hold what depends on the geometry only, are made once per pass, and map what the senders say to what
the receivers hear.

Receivers are atoms. So are senders, or one stands for several: before the first block, all atoms of
a kind say the same.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from painnx.blocks import BY_TORCH, Between
from painnx.protocols import Graph
from painnx.radial import radial_basis


@dataclass(frozen=True)
class EdgeMessages:
    """One message per edge, summed at its receiver."""

    between: ClassVar[Between] = BY_TORCH
    senders: Int[Tensor, " e"]
    receivers: Int[Tensor, " e"]
    basis: Float[Tensor, "e r"]
    directions: Float[Tensor, "e 3"]
    n_receivers: int

    @classmethod
    def of(cls, graph: Graph, n_radial: int) -> "EdgeMessages":
        """The messages between the atoms of this graph, with `n_radial` Gaussians."""
        moving = graph.mobile[graph.senders] | graph.mobile[graph.receivers]
        vectors = graph.vectors  # constants between frozen atoms, as for the kernels
        vectors = torch.where(moving[:, None], vectors, vectors.detach())
        d = torch.linalg.norm(vectors, dim=-1)
        basis = radial_basis(d, n_radial, graph.cutoff)
        n = len(graph.numbers)
        return cls(graph.senders, graph.receivers, basis, vectors / d[:, None], n)

    def said_by(self, speakers: Int[Tensor, " n"]) -> "EdgeMessages":
        """The same, with another speaker for each atom."""
        return replace(self, senders=speakers[self.senders])

    def only(self, receivers: Int[Tensor, " m"]) -> "EdgeMessages":
        """The same, heard by some atoms alone, which are numbered anew in this order."""
        number = receivers.new_full((self.n_receivers,), -1)
        number[receivers] = torch.arange(len(receivers), device=number.device)
        (kept,) = torch.nonzero(number[self.receivers] >= 0, as_tuple=True)
        return EdgeMessages(
            self.senders[kept],
            number[self.receivers[kept]],
            self.basis[kept],
            self.directions[kept],
            len(receivers),
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
        n, features = self.n_receivers, contexts.shape[2]
        gates = (self.basis @ filters.flatten(1)).unflatten(1, (3, -1))
        said = contexts.index_select(0, self.senders) * gates
        to_scalar, along_edge, along_vector = said.unbind(1)
        to_vector = along_edge[:, None] * self.directions[..., None]
        if vectors is not None:
            to_vector = to_vector + along_vector[:, None] * vectors.index_select(0, self.senders)
        to_scalars = contexts.new_zeros(n, features).index_add(0, self.receivers, to_scalar)
        to_vectors = contexts.new_zeros(n, 3, features).index_add(0, self.receivers, to_vector)
        return to_scalars, to_vectors
