"""The two networks: a score for the diffusion and a force field for its guide."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from painnx.blocks import Gated, mlp
from painnx.painn import Messages, PaiNN
from painnx.protocols import Graph, Surface
from painnx.time import TimeConditioning


class ScoreNetwork(nn.Module):
    """A vector per atom from positions and time: the score up to its known scale.

    Not the gradient of anything (PaiNN's gated vector readout), which costs one pass instead of
    two. Arguments as for `PaiNN`; `ScoreNetwork(**network.config())` has the same shape.
    """

    def __init__(
        self,
        elements: Sequence[int],
        features: int = 64,
        blocks: int = 4,
        n_radial: int = 20,
        cutoff: float = 6.0,
        messages: Messages = "auto",
    ):
        super().__init__()
        self.painn = PaiNN(elements, features, blocks, n_radial, cutoff, messages)
        self.mobility = nn.Embedding(2, features)
        self.time = TimeConditioning(features, blocks)
        self.readout = nn.ModuleList([Gated(features, features // 2), Gated(features // 2, 1)])

    @property
    def elements(self) -> tuple[int, ...]:
        return self.painn.elements

    @property
    def cutoff(self) -> float:
        return self.painn.cutoff

    def config(self) -> dict[str, object]:
        return self.painn.config()

    def forward(self, graph: Surface, t: Float[Tensor, " b"]) -> Float[Tensor, "n 3"]:
        """The normalised score of mobile atoms at the times t in (0, 1]; zero on frozen atoms.

        Meant to have unit variance: its scale is the diffusion's business. Raises ValueError for
        a time outside (0, 1], an unknown element or another cutoff than the network's.
        """
        marks = graph.mobile.long(), self.mobility.weight
        scalars, vectors = self.painn(graph, self.time(t), marks, only=graph.movers)
        for gated in self.readout:
            scalars, vectors = gated(scalars, vectors)
        score = vectors.new_zeros(len(graph.mobile), 3)
        return score.index_put((graph.movers,), vectors[..., 0])


class ForceField(nn.Module):
    """Energies (eV) and forces (eV/Å): a sum of atomic energies and minus its gradient.

    Each atom has the energy shift[element] + scale * readout(scalars); `fit_shift_and_scale` finds
    both constants, `set_shift_and_scale` sets them. Arguments as for `PaiNN`.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        elements: Sequence[int],
        features: int = 64,
        blocks: int = 4,
        n_radial: int = 20,
        cutoff: float = 6.0,
        messages: Messages = "auto",
    ):
        super().__init__()
        self.painn = PaiNN(elements, features, blocks, n_radial, cutoff, messages)
        self.readout = mlp(features, features // 2, 1)
        self.register_buffer("shift", torch.zeros(len(self.painn.elements)))
        self.register_buffer("scale", torch.ones(()))

    @property
    def elements(self) -> tuple[int, ...]:
        return self.painn.elements

    @property
    def cutoff(self) -> float:
        return self.painn.cutoff

    def config(self) -> dict[str, object]:
        return self.painn.config()

    def set_shift_and_scale(self, shift: Float[Tensor, " s"], scale: Float[Tensor, ""]) -> None:
        """Take the constants of `fit_shift_and_scale` (made with this network's `elements`)."""
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    def forward(self, graph: Graph) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
        """Energy of each structure and force on each atom, frozen ones included.

        The results can be differentiated by the parameters in training mode; in evaluation mode,
        or where the caller has switched gradients off, they are constants. Raises ValueError for
        an unknown element or another cutoff than the network's.
        """
        return self._differentiate(graph, torch.ones_like(graph.mobile))

    def on_mobile(self, graph: Graph) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
        """The same in less time, without the forces on frozen atoms, which are told as zero."""
        energy, forces = self._differentiate(graph, graph.mobile)
        return energy, torch.where(graph.mobile[:, None], forces, 0.0)

    def _differentiate(self, graph: Graph, mobile: Bool[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        """Energies, and forces that are complete on the `mobile` atoms."""
        train = self.training and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            graph = _Differentiable.of(graph, mobile)
            energy = self._energy(graph, self.painn if train else _constant(self.painn))
            (g,) = torch.autograd.grad(energy.sum(), graph.vectors, create_graph=train)
            # an edge is R[sender] - R[receiver]
            forces = g.new_zeros(len(graph.numbers), 3).index_add(0, graph.receivers, g)
            forces = forces.index_add(0, graph.senders, -g)  # with alpha=-1 eight times as long
        return (energy, forces) if train else (energy.detach(), forces)

    def _energy(self, graph: Graph, painn: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
        scalars, _ = painn(graph)
        atomic = self.shift[self.painn.index[graph.numbers]]  # `painn` knows all of them
        atomic = atomic + self.scale * self.readout(scalars)[:, 0]
        return atomic.new_zeros(graph.n_structures).index_add(0, graph.batch, atomic)


def _constant(module: nn.Module) -> Callable[..., Any]:
    """The module with constants for weights: no time goes into derivatives by them."""
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return lambda *arguments: functional_call(module, weights, arguments)


@dataclass(frozen=True)
class _Differentiable:
    """A graph whose edge vectors are the variables of differentiation."""

    numbers: Int[Tensor, " n"]
    batch: Int[Tensor, " n"]
    mobile: Bool[Tensor, " n"]
    senders: Int[Tensor, " e"]
    receivers: Int[Tensor, " e"]
    vectors: Float[Tensor, "e 3"]
    cutoff: float
    n_structures: int

    @classmethod
    def of(cls, graph: Graph, mobile: Bool[Tensor, " n"]) -> "_Differentiable":
        def plain(x: Tensor) -> Tensor:  # autograd refuses tensors made in inference mode
            return x.clone() if not torch.compiler.is_compiling() and x.is_inference() else x

        return cls(
            plain(graph.numbers),
            plain(graph.batch),
            plain(mobile),
            plain(graph.senders),
            plain(graph.receivers),
            plain(graph.vectors).detach().requires_grad_(),
            graph.cutoff,
            graph.n_structures,
        )


def fit_shift_and_scale(
    elements: Sequence[int],
    numbers: Int[Tensor, " n"],
    batch: Int[Tensor, " n"],
    energy: Float[Tensor, " b"],
    forces: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, " s"], Float[Tensor, ""]]:
    """Constants of a `ForceField`: an energy per element and the typical force.

    shift: least squares of the energies on the composition (of least norm where compositions do
    not tell the elements apart). scale: root mean square of a force component, so that a readout
    of order one gives forces of the right order. Both in float64.
    """
    counts = torch.zeros(len(energy), len(elements), dtype=torch.float64)
    for column, z in enumerate(elements):
        counts[:, column].index_add_(0, batch, (numbers == z).double())
    solution = torch.linalg.lstsq(counts, energy.double()[:, None], driver="gelsd")
    return solution.solution[:, 0], forces.double().square().mean().sqrt()
