"""A trained force field of this project as the calculator of relaxations and labels.

`calculator=forcefield` builds it, and `calculator=corrected` one that learned a difference, with
what it is added to. Its energies are those of one file: the config of a run that used
it records the file's digest and what the network learned from, wherever the file lies.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from experiments.calculators.batched import BatchedCalculator
from experiments.harness.config.fields import Target
from experiments.harness.config.instantiate import CORRECTED, FORCE_FIELD, build
from experiments.harness.config.trust import require_known
from experiments.harness.runs.shipped_models import CORRECTIONS, DEFAULT, networks
from experiments.harness.training.checkpoint import CORRECTION, Model, load_model
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
    return TrainedForceField(_of_digest(path, "forcefield", digest).network)


class Corrected(BatchedCalculator):
    """The sum of a calculator and the mean of force fields that learned what it lacks."""

    def __init__(self, base: Any, fields: Sequence[TrainedForceField]) -> None:
        super().__init__()
        self.base, self.fields = base, list(fields)
        known = getattr(base, "elements", None)
        of_all = frozenset.intersection(*(field.elements for field in self.fields))
        self.elements = of_all if known is None else of_all & known
        self.at_once = getattr(base, "at_once", 1)

    def batch(self, images: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
        found = []
        every = [field.batch(images) for field in self.fields]
        for (energy, forces), *learned in zip(self._of_base(images), *every, strict=True):
            energies, extra = zip(*learned, strict=True)
            found.append((energy + float(np.mean(energies)), forces + np.mean(extra, axis=0)))
        return found

    def _of_base(self, images: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
        if hasattr(self.base, "batch"):
            return list(self.base.batch(images))
        found = []
        for image in images:
            atoms = image.copy()
            atoms.calc = self.base
            found.append((atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)))
        return found


def corrected(
    path: str | Sequence[str] | None = None,
    digest: str | Sequence[str] | None = None,
    learned_from: str | None = None,
) -> Corrected:
    """Build a calculator and its correction (a training with `data.minus`), whose card names both.

    Args:
        path: training run, model file or shipped corrections; of several, which differ in their
            seed, say, the mean; None: the shipped ones, of SevenNet-0 to PBE for silver oxide.
        digest: of the file or of each, as of `Model.digest`; None: any.
        learned_from: stands in configs for their readers (see `identified`).

    Raises:
        ValueError: for what is no correction, a file of another digest, corrections of different
            calculators, or a card with a calculator that is not built unasked.
    """
    models = _corrections(path, digest)
    base = models[0].card["minus"]
    require_known(base, f"{models[0].source}, which corrects a calculator,", "train it anew")
    return Corrected(build(base), [TrainedForceField(model.network) for model in models])


def _corrections(
    path: str | Sequence[str] | None, digest: str | Sequence[str] | None
) -> list[Model]:
    """Load corrections of one calculator; ValueError for what is none."""
    path = path or CORRECTIONS
    paths = (networks(path) or [path]) if isinstance(path, str) else list(path)
    digests = [digest] * len(paths) if digest is None or isinstance(digest, str) else list(digest)
    if not paths or len(paths) != len(digests):
        raise ValueError("calculator.path and calculator.digest name different numbers of networks")
    pairs = zip(paths, digests, strict=True)
    models = [_of_digest(one, CORRECTION, known) for one, known in pairs]
    for model in models[1:]:
        if model.card["minus"] != models[0].card["minus"]:
            raise ValueError(f"{models[0].source} and {model.source} correct different calculators")
    return models


def _of_digest(path: str | None, kind: str, digest: str | None) -> Model:
    model = load_model(path or DEFAULT, kind)
    if digest not in (None, model.digest):
        raise ValueError(
            f"the {kind} network in {model.source} is {model.digest}, not {digest}: it was trained "
            "anew since; give this run another name"
        )
    return model


def identified(calculator: Target, usual: str = DEFAULT) -> Target:
    """Return a calculator's config with what its energies are known by.

    Of a force field that is the digest of its file, `usual` where none is named, and what it
    learned from; of any other calculator the config already is. ValueError for no force field.
    """
    kind = {FORCE_FIELD: "forcefield", CORRECTED: CORRECTION}.get(calculator.target)
    if kind is None:
        return calculator
    plain = calculator.plain()
    path = plain.get("path")
    is_sum = kind == CORRECTION
    pinned = plain.get("digest")
    models = _corrections(path, pinned) if is_sum else [_of_digest(path or usual, kind, pinned)]
    known: dict[str, Any] = {
        "path": [model.source for model in models],
        "digest": [model.digest for model in models],
    }
    if len(models) == 1:
        known = {key: values[0] for key, values in known.items()}
    learned_from = "; ".join(dict.fromkeys(map(_taught, models)))
    return Target.of({**plain, **known, "learned_from": learned_from})


def _taught(model: Model) -> str:
    """What a network learned from, in a few words."""
    name = _name(model.card.get("calculator") or "an unknown calculator")
    less = f" less {_name(model.card['minus'])}" if model.kind == CORRECTION else ""
    return f"{model.card['data']} {model.card['digest']}, labelled by {name}{less}"


def _name(calculator: Any) -> str:
    if not isinstance(calculator, dict):
        return str(calculator)
    name = str(calculator["_target_"]).rpartition(".")[2]
    given = [f"{k}={v}" for k, v in calculator.items() if k != "_target_" and v is not None]
    return f"{name} ({', '.join(given)})" if given else name
