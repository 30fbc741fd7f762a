"""The sum over neighbours in PaiNN's message block (Eq. 7 and 8), along edges or as matrices.

Both classes hold what depends on the geometry only, are made once per pass, and map what the
senders say to what the receivers hear. They give the same numbers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from painnx.protocols import Graph
from painnx.radial import radial_basis

# Numbers in one temporary of DenseMessages on a CPU: few enough to stay in its cache.
CHUNK = 2**20


@dataclass(frozen=True)
class EdgeMessages:
    """One message per edge, summed at its receiver: the definition."""

    senders: Int[Tensor, " e"]
    receivers: Int[Tensor, " e"]
    basis: Float[Tensor, "e r"]
    directions: Float[Tensor, "e 3"]

    @classmethod
    def of(cls, graph: Graph, n_radial: int) -> "EdgeMessages":
        basis, directions = _basis_and_directions(graph, n_radial)
        return cls(graph.senders, graph.receivers, basis, directions)

    def __call__(
        self,
        contexts: Float[Tensor, "n 3 f"],
        vectors: Float[Tensor, "n 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
    ) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n 3 f"]]:
        """Sum the messages of all neighbours to each atom's scalars and vectors.

        contexts: what each sender says to scalars, along the edge and along its own vectors.
        vectors: its vectors; None where they are zero, as before the first block.
        filters: the linear maps from the radial basis to the filters of these three.
        """
        gates = (self.basis @ filters.flatten(1)).unflatten(1, (3, -1))
        to_scalar, along_edge, along_vector = (contexts[self.senders] * gates).unbind(1)
        to_vector = along_edge[:, None] * self.directions[..., None]
        if vectors is not None:
            to_vector = to_vector + along_vector[:, None] * vectors[self.senders]
        n = len(contexts)
        return (
            to_scalar.new_zeros(n, *to_scalar.shape[1:]).index_add(0, self.receivers, to_scalar),
            to_vector.new_zeros(n, *to_vector.shape[1:]).index_add(0, self.receivers, to_vector),
        )


@dataclass(frozen=True)
class DenseMessages:
    """All messages in two batched matrix products; no edge appears after construction.

    A message is linear in its radial basis, and a sender's features do not depend on its periodic
    image. So the basis (and basis times direction) is summed over the images of each pair once,
    and every block is  pairs (receiver, sender and radial) @ context times filter (sender and
    radial, feature).  Structures are padded to the largest; padding atoms have no pairs.
    """

    slots: Int[Tensor, " n"]  # row of each atom in the padded layout
    scalar: tuple[Float[Tensor, "_ m k"], ...]  # basis, in chunks of structures; k = m * r
    vector: tuple[Float[Tensor, "_ l k"], ...]  # basis times direction; l = m * 3

    @classmethod
    def of(cls, graph: Graph, n_radial: int, features: int) -> "DenseMessages":
        basis, directions = _basis_and_directions(graph, n_radial)
        counts = torch.bincount(graph.batch, minlength=graph.n_structures)
        b, m, r = len(counts), int(counts.max()), basis.shape[1]
        place = torch.arange(len(graph.batch), device=basis.device)
        place = place - (counts.cumsum(0) - counts)[graph.batch]  # of an atom in its structure
        slots = graph.batch * m + place

        rows, columns = slots[graph.receivers], place[graph.senders]
        scalar = basis.new_zeros(b * m * m, r).index_add(0, rows * m + columns, basis)
        rows = rows[:, None] * 3 + torch.arange(3, device=basis.device)
        along = basis[:, None] * directions[..., None]
        vector = basis.new_zeros(b * m * 3 * m, r).index_add(
            0, (rows * m + columns[:, None]).flatten(), along.flatten(0, 1)
        )
        chunk = b if basis.is_cuda else max(1, CHUNK // (4 * m * r * features))
        return cls(
            slots,
            scalar.view(b, m, m * r).split(chunk),
            vector.view(b, m * 3, m * r).split(chunk),
        )

    def __call__(
        self,
        contexts: Float[Tensor, "n 3 f"],
        vectors: Float[Tensor, "n 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
    ) -> tuple[Float[Tensor, "n f"], Float[Tensor, "n 3 f"]]:
        """Sum the messages of all neighbours; arguments as for `EdgeMessages`."""
        heard = self._sum(self.vector, contexts[:, 1:2], filters[:, 1:2])
        if vectors is None:
            return self._sum(self.scalar, contexts[:, :1], filters[:, :1])[:, 0], heard
        said = torch.cat([contexts[:, :1], contexts[:, 2:] * vectors], dim=1)
        echo = self._sum(self.scalar, said, filters[:, [0, 2, 2, 2]])
        return echo[:, 0], heard + echo[:, 1:]

    def _sum(
        self,
        pairs: tuple[Float[Tensor, "_ rows k"], ...],
        said: Float[Tensor, "n c f"],
        filters: Float[Tensor, "r c f"],
    ) -> Float[Tensor, "n d f"]:
        b, m = sum(map(len, pairs)), pairs[0].shape[2] // len(filters)
        padded = said.new_zeros(b * m, said[0].numel()).index_copy(0, self.slots, said.flatten(1))
        padded, filters = padded.view(b, m, 1, -1), filters.flatten(1)
        sums = [
            pair @ (chunk * filters).flatten(1, 2)
            for pair, chunk in zip(pairs, padded.split(len(pairs[0])), strict=True)
        ]
        return torch.cat(sums).view(b * m, -1, said.shape[2])[self.slots]


def _basis_and_directions(
    graph: Graph, n_radial: int
) -> tuple[Float[Tensor, "e r"], Float[Tensor, "e 3"]]:
    vectors = graph.vectors
    d = torch.linalg.norm(vectors, dim=-1)
    return radial_basis(d, n_radial, graph.cutoff), vectors / d[:, None]
