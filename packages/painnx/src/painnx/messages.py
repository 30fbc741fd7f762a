"""The sum over neighbours in PaiNN's message block (Eq. 7 and 8), along edges or as matrices.

Both classes hold what depends on the geometry only, are made once per pass, and map what the
senders say to what the receivers hear. They give the same numbers.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from painnx.contraction import contract
from painnx.protocols import Graph
from painnx.radial import radial_basis

# Numbers in the temporaries of one step on a CPU: few enough to stay in its cache.
CHUNK = 2**20


@dataclass(frozen=True)
class EdgeMessages:
    """One message per edge, summed at its receiver: the definition."""

    senders: Int[Tensor, " e"]
    receivers: Int[Tensor, " e"]
    basis: Float[Tensor, "e r"]
    directions: Float[Tensor, "e 3"]
    n_receivers: int

    @classmethod
    def of(cls, graph: Graph, n_radial: int) -> "EdgeMessages":
        """The messages on this graph, with `n_radial` Gaussians."""
        basis, directions = _basis_and_directions(graph, n_radial)
        return cls(graph.senders, graph.receivers, basis, directions, len(graph.numbers))

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
        contexts: Float[Tensor, "n 3 f"],
        vectors: Float[Tensor, "n 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours to each receiver's scalars and vectors.

        contexts: what each sender says to scalars, along the edge and along its own vectors.
        vectors: its vectors; None where they are zero, as before the first block.
        filters: the linear maps from the radial basis to the filters of these three.
        """
        n, features = self.n_receivers, contexts.shape[2]
        to_scalars = contexts.new_zeros(n, features)
        to_vectors = contexts.new_zeros(n, 3, features)
        step = len(self.basis) if contexts.is_cuda else CHUNK // (12 * features)
        edges = (self.senders, self.receivers, self.basis, self.directions)
        for senders, receivers, basis, directions in zip(
            *(x.split(max(1, step)) for x in edges), strict=True
        ):
            gates = (basis @ filters.flatten(1)).unflatten(1, (3, -1))
            to_scalar, along_edge, along_vector = (contexts[senders] * gates).unbind(1)
            to_vector = along_edge[:, None] * directions[..., None]
            if vectors is not None:
                to_vector = to_vector + along_vector[:, None] * vectors[senders]
            to_scalars.index_add_(0, receivers, to_scalar)
            to_vectors.index_add_(0, receivers, to_vector)
        return to_scalars, to_vectors


@dataclass(frozen=True)
class Layout:
    """Atoms of b structures as a table: a row per structure, a place per atom, the rest empty."""

    b: int
    m: int
    """Places in a row: the atoms of the largest structure."""
    slots: Int[Tensor, " n"]
    """Place of each atom, counted through the table."""

    @classmethod
    def of(cls, batch: Int[Tensor, " n"], b: int) -> "Layout":
        counts = torch.bincount(batch, minlength=b)
        m = int(counts.max())
        first = counts.cumsum(0) - counts
        place = torch.arange(len(batch), device=batch.device) - first[batch]
        return cls(b, m, batch * m + place)

    @property
    def full(self) -> bool:
        return len(self.slots) == self.b * self.m

    def pad(self, rows: Float[Tensor, "n k"]) -> Float[Tensor, "b m k"]:
        if not self.full:
            rows = rows.new_zeros(self.b * self.m, rows.shape[1]).index_copy(0, self.slots, rows)
        return rows.view(self.b, self.m, -1)

    def unpad(self, table: Float[Tensor, "b m k"]) -> Float[Tensor, "n k"]:
        rows = table.flatten(0, 1)
        return rows if self.full else rows.index_select(0, self.slots)


@dataclass(frozen=True)
class DenseMessages:
    """All messages in two batched matrix products; no edge appears after construction.

    A message is linear in its radial basis, and a sender's features do not depend on its periodic
    image. So the basis (and basis times direction) is summed over the images of each pair once,
    and every block is  pairs (receiver, sender and radial) @ context times filter (sender and
    radial, feature).  Structures are padded to the largest; padding atoms have no pairs.
    """

    senders: Layout
    receivers: Layout
    batch: Int[Tensor, " n"]
    scalar: Float[Tensor, "b m k"]
    """Sums of the basis; m receivers, k = senders times radial functions."""
    vector: Float[Tensor, "b l k"]
    """Sums of basis times direction; l = m times 3."""
    step: int
    """Structures that are dealt with at a time."""

    @classmethod
    def of(cls, graph: Graph, n_radial: int, features: int) -> "DenseMessages":
        """The messages on this graph, with `n_radial` Gaussians, between `features`."""
        basis, directions = _basis_and_directions(graph, n_radial)
        layout = Layout.of(graph.batch, graph.n_structures)
        b, m, r = layout.b, layout.m, basis.shape[1]
        pairs = layout.slots[graph.receivers] * m + layout.slots[graph.senders] % m
        along = (basis[:, None] * directions[..., None]).flatten(1)
        scalar = basis.new_zeros(b * m * m, r).index_add(0, pairs, basis)
        vector = basis.new_zeros(b * m * m, 3 * r).index_add(0, pairs, along)
        vector = vector.view(b, m, m, 3, r).transpose(2, 3)  # (receiver, direction, sender, radial)
        return cls(
            layout,
            layout,
            graph.batch,
            scalar.view(b, m, m * r),
            vector.reshape(b, m * 3, m * r),
            b if basis.is_cuda else max(1, CHUNK // (4 * m * r * features)),
        )

    def only(self, receivers: Int[Tensor, " m"]) -> "DenseMessages":
        """The same, heard by some atoms alone, which are numbered anew in this order."""
        layout = Layout.of(self.batch[receivers], self.senders.b)
        rows = self.receivers.slots[receivers]
        k = self.scalar.shape[2]
        scalar = layout.pad(self.scalar.view(-1, k).index_select(0, rows))
        vector = layout.pad(self.vector.view(-1, 3 * k).index_select(0, rows))
        return replace(self, receivers=layout, scalar=scalar, vector=vector.view(layout.b, -1, k))

    def __call__(
        self,
        contexts: Float[Tensor, "n 3 f"],
        vectors: Float[Tensor, "n 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours; arguments as for `EdgeMessages`."""
        to_scalar, along_edge, along_vector = contexts.split(1, dim=1)
        first, second, third = filters.split(1, dim=1)
        heard = self._sum(self.vector, along_edge, second)
        if vectors is None:
            return self._sum(self.scalar, to_scalar, first)[:, 0], heard
        said = torch.cat([to_scalar, along_vector * vectors], dim=1)
        echo = self._sum(self.scalar, said, torch.cat([first, third, third, third], dim=1))
        return echo[:, 0], heard + echo[:, 1:]

    def _sum(
        self,
        pairs: Float[Tensor, "b _ k"],
        said: Float[Tensor, "n c f"],
        filters: Float[Tensor, "r c f"],
    ) -> Float[Tensor, "m d f"]:
        features = said.shape[2]
        said, filters = self.senders.pad(said.flatten(1)), filters.flatten(1)
        heard = contract(pairs, said, filters, self.step)
        heard = heard.view(self.receivers.b, self.receivers.m, -1)
        return self.receivers.unpad(heard).unflatten(1, (-1, features))


def _basis_and_directions(
    graph: Graph, n_radial: int
) -> tuple[Float[Tensor, "e r"], Float[Tensor, "e 3"]]:
    vectors = graph.vectors
    d = torch.linalg.norm(vectors, dim=-1)
    return radial_basis(d, n_radial, graph.cutoff), vectors / d[:, None]
