"""PaiNN: polarizable atom interaction neural network (Schuett et al. 2021, arXiv 2102.03150)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from painnx.blocks import Message, Update
from painnx.messages import CompiledMessages, EdgeMessages
from painnx.protocols import Graph

if TYPE_CHECKING:
    from painnx.fused import FusedMessages

Messages = Literal["auto", "edges", "fused", "compiled"]


class PaiNN(nn.Module):
    """The representation: each atom's scalars (n f) and vectors (n 3 f) from its neighbourhood.

    elements: atomic numbers that the network knows. features: f. blocks: message and update
    pairs. n_radial: Gaussians per filter. cutoff: Å. messages: how neighbours are summed and
    atoms updated, by torch along "edges" on any device, by the same "compiled" (on a CPU two to
    five times as fast, after up to a minute at first use), or by the "fused" kernels for CPUs. All
    ways give the same numbers; "auto" takes the kernels where they are, else "edges".
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
        if messages not in get_args(Messages):
            raise ValueError(
                f'messages must be "auto", "edges", "fused" or "compiled", not "{messages}"'
            )
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
        """The constructor's arguments as plain values, but for `messages`, a machine's business."""
        return {
            "elements": list(self.elements),
            "features": self.features,
            "blocks": len(self.message),
            "n_radial": self.n_radial,
            "cutoff": self.cutoff,
        }

    def species(self, numbers: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Position of each atom's element in `elements`; ValueError for an unknown one."""
        species = self.index[numbers]
        if not torch.compiler.is_compiling() and bool((species < 0).any()):
            unknown = sorted(set(numbers[species < 0].tolist()))
            raise ValueError(
                f"the network knows the atomic numbers {list(self.elements)}, not {unknown}: "
                "train one on data with these elements"
            )
        return species

    def forward(
        self,
        graph: Graph,
        film: Sequence[Float[Tensor, "b 2 f"]] | None = None,
        marks: tuple[Int[Tensor, " n"], Float[Tensor, "q f"]] | None = None,
        only: Int[Tensor, " m"] | None = None,
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Scalars and vectors of all atoms, or of `only` some: the last block skips the others.

        film: per block, a scale and a shift of the scalars that enter it, for each structure.
        marks: what tells atoms apart beside their element, as a number from 0 to q - 1, and what is
        added to the embedding for each. Raises ValueError for an unknown element and for a graph
        made with another cutoff.
        """
        others = self.messages_on(graph)
        # Before the first block, atoms of a kind are the same: one speaks for all of its structure.
        kind, scalars = self._kinds(graph, marks)
        kinds = len(scalars)
        scalars = scalars.repeat(graph.n_structures, 1)
        receivers: Any = graph.batch * kinds + kind  # rows of `scalars`
        structure = torch.arange(len(scalars), device=kind.device) // kinds
        aggregate = others.said_by(receivers)
        vectors: Any = None  # zero, which spares the first block some of its work
        for k, (message, update) in enumerate(zip(self.message, self.update, strict=True)):
            if k == 1:
                receivers, structure, aggregate = None, graph.batch, others
            if film is not None:
                scale, shift = film[k].index_select(0, structure).unbind(1)
                scalars = scalars * (1 + scale) + shift
            if only is not None and k + 1 == len(self.message):
                aggregate = aggregate.only(only)
                receivers = only if receivers is None else receivers[only]
            scalars, vectors = message(scalars, vectors, aggregate, receivers)
            scalars, vectors = update(scalars, vectors, aggregate.between)
        return scalars, vectors

    def _kinds(
        self, graph: Graph, marks: tuple[Int[Tensor, " n"], Float[Tensor, "q f"]] | None
    ) -> tuple[Int[Tensor, " n"], Float[Tensor, "k f"]]:
        """The kind of each atom, and what all atoms of a kind begin with."""
        kind, scalars = self.species(graph.numbers), self.embedding.weight
        if marks is not None:
            mark, added = marks
            kind = kind * len(added) + mark
            scalars = (scalars[:, None] + added).flatten(0, 1)
        return kind, scalars

    def messages_on(self, graph: Graph) -> "EdgeMessages | FusedMessages":
        """The sums over neighbours on this graph; ValueError where it does not fit the network."""
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
        if torch.compiler.is_compiling():  # all of it, and with it the messages
            return EdgeMessages.of(graph, self.n_radial)
        if self.messages == "compiled":
            return CompiledMessages.of(graph, self.n_radial)
        if self.messages in ("auto", "fused"):
            from painnx.fused import FusedMessages  # Numba takes half a second to import

            if FusedMessages.can(graph):
                return FusedMessages.of(graph, self.n_radial)
            if self.messages == "fused":
                where = f"{graph.vectors.dtype} on {graph.vectors.device}"
                raise ValueError(f'fused messages are for CPUs, not for {where}: use "auto"')
        return EdgeMessages.of(graph, self.n_radial)
