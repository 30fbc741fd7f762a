"""The sum of messages over neighbours in PaiNN's message block (Eq. 7 and 8): its definition.

Here torch sums along the edges, on any device. `painnx.messages_inductor` compiles this definition
and `painnx.messages_numba` computes the same numbers on CPUs, several times faster. Each holds what
depends on the geometry only, is made once per pass of the network, and maps features of the senders
to sums at the receivers.

Receivers are atoms. A row of the senders' features may stand for several atoms: before the first
block all atoms of a kind have the same features.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from painnx.blocks import TORCH_UPDATE, UpdateKernels
from painnx.protocols import Graph
from painnx.radial import radial_basis


def geometry(
    vectors: Float[Tensor, "e 3"], n_radial: int, cutoff: float
) -> tuple[Float[Tensor, "e r"], Float[Tensor, "e 3"]]:
    """Compute the radial basis and the direction of each edge from its vector (Å)."""
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
    """Sum the messages at each receiver (see `EagerMessages`); index `n_receivers` is dropped."""
    n, features = n_receivers, contexts.shape[2]
    gates = (basis @ filters.flatten(1)).unflatten(1, (3, -1))
    messages = contexts.index_select(0, senders) * gates
    to_scalar, along_edge, along_vector = messages.unbind(1)
    to_vector = along_edge[:, None] * directions[..., None]
    if vectors is not None:
        to_vector = to_vector + along_vector[:, None] * vectors.index_select(0, senders)
    to_scalars = contexts.new_zeros(n + 1, features).index_add(0, receivers, to_scalar)
    to_vectors = contexts.new_zeros(n + 1, 3, features).index_add(0, receivers, to_vector)
    return to_scalars[:n], to_vectors[:n]


@dataclass(frozen=True)
class EagerMessages:
    """One message per edge, summed at its receiver by torch's own operations."""

    update_kernels: ClassVar[UpdateKernels] = TORCH_UPDATE
    senders: Int[Tensor, " e"]
    receivers: Int[Tensor, " e"]
    per_edge: tuple[Float[Tensor, "e _"], ...]
    """Functions of the edge vectors, one row per edge: radial basis and direction."""
    n_receivers: int
    cutoff: float

    @classmethod
    def of(cls, graph: Graph, n_radial: int) -> "EagerMessages":
        """Prepare the messages on a graph, with `n_radial` Gaussians."""
        moving = graph.mobile[graph.senders] | graph.mobile[graph.receivers]
        vectors = graph.vectors  # constants between frozen atoms, as for the Numba kernels
        vectors = torch.where(moving[:, None], vectors, vectors.detach())
        per_edge, n = cls._per_edge(vectors, n_radial, graph.cutoff), len(graph.numbers)
        return cls(graph.senders, graph.receivers, per_edge, n, graph.cutoff)

    @classmethod
    def _per_edge(cls, vectors: Tensor, n_radial: int, cutoff: float) -> tuple[Tensor, ...]:
        return geometry(vectors, n_radial, cutoff)

    def from_rows(self, rows: Int[Tensor, " n"]) -> "EagerMessages":
        """Take each sending atom's features from the given row instead of its own."""
        return replace(self, senders=rows[self.senders])

    def only(self, receivers: Int[Tensor, " m"]) -> "EagerMessages":
        """Restrict the sums to some receivers, renumbered in this order."""
        m = len(receivers)
        number = receivers.new_full((self.n_receivers,), m)  # m: no longer a receiver
        number[receivers] = torch.arange(m, device=number.device)
        selected = replace(self, receivers=number[self.receivers], n_receivers=m)
        if torch.compiler.is_compiling():  # shapes must not depend on the number of edges left
            return selected
        (edges,) = torch.nonzero(selected.receivers < m, as_tuple=True)
        return replace(
            selected,
            senders=selected.senders[edges],
            receivers=selected.receivers[edges],
            per_edge=tuple(x[edges] for x in selected.per_edge),
        )

    def __call__(
        self,
        contexts: Float[Tensor, "s 3 f"],
        vectors: Float[Tensor, "s 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
        to: tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"] | None] | None = None,
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours for each receiver's scalars and vectors.

        Args:
            contexts: Features of the senders for scalars, along the edge, along their own vectors.
            vectors: Vectors of the senders; None where they are zero, as before the first block.
            filters: Linear maps from the radial basis to the filters of these three.
            to: Scalars and vectors of the receivers to add the sums to (None: zeros). Rows beyond
                those of the receivers stay as they are.
        """
        basis, directions = self.per_edge
        rows = self.n_receivers if to is None else len(to[0])
        ends = self.senders, self.receivers, rows
        return added(summed(basis, directions, contexts, vectors, filters, *ends), to)


def added(
    sums: tuple[Tensor, Tensor], to: tuple[Tensor, Tensor | None] | None
) -> tuple[Tensor, Tensor]:
    """Add the sums of scalars and of vectors to what there is; None stands for zeros."""
    scalars, vectors = to or (None, None)
    to_scalars, to_vectors = sums
    return (
        to_scalars if scalars is None else scalars + to_scalars,
        to_vectors if vectors is None else vectors + to_vectors,
    )
