"""PaiNN: polarizable atom interaction neural network (Schuett et al. 2021, arXiv 2102.03150)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from painnx.blocks import Message, Update
from painnx.messages import DenseMessages, EdgeMessages
from painnx.protocols import Graph

Messages = Literal["auto", "edges", "dense"]

# Dense messages cost atoms squared, edges only atoms. On one core, for 64 features and 4 blocks,
# dense ones took 0.7 of the edges' time at 27 atoms a structure, 0.8 at 50 and 1.4 at 108.
DENSE_UP_TO = 64


class PaiNN(nn.Module):
    """The representation: each atom's scalars (n f) and vectors (n 3 f) from its neighbourhood.

    elements: atomic numbers that the network knows. features: f. blocks: message and update
    pairs. n_radial: Gaussians per filter. cutoff: Å. messages: how neighbours are summed; both
    ways give the same numbers, "auto" takes the faster.
    """

    index: Tensor

    def __init__(
        self,
        elements: Sequence[int],
        features: int,
        blocks: int,
        n_radial: int,
        cutoff: float,
        messages: Messages,
    ):
        super().__init__()
        if messages not in ("auto", "edges", "dense"):
            raise ValueError(f'messages must be "auto", "edges" or "dense", not "{messages}"')
        if not elements or len(set(elements)) != len(elements):
            raise ValueError(f"elements must be distinct atomic numbers, not {list(elements)}")
        self.elements = tuple(int(z) for z in elements)
        self.features = features
        self.n_radial = n_radial
        self.cutoff = float(cutoff)
        self.messages = messages
        index = torch.full((119,), -1)
        index[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("index", index, persistent=False)
        self.embedding = nn.Embedding(len(self.elements), features)
        self.message = nn.ModuleList(Message(features, n_radial) for _ in range(blocks))
        self.update = nn.ModuleList(Update(features) for _ in range(blocks))

    def config(self) -> dict[str, object]:
        """The constructor's arguments, as plain values."""
        return {
            "elements": list(self.elements),
            "features": self.features,
            "blocks": len(self.message),
            "n_radial": self.n_radial,
            "cutoff": self.cutoff,
            "messages": self.messages,
        }

    def species(self, numbers: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Position of each atom's element in `elements`; ValueError for an unknown one."""
        species = self.index[numbers]
        if bool((species < 0).any()):
            unknown = sorted(set(numbers[species < 0].tolist()))
            raise ValueError(
                f"the network knows the atomic numbers {list(self.elements)}, not {unknown}: "
                "train one on data with these elements"
            )
        return species

    def forward(
        self,
        graph: Graph,
        context: Float[Tensor, "n f"] | None = None,
        film: Sequence[Float[Tensor, "b 2 f"]] | None = None,
        only: Bool[Tensor, " n"] | None = None,
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Scalars and vectors of all atoms, or of those in `only`: the last block skips the others.

        context: added to the embedding of the elements. film: per block, a scale and a shift of
        the scalars that enter it, for each structure. Raises ValueError for an unknown element
        and for a graph made with another cutoff.
        """
        scalars = self.embedding(self.species(graph.numbers))
        vectors: Any = None  # zero, which spares the first block half of its products
        if context is not None:
            scalars = scalars + context
        aggregate = self.aggregate(graph)
        receivers = None
        for k, (message, update) in enumerate(zip(self.message, self.update, strict=True)):
            if film is not None:
                scale, shift = film[k].index_select(0, graph.batch).unbind(1)
                scalars = scalars * (1 + scale) + shift
            if only is not None and k + 1 == len(self.message):
                (receivers,) = torch.nonzero(only, as_tuple=True)
                aggregate = aggregate.only(receivers)
            scalars, vectors = update(*message(scalars, vectors, aggregate, receivers))
        return scalars, vectors

    def aggregate(self, graph: Graph) -> DenseMessages | EdgeMessages:
        """The sum over neighbours on this graph."""
        if abs(graph.cutoff - self.cutoff) > 1e-6:
            raise ValueError(
                f"the graph's neighbours reach {graph.cutoff} Å, the network's cutoff is "
                f"{self.cutoff} Å: make the graph with the network's cutoff"
            )
        precision = self.embedding.weight.dtype
        if graph.vectors.dtype != precision:
            raise ValueError(
                f"the graph is in {graph.vectors.dtype}, the network {precision}: convert one"
            )
        largest = int(torch.bincount(graph.batch).max())
        if self.messages == "dense" or (self.messages == "auto" and largest <= DENSE_UP_TO):
            return DenseMessages.of(graph, self.n_radial, self.features)
        return EdgeMessages.of(graph, self.n_radial)
