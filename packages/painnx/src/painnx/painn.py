"""PaiNN: polarizable atom interaction neural network (Schuett et al. 2021, arXiv 2102.03150)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from painnx.blocks import Message, Update
from painnx.messages_eager import EagerMessages
from painnx.messages_inductor import InductorMessages
from painnx.protocols import Graph

if TYPE_CHECKING:
    from painnx.messages_numba import NumbaMessages

Backend = Literal["auto", "eager", "numba", "inductor"]
ROWS = 32
"""On CPUs, atoms are filled up to a multiple of so many rows: oneDNN compiles each product of
matrices anew for another number of rows (half a megabyte; 36 of them in a step of training)."""


class PaiNN(nn.Module):
    """Compute each atom's scalars (n f) and vectors (n 3 f) from its neighbourhood.

    Args:
        elements: Atomic numbers that the network supports.
        features: f, the number of scalars and of vectors per atom.
        blocks: Number of pairs of a message and an update block.
        n_radial: Number of Gaussians per filter.
        cutoff: Å.
        backend: What computes message sums and updates: "eager", torch's own operations on any
            device; "inductor", the same compiled by torch (on a CPU two to five times as fast,
            after up to a minute at first use); "numba", kernels for CPUs; or "auto", "numba" on a
            CPU and else "eager". All give the same numbers up to rounding.

    Raises:
        ValueError: for an unknown backend, or elements that are missing or repeated.
    """

    index: Tensor

    def __init__(
        self,
        elements: Sequence[int],
        features: int,
        blocks: int,
        n_radial: int,
        cutoff: float,
        backend: Backend,
    ):
        super().__init__()
        if backend not in get_args(Backend):
            raise ValueError(
                f'backend must be "auto", "eager", "numba" or "inductor", not "{backend}"'
            )
        if not elements or len(set(elements)) != len(elements):
            raise ValueError(f"elements must be distinct atomic numbers, not {list(elements)}")
        self.elements = tuple(int(z) for z in elements)
        self.features = features
        self.n_radial = n_radial
        self.cutoff = float(cutoff)
        self.backend = backend
        index = torch.full((119,), -1)
        index[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("index", index, persistent=False)
        self.embedding = nn.Embedding(len(self.elements), features)
        self.message = nn.ModuleList(Message(features, n_radial) for _ in range(blocks))
        self.update = nn.ModuleList(Update(features) for _ in range(blocks))

    def config(self) -> dict[str, object]:
        """Return the constructor's arguments, except for `backend`, which suits a machine."""
        return {
            "elements": list(self.elements),
            "features": self.features,
            "blocks": len(self.message),
            "n_radial": self.n_radial,
            "cutoff": self.cutoff,
        }

    def species(self, numbers: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return the index of each atom's element in `elements`; ValueError for an unknown one."""
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
    ) -> tuple[Float[Tensor, "r f"], Float[Tensor, "r 3 f"]]:
        """Compute scalars and vectors of all atoms, or of the atoms in `only`.

        Rows beyond these atoms are filling (see `ROWS`) and without meaning.

        Args:
            film: For each block, a scale and a shift of its input scalars for each structure.
            marks: A class of each atom beside its element, from 0 to q - 1, and what is added to
                the embedding for each class.
            only: Indices of the atoms to compute; the last block skips the others.

        Raises:
            ValueError: for an unknown element, or a graph made with another cutoff.
        """
        messages = self.messages_on(graph)
        # Before the first block all atoms of a kind in a structure are the same: one row for them.
        kind, scalars = self._kinds(graph, marks)
        kinds = len(scalars)
        scalars = scalars.repeat(graph.n_structures, 1)
        receivers: Any = graph.batch * kinds + kind  # rows of `scalars`
        structure = torch.arange(len(scalars), device=kind.device) // kinds
        aggregate, receivers = messages.from_rows(receivers), _filled(receivers)
        vectors: Any = None  # zero, which saves the first block some work
        for k, (message, update) in enumerate(zip(self.message, self.update, strict=True)):
            if k == 1:
                receivers, structure, aggregate = None, _filled(graph.batch), messages
            if film is not None:
                scale, shift = film[k].index_select(0, structure).unbind(1)
                scalars = scalars * (1 + scale) + shift
            if only is not None and k + 1 == len(self.message):
                aggregate = aggregate.only(only)
                receivers = _filled(only if receivers is None else receivers[only])
            scalars, vectors = message(scalars, vectors, aggregate, receivers)
            scalars, vectors = update(scalars, vectors, aggregate.update_kernels)
        return scalars, vectors

    def _kinds(
        self, graph: Graph, marks: tuple[Int[Tensor, " n"], Float[Tensor, "q f"]] | None
    ) -> tuple[Int[Tensor, " n"], Float[Tensor, "k f"]]:
        """Return the kind of each atom (element and mark), and the embedding of each kind."""
        kind, scalars = self.species(graph.numbers), self.embedding.weight
        if marks is not None:
            mark, added = marks
            kind = kind * len(added) + mark
            scalars = (scalars[:, None] + added).flatten(0, 1)
        return kind, scalars

    def messages_on(self, graph: Graph) -> "EagerMessages | NumbaMessages":
        """Prepare the message sums on a graph; ValueError if it does not fit the network."""
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
        if torch.compiler.is_compiling():  # the whole network, messages included
            return EagerMessages.of(graph, self.n_radial)
        if self.backend == "inductor":
            return InductorMessages.of(graph, self.n_radial)
        if self.backend in ("auto", "numba"):
            from painnx.messages_numba import NumbaMessages  # Numba takes half a second to import

            if NumbaMessages.can(graph):
                return NumbaMessages.of(graph, self.n_radial)
            if self.backend == "numba":
                where = f"{graph.vectors.dtype} on {graph.vectors.device}"
                raise ValueError(f'the backend "numba" is for CPUs, not for {where}: use "auto"')
        return EagerMessages.of(graph, self.n_radial)


def _filled(index: Int[Tensor, " n"]) -> Int[Tensor, " r"]:
    """Append zeros up to a multiple of `ROWS`, on a CPU."""
    if torch.compiler.is_compiling() or not index.is_cpu:
        return index
    return nn.functional.pad(index, (0, -len(index) % ROWS))
