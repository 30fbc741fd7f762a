"""The two networks: a score for the diffusion and a force field for its guide."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from painnx.blocks import Gated, mlp
from painnx.core import CoreRepulsion
from painnx.painn import Backend, PaiNN
from painnx.protocols import Graph, Surface
from painnx.time import Conditioning


class ScoreNetwork(nn.Module):
    """Predict the score up to its known scale: a vector per atom from positions and time.

    PaiNN's gated vector readout, not the gradient of an energy: one pass instead of two. It can
    learn the scores of structures with given `properties`, so many numbers of each structure, and
    of all structures, at once. Other arguments and errors as for `PaiNN`;
    `ScoreNetwork(**network.config())` has the same shape.
    """

    def __init__(
        self,
        elements: Sequence[int],
        features: int = 64,
        blocks: int = 4,
        n_radial: int = 20,
        cutoff: float = 6.0,
        backend: Backend = "auto",
        properties: int = 0,
    ):
        super().__init__()
        self.painn = PaiNN(elements, features, blocks, n_radial, cutoff, backend)
        self.mobility = nn.Embedding(2, features)
        self.time = Conditioning(features, blocks, properties)
        self.readout = nn.ModuleList([Gated(features, features // 2), Gated(features // 2, 1)])

    @property
    def elements(self) -> tuple[int, ...]:
        return self.painn.elements

    @property
    def cutoff(self) -> float:
        return self.painn.cutoff

    def config(self) -> dict[str, object]:
        asked = {"properties": self.time.properties} if self.time.properties else {}
        return self.painn.config() | asked

    def forward(
        self,
        graph: Surface,
        t: Float[Tensor, " b"],
        properties: Float[Tensor, "b p"] | None = None,
    ) -> Float[Tensor, "n 3"]:
        """Predict the normalised score of mobile atoms at times t in (0, 1]; zero on frozen atoms.

        The targets have unit variance; the diffusion (`vpsde.SDE.scale`) knows the unit in 1/Å.
        The score is that of structures with these properties; a NaN asks for none, like None for
        all. Raises ValueError for a time outside (0, 1], an unknown element or another cutoff than
        the network's.
        """
        marks = graph.mobile.long(), self.mobility.weight
        film = self.time(t, properties)
        scalars, vectors = self.painn(graph, film, marks, only=graph.mobile_indices)
        for gated in self.readout:
            scalars, vectors = gated(scalars, vectors)
        score = vectors.new_zeros(len(graph.mobile), 3)
        mobile = graph.mobile_indices
        return score.index_put((mobile,), vectors[: len(mobile), :, 0])


class ForceField(nn.Module):
    """Predict energies (eV) as sums of atomic energies, and forces (eV/Å) as minus their gradient.

    The energy of an atom is shift[element] + scale * readout(scalars), added in float64;
    `fit_shift_and_scale` fits both constants, `set_shift_and_scale` sets them. Atoms closer than
    any data repel as nuclei do (`CoreRepulsion`). Arguments and errors as for `PaiNN`.
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
        backend: Backend = "auto",
    ):
        super().__init__()
        self.painn = PaiNN(elements, features, blocks, n_radial, cutoff, backend)
        self.readout = mlp(features, features // 2, 1)
        self.core = CoreRepulsion()
        # In float64: totals of all-electron codes (1e6 eV) have more digits than float32.
        self.register_buffer("shift", torch.zeros(len(self.painn.elements), dtype=torch.float64))
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
        """Set the constants that `fit_shift_and_scale` returns for this network's `elements`."""
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    def forward(self, graph: Graph) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
        """Compute the energy (eV) of each structure and the force (eV/Å) on each atom.

        Frozen atoms are included. In training mode the results can be differentiated by the
        parameters; in evaluation mode, or with gradients disabled, they are constants. Raises
        ValueError for an unknown element or another cutoff than the network's.
        """
        return self._differentiate(graph, torch.ones_like(graph.mobile))

    def on_mobile(self, graph: Graph) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
        """Compute the same in less time without the forces on frozen atoms, which are zero here."""
        energy, forces = self._differentiate(graph, graph.mobile)
        return energy, torch.where(graph.mobile[:, None], forces, 0.0)

    def _differentiate(self, graph: Graph, mobile: Bool[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        """Compute energies, and forces that are complete on the `mobile` atoms."""
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
        """Add up the atoms of each structure, in float64."""
        scalars, _ = painn(graph)
        shift = self.shift[self.painn.index[graph.numbers]]  # `painn` has checked the elements
        readout = self.readout(scalars)[: len(shift), 0]
        atomic = shift + self.scale * readout + self.core(graph)
        return atomic.new_zeros(graph.n_structures).index_add(0, graph.batch, atomic)


def _constant(module: nn.Module) -> Callable[..., Any]:
    """Return the module with constant weights, so that no derivative by them is computed."""
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
    memo: dict[str, Any]

    @classmethod
    def of(cls, graph: Graph, mobile: Bool[Tensor, " n"]) -> "_Differentiable":
        return cls(
            _plain(graph.numbers),
            _plain(graph.batch),
            _plain(mobile),
            _plain(graph.senders),
            _plain(graph.receivers),
            _plain(graph.vectors).detach().requires_grad_(),
            graph.cutoff,
            graph.n_structures,
            getattr(graph, "memo", {}) if mobile is graph.mobile else {},
        )


def _plain(x: Tensor) -> Tensor:
    """Copy a tensor made in inference mode, which autograd refuses."""
    return x.clone() if not torch.compiler.is_compiling() and x.is_inference() else x


def fit_shift_and_scale(
    elements: Sequence[int],
    numbers: Int[Tensor, " n"],
    batch: Int[Tensor, " n"],
    energy: Float[Tensor, " b"],
    forces: Float[Tensor, "n 3"],
) -> tuple[Float[Tensor, " s"], Float[Tensor, ""]]:
    """Fit the constants of a `ForceField`: an energy per element (eV) and a typical force (eV/Å).

    The shift is the least-squares fit of the energies by the composition (that of least norm where
    the compositions do not determine it). The scale is the root mean square of a force component,
    so that a readout of order one gives forces of the right order. Both in float64.
    """
    counts = torch.zeros(len(energy), len(elements), dtype=torch.float64)
    for column, z in enumerate(elements):
        counts[:, column].index_add_(0, batch, (numbers == z).double())
    solution = torch.linalg.lstsq(counts, energy.double()[:, None], driver="gelsd")
    return solution.solution[:, 0], forces.double().square().mean().sqrt()
