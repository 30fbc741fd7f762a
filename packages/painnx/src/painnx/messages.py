"""The sum over neighbours in PaiNN's message block (Eq. 7 and 8), along edges or as matrices.

Both classes hold what depends on the geometry only, are made once per pass, and map what the
senders say to what the receivers hear. They give the same numbers.

Receivers are atoms. So are senders, or one stands for several: before the first block, all atoms of
a kind say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from painnx.contraction import contract
from painnx.protocols import Graph
from painnx.radial import radial_basis
from painnx.sums import LastSums, Table, sum_edges

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
        """The messages between the atoms of this graph, with `n_radial` Gaussians."""
        vectors = graph.vectors
        d = torch.linalg.norm(vectors, dim=-1)
        basis = radial_basis(d, n_radial, graph.cutoff)
        n = len(graph.numbers)
        return cls(graph.senders, graph.receivers, basis, vectors / d[:, None], n)

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
        to_scalars = contexts.new_zeros(n, features)
        to_vectors = contexts.new_zeros(n, 3, features)
        step = len(self.basis) if contexts.is_cuda else CHUNK // (12 * features)
        edges = (self.senders, self.receivers, self.basis, self.directions)
        for senders, receivers, basis, directions in zip(
            *(x.split(max(1, step)) for x in edges), strict=True
        ):
            gates = (basis @ filters.flatten(1)).unflatten(1, (3, -1))
            to_scalar, along_edge, along_vector = (
                contexts.index_select(0, senders) * gates
            ).unbind(1)
            to_vector = along_edge[:, None] * directions[..., None]
            if vectors is not None:
                to_vector = to_vector + along_vector[:, None] * vectors.index_select(0, senders)
            to_scalars.index_add_(0, receivers, to_scalar)
            to_vectors.index_add_(0, receivers, to_vector)
        return to_scalars, to_vectors


@dataclass(frozen=True)
class Layout:
    """Atoms (or kinds of them) of b structures as a table: a row per structure, with m places."""

    b: int
    m: int
    slots: Int[Tensor, " n"]
    """Place of each, counted through the table; other places are empty."""

    @classmethod
    def of(cls, batch: Int[Tensor, " n"], b: int) -> "Layout":
        """By the structure that each belongs to; the largest fills its row."""
        counts = torch.bincount(batch, minlength=b)
        m = int(counts.max())
        first = counts.cumsum(0) - counts
        place = torch.arange(len(batch), device=batch.device) - first[batch]
        return cls(b, m, batch * m + place)

    @classmethod
    def filled(cls, b: int, m: int, device: torch.device) -> "Layout":
        """All structures have m."""
        return cls(b, m, torch.arange(b * m, device=device))

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
    scalar: Float[Tensor, "b m k"]
    """Sums of the basis; m receivers, k = senders times radial functions."""
    vector: Float[Tensor, "b l k"]
    """Sums of basis times direction; l = m times 3."""
    step: int
    """Structures that are dealt with at a time."""

    def only(self, receivers: Int[Tensor, " m"]) -> "DenseMessages":
        """The same, heard by some atoms alone, which are numbered anew in this order."""
        rows = self.receivers.slots[receivers]
        layout = Layout.of(rows // self.receivers.m, self.receivers.b)
        k = self.scalar.shape[2]
        scalar = layout.pad(self.scalar.view(-1, k).index_select(0, rows))
        vector = layout.pad(self.vector.view(-1, 3 * k).index_select(0, rows))
        return replace(self, receivers=layout, scalar=scalar, vector=vector.view(layout.b, -1, k))

    def __call__(
        self,
        contexts: Float[Tensor, "s 3 f"],
        vectors: Float[Tensor, "s 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours; arguments as for `EdgeMessages`."""
        to_scalar, along_edge, along_vector = contexts.split(1, dim=1)
        first, second, third = filters.split(1, dim=1)
        heard = self._sum(self.vector, along_edge, second)
        if vectors is None:
            return self._sum(self.scalar, to_scalar, first, self.symmetric)[:, 0], heard
        said = torch.cat([to_scalar, along_vector * vectors], dim=1)
        filters = torch.cat([first, third, third, third], dim=1)
        echo = self._sum(self.scalar, said, filters, self.symmetric)
        return echo[:, 0], heard + echo[:, 1:]

    @property
    def symmetric(self) -> bool:
        """Between the same atoms on both sides, what depends on distances alone is symmetric."""
        return self.senders is self.receivers

    def _sum(
        self,
        pairs: Float[Tensor, "b _ k"],
        said: Float[Tensor, "s c f"],
        filters: Float[Tensor, "r c f"],
        symmetric: bool = False,
    ) -> Float[Tensor, "m d f"]:
        features = said.shape[2]
        said, filters = self.senders.pad(said.flatten(1)), filters.flatten(1)
        heard = contract(pairs, said, filters, self.step, symmetric)
        heard = heard.view(self.receivers.b, self.receivers.m, -1)
        return self.receivers.unpad(heard).unflatten(1, (-1, features))


def dense_messages(
    graph: Graph,
    n_radial: int,
    features: int,
    receivers: Layout,
    senders: Sequence[tuple[Layout, Int[Tensor, " n"]]],
    frozen: LastSums | None = None,
) -> list[DenseMessages]:
    """The messages on this graph, with `n_radial` Gaussians, between `features`.

    senders: who speaks and, for each atom, which of them speaks for it; the messages of each such
    division of the atoms are made in one go. frozen: remembers the sums over edges between frozen
    atoms, which are those of the last call in each step of a sampling; they are constants then.
    """
    b, m = receivers.b, receivers.m
    heard = receivers.slots[graph.receivers]
    tables = [
        Table(heard, rows[graph.senders] % layout.m, layout.m, b * m * layout.m)
        for layout, rows in senders
    ]
    vectors, known = graph.vectors, None
    if frozen is not None:
        moving = graph.mobile[graph.senders] | graph.mobile[graph.receivers]
        (still,), (edges,) = (torch.nonzero(x, as_tuple=True) for x in (~moving, moving))
        known = frozen(
            vectors.detach()[still], [t.of(still) for t in tables], n_radial, graph.cutoff
        )
        vectors, tables = vectors[edges], [t.of(edges) for t in tables]
    sums = sum_edges(vectors, tables, n_radial, graph.cutoff, known)
    found = []
    for (layout, _), (scalar, vector) in zip(senders, sums, strict=True):
        k = layout.m * (n_radial + 1)
        step = b if scalar.is_cuda else max(1, CHUNK // (4 * max(m, k) * features))
        pairs = scalar.view(b, m, k), vector.view(b, m * 3, k)
        found.append(DenseMessages(layout, receivers, *pairs, step))
    return found
