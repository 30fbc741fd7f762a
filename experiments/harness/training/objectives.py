"""What is learned: denoising score matching, or energies and forces. One class each."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from experiments.harness.config import settings
from experiments.harness.config.instantiate import build
from experiments.harness.config.settings import Train
from painnx import ForceField, ScoreNetwork, fit_shift_and_scale
from sdedata import Graph, collate
from sdedata.properties import Property, columns, energy_per_mobile_atom, properties
from vpsde import SDE, denoising_errors, draw_times, generators

VALIDATION_SEED = 1234567
VALIDATION_DRAWS = 4


class Task(Protocol):
    """A network with its loss."""

    kind: str
    network: Any

    def loss(self, network: Any, graph: Graph, generator: torch.Generator) -> Tensor: ...
    def validate(self, network: Any, batches: Sequence[Graph]) -> dict[str, float]: ...


UNASKED = 0.15
"""Share of the structures that are learned without their properties."""


class ScoreTask:
    """Denoising score matching: the network learns S(t)⁻¹ grad log p_t.

    With `properties` it learns that of the structures with given ones, too: of a share of the
    structures they are hidden (Ho and Salimans 2022, arXiv:2207.12598, Alg. 1).
    """

    kind = "score"

    def __init__(
        self,
        network: ScoreNetwork,
        sde: SDE,
        time_power: float,
        properties: Sequence[Property] = (),
    ) -> None:
        self.network = network
        self.sde = sde
        self.time_power = time_power
        self.properties = properties

    def loss(self, network: Any, graph: Graph, generator: torch.Generator) -> Tensor:
        return self._errors(network, graph, generator).mean()

    def validate(self, network: Any, batches: Sequence[Graph]) -> dict[str, float]:
        """The loss on held-out structures with the same noise every time, uniform in t."""
        errors = []
        with torch.no_grad():
            for k, graph in enumerate(batches):
                for generator in generators(VALIDATION_SEED + k, range(VALIDATION_DRAWS)):
                    errors.append(self._errors(network, graph, generator, power=1.0))
        return {"val/loss": float(torch.cat(errors).mean())}

    def _errors(
        self, network: Any, graph: Graph, generator: torch.Generator, power: float | None = None
    ) -> Tensor:
        t = draw_times(graph.n_structures, generator, power or self.time_power)
        if self.properties:
            network = partial(network, properties=self._known(graph, generator))
        return denoising_errors(network, graph, self.sde, t.to(graph.positions), generator)

    def _known(self, graph: Graph, generator: torch.Generator) -> Tensor:
        """The properties of the structures, and NaN for those that are hidden."""
        energy = energy_per_mobile_atom(graph) if "energy" in self.properties else None
        known = properties(graph, self.properties, self.network.elements, energy)
        draws = torch.rand(graph.n_structures, generator=generator, device=generator.device)
        hidden = (draws < UNASKED).to(known.device)
        return known.masked_fill(hidden[:, None], torch.nan)


class ForceFieldTask:
    """Energies per atom (eV) and forces on all atoms (eV/Å), with a Huber loss each."""

    kind = "forcefield"

    def __init__(self, network: ForceField, energy_weight: float, force_weight: float) -> None:
        self.network = network
        self.energy_weight = energy_weight
        self.force_weight = force_weight

    def loss(self, network: Any, graph: Graph, generator: torch.Generator) -> Tensor:
        energy, forces = network(graph)
        true_energy, true_forces = _labels(graph)
        per_atom = ((energy - true_energy) / graph.counts).to(forces.dtype)
        # Huber: the violent first frames of a relaxation must not drown the region that matters.
        known = true_forces.isfinite()
        force_error = torch.nn.functional.huber_loss(forces[known], true_forces[known], delta=1.0)
        energy_error = torch.nn.functional.huber_loss(
            per_atom, torch.zeros_like(per_atom), delta=0.1
        )
        return self.energy_weight * energy_error + self.force_weight * force_error

    def validate(self, network: Any, batches: Sequence[Graph]) -> dict[str, float]:
        """Mean absolute errors on held-out relaxations, where no force exceeds 5 eV/Å.

        Without such a frame there is the loss alone.
        """
        losses, energy_errors, force_errors = [], [], []
        for graph in batches:
            energy, forces = network(graph)
            true_energy, true_forces = _labels(graph)
            calm = _calm(graph)
            per_atom = ((energy - true_energy) / graph.counts)[calm]
            difference = (forces - true_forces)[calm[graph.batch]]
            difference = difference[difference.isfinite()]
            energy_errors.append(per_atom.abs())
            force_errors.append(difference.abs().flatten())
            with torch.no_grad():
                losses.append(self.loss(network, graph, torch.Generator()))
        errors = {
            "forcefield/energy_mae": torch.cat(energy_errors),
            "forcefield/force_mae": torch.cat(force_errors),
        }
        return {"val/loss": float(torch.stack(losses).mean())} | {
            name: 1000 * float(found.mean()) for name, found in errors.items() if len(found)
        }


CALM = 5.0  # eV/Å


def _labels(graph: Graph) -> tuple[Tensor, Tensor]:
    """Energies in float64, and forces, NaN where unknown; ValueError for a graph without them."""
    if graph.energy is None or graph.forces is None:
        raise ValueError("a force field learns from energies and forces: the data have none")
    return graph.energy, graph.forces


def _calm(graph: Graph) -> Tensor:
    """Per structure: is every force below CALM?"""
    _, forces = _labels(graph)
    largest = forces.nan_to_num().norm(dim=-1)
    return largest.new_zeros(graph.n_structures).scatter_reduce(
        0, graph.batch, largest, "amax"
    ) < CALM  # fmt: skip


def make_task(config: Train, elements: Sequence[int], train: Sequence[Graph]) -> Task:
    """The task of a config, with a new network for these elements."""
    arguments: dict[str, Any] = {"elements": list(elements), "cutoff": config.cutoff}
    if isinstance(config.task, settings.ScoreTask):
        names = config.task.properties or []
        if names:
            arguments["properties"] = columns(names, elements)
        network = build(config.task.network, **arguments)
        return ScoreTask(network, build(config.sde), config.task.time_power, names)
    network = build(config.task.network, **arguments)
    graph = collate([collate(train[k : k + 1000]) for k in range(0, len(train), 1000)])
    energy, forces = _labels(graph)
    forces = forces.nan_to_num()
    calm = forces.norm(dim=-1, keepdim=True) < CALM
    shift, scale = fit_shift_and_scale(
        list(elements), graph.numbers, graph.batch, energy, forces * calm
    )
    network.set_shift_and_scale(shift, scale)
    return ForceFieldTask(network, config.task.energy_weight, config.task.force_weight)
