"""A trained force field of this project as the calculator of relaxations and labels.

`calculator=forcefield` builds it. Its energies are those of one file: the config of a run that used
it records the file's digest and what the network learned from, wherever the file lies.
"""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from experiments.harness.config.fields import Target
from experiments.harness.config.instantiate import FORCE_FIELD
from experiments.harness.runs.shipped_models import DEFAULT
from experiments.harness.training.checkpoint import Model, load_model
from guidance import ForceFieldCalculator
from painnx import ForceField
from sdedata import Graph, collate


class TrainedForceField(ForceFieldCalculator):
    """A force field whose `batch` computes several structures in one pass."""

    at_once = 32
    """Structures that are relaxed side by side: larger batches are no quicker on a CPU."""

    def __init__(self, network: ForceField) -> None:
        super().__init__(network, self._graph)
        self.network = network
        self.elements = frozenset(network.elements)

    def batch(self, images: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
        """Compute energy (eV) and forces on all atoms (eV/Å, shape (n, 3)) of each structure."""
        graph = collate([self._graph(atoms) for atoms in images])
        energies, forces = self.network(graph)
        parts = forces.cpu().double().split(graph.counts.tolist())
        return [(e, f.numpy()) for e, f in zip(energies.tolist(), parts, strict=True)]

    def _graph(self, atoms: Atoms) -> Graph:
        device = next(self.network.parameters()).device
        return Graph.from_atoms(atoms, self.network.cutoff).to(device)


def forcefield(
    path: str | None = None, digest: str | None = None, learned_from: str | None = None
) -> TrainedForceField:
    """Build the calculator of a trained force field.

    Args:
        path: training run, model file or shipped model; None: the shipped one.
        digest: of the file, as of `Model.digest`; None: any.
        learned_from: stands in configs for their readers (see `identified`).

    Raises:
        ValueError: for what is no force field, or a file of another digest.
    """
    model = load_model(path or DEFAULT, "forcefield")
    if digest not in (None, model.digest):
        raise ValueError(
            f"the force field in {model.source} is {model.digest}, not {digest}: it was trained "
            "anew since; give this run another name"
        )
    return TrainedForceField(model.network)


def identified(calculator: Target, usual: str = DEFAULT) -> Target:
    """Return a calculator's config with what its energies are known by.

    Of a force field that is the digest of its file, `usual` where none is named, and what it
    learned from; of any other calculator the config already is. ValueError for no force field.
    """
    if calculator.target != FORCE_FIELD:
        return calculator
    plain = calculator.plain()
    path = plain.get("path") or usual
    model = load_model(path, "forcefield")
    known = {"path": path, "digest": model.digest, "learned_from": _taught(model)}
    return Target.of({**plain, **known})


def _taught(model: Model) -> str:
    """What a network learned from, in a few words."""
    calculator = model.card.get("calculator") or "an unknown calculator"
    name = calculator
    if isinstance(calculator, dict):
        arguments = [str(v) for k, v in calculator.items() if k != "_target_"]
        name = " ".join([str(calculator["_target_"]).rpartition(".")[2], *arguments])
    return f"{model.card['data']} {model.card['digest']}, labelled by {name}"
