"""Relaxation of surfaces: by any ASE calculator, or in batches on a force field of this project."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

from experiments.harness.execution.progress import progress
from experiments.harness.generation.process import batches
from experiments.harness.structure_search.batch_relaxation import Paths, relaxed
from experiments.harness.structure_search.reference import calculator_of
from experiments.harness.training.calculator import TrainedForceField
from experiments.harness.training.checkpoint import Model, load_model
from guidance import LBFGS, ForceFieldCalculator
from guidance import relax as relax_batch
from painnx import ForceField
from sdedata import Graph, collate, rss
from sdedata.adsorption import overlapping
from sdedata.frozen import frozen_mask, only_frozen

HOLE, STUCK = 100.0, 100
"""eV released, and steps without convergence: after so much, atoms that overlap stay together."""


def relax(
    surfaces: Sequence[Atoms],
    calculator: Calculator | Model | str | Path,
    *,
    fmax: float = 0.1,
    max_steps: int = 150,
    max_step: float = 0.2,
    batch_size: int = 32,
    show_progress: bool = False,
) -> list[Atoms]:
    """Relax the atoms that are not frozen, by L-BFGS; the input is not changed.

    Args:
        surfaces: any structures with atoms that may move.
        calculator: an ASE calculator, which relaxes one structure after the other, or batches if it
            has a method `batch` as those of `experiments.calculators`; or a trained force field
            (its calculator, `Model`, file or run folder), which relaxes batches.
        fmax: eV/Å, the largest force on a mobile atom of a relaxed structure.
        max_steps: steps before a structure is left unconverged, in the lowest of its frames if the
            calculator is no force field of this project.
        max_step: Å, the longest way of an atom in one step.
        batch_size: structures relaxed at once; changes speed and memory alone.
        show_progress: whether to show a progress bar.

    Returns:
        One structure for each, in the same order, constraints kept; energy (eV) and forces on all
        atoms (eV/Å) in `.calc`; in `.info` also energy_initial (eV), relax_steps and converged. A
        structure whose relaxation fails is returned as it came, without `.calc`, with the reason
        in `.info["failed"]`.

    Raises:
        ValueError: for a file that is no force field, an element that it does not know, or a
            constraint that does more than freeze atoms on a structure relaxed in a batch.
    """
    options: dict[str, Any] = {"fmax": fmax, "max_steps": max_steps, "max_step": max_step}
    field = _force_field(calculator, surfaces)
    if field is not None:
        _require_fixed_atoms_alone(surfaces)
    made = field or cast(Calculator, calculator)
    at_once = batch_size if _in_batches(made, surfaces) else 1
    chunks = batches(range(len(surfaces)), at_once)
    found: list[Ends | str] = []
    for chunk in progress(chunks, "relax") if show_progress else chunks:
        found += _relaxed([surfaces[i] for i in chunk], made, options)
    return [_end(atoms, ends) for atoms, ends in zip(surfaces, found, strict=True)]


def assess(
    images: Sequence[Atoms], calculator: str, relaxation: dict[str, Any]
) -> list[tuple[dict[str, Any], list[Atoms]]]:
    """Relax generated structures in a worker, with its own calculator (see `calculator_of`).

    Returns of each its row for the log, and the frames before and after, if it succeeded.
    """
    found = _relaxed(images, calculator_of(calculator), relaxation)
    return [_assessed(atoms, ends) for atoms, ends in zip(images, found, strict=True)]


@dataclass(frozen=True)
class Ends:
    """The first and the last frame of a relaxation, with energies (eV) and forces (eV/Å)."""

    first: Atoms
    last: Atoms
    steps: int
    converged: bool

    @property
    def released(self) -> float:
        """The energy by which the relaxation has fallen, eV."""
        return float(self.first.get_potential_energy() - self.last.get_potential_energy())

    @property
    def lost(self) -> bool:
        """Whether atoms overlap in the end, deep in a hole or after many steps: no surface."""
        long = not self.converged and self.steps >= STUCK
        return (long or self.released > HOLE) and overlapping(self.last)

    @classmethod
    def of(cls, path: rss.Trajectory, atoms: Atoms) -> "Ends":
        """Take the ends of the trajectory of `atoms`; where `max_steps` ended it, the lowest frame.

        L-BFGS has no line search: one of its steps may lead uphill before the next ones descend.
        """
        end = -1 if path.converged else int(path.energies.argmin())
        first, last = (path.frame(k, atoms) for k in (0, end))
        return cls(first, last, path.steps, path.converged)


def _in_batches(calculator: Any, images: Sequence[Atoms]) -> bool:
    """Whether a calculator relaxes these structures side by side."""
    return hasattr(calculator, "batch") and all(map(only_frozen, images))


def _relaxed(
    images: Sequence[Atoms], calculator: Calculator, options: dict[str, Any]
) -> list[Ends | str]:
    """Relax structures, side by side if the calculator can; the reason of each that fails.

    Potentials have holes where atoms overlap, up to 1e17 eV deep: one such energy would be the
    lowest, and all of a mean.
    """
    return [
        "it fell into a hole of the calculator, with overlapping atoms"
        if isinstance(ends, Ends) and ends.lost
        else ends
        for ends in _ends(images, calculator, options)
    ]


def _ends(
    images: Sequence[Atoms], calculator: Calculator, options: dict[str, Any]
) -> list[Ends | str]:
    if isinstance(calculator, TrainedForceField) and _in_batches(calculator, images):
        return _on_force_field(images, calculator.network, options)
    if _in_batches(calculator, images):
        paths = relaxed(images, calculator, options)
        return [_path(atoms, paths, b) for b, atoms in enumerate(images)]
    return [_trajectory(atoms, calculator, options) for atoms in images]


def _assessed(atoms: Atoms, ends: Ends | str) -> tuple[dict[str, Any], list[Atoms]]:
    row: dict[str, Any] = {"index": int(atoms.info["index"])}
    if isinstance(ends, str):
        return row | {"failed": ends}, []
    facts = {"relax_steps": ends.steps, "converged": ends.converged}
    frames = [ends.first, ends.last]
    for frame in frames:
        frame.info.update(facts)
    energy, after = (float(frame.get_potential_energy()) for frame in frames)
    return row | facts | {"energy": energy, "energy_relaxed": after}, frames


def _path(atoms: Atoms, paths: Paths, b: int) -> Ends | str:
    """Return the relaxation of structure b; the reason if it failed. Atoms at rest keep digits."""
    if b in paths.failed:
        return paths.failed[b]
    fixed = frozen_mask(atoms)
    positions, energies, forces = (np.array(part) for part in zip(*paths.frames[b], strict=True))
    positions[:, fixed] = atoms.positions[fixed]
    converged = bool(paths.last.converged[b])
    return Ends.of(rss.Trajectory(fixed, positions, energies, forces, converged), atoms)


def _trajectory(atoms: Atoms, calculator: Calculator, options: dict[str, Any]) -> Ends | str:
    """Relax one structure; returns the reason if that fails."""
    try:
        return Ends.of(rss.relax(atoms, calculator, optimizer=LBFGS, **options), atoms)
    except Exception as error:  # calculators raise anything
        return f"{type(error).__name__}: {error}"


def _end(atoms: Atoms, ends: Ends | str) -> Atoms:
    if isinstance(ends, str):
        return _failed(atoms, ends)
    end = ends.last
    end.info |= {
        "energy_initial": float(ends.first.get_potential_energy()),
        "relax_steps": ends.steps,
        "converged": ends.converged,
    }
    return end


def _on_force_field(
    images: Sequence[Atoms], field: ForceField, options: dict[str, Any]
) -> list[Ends | str]:
    """Relax a batch on a force field, which takes the forces on frozen atoms at its ends alone."""
    device = next(field.parameters()).device
    graph = collate([Graph.from_atoms(atoms, field.cutoff) for atoms in images]).to(device)
    done = relax_batch(graph, field.on_mobile, select=Graph.select, **options)
    labels = [field(one) for one in (graph, done.graph)]
    mobile = graph.mobile.cpu().numpy()
    found: list[Ends | str] = []
    for b, atoms in enumerate(images):
        if not done.finite[b]:
            found.append("FloatingPointError: energy or forces not finite")
            continue
        own = (graph.batch == b).cpu().numpy()
        frames = []
        for (energies, forces), at in zip(labels, (graph, done.graph), strict=True):
            frame = atoms.copy()
            moved = at.positions.cpu().double().numpy()[own & mobile]
            frame.positions[mobile[own]] = moved  # the others keep all their digits
            frame.calc = SinglePointCalculator(
                frame, energy=float(energies[b]), forces=forces.cpu().double().numpy()[own]
            )
            frames.append(frame)
        found.append(Ends(frames[0], frames[1], int(done.steps[b]), bool(done.converged[b])))
    return found


def _failed(atoms: Atoms, reason: str) -> Atoms:
    result = atoms.copy()  # without a calculator
    result.info |= {"relax_steps": 0, "converged": False, "failed": reason}
    return result


def _force_field(calculator: Any, surfaces: Sequence[Atoms]) -> TrainedForceField | None:
    """Return the force field that a calculator stands for; None for any other ASE calculator."""
    if isinstance(calculator, ForceFieldCalculator):
        network = calculator.force_field
        return TrainedForceField(network) if isinstance(network, ForceField) else None
    if isinstance(calculator, Calculator) or not isinstance(calculator, Model | str | Path):
        return None
    model = calculator if isinstance(calculator, Model) else load_model(calculator, "forcefield")
    if model.kind != "forcefield":
        raise ValueError(f"{model.source} holds a {model.kind} network; a forcefield is needed")
    model.require_elements({int(z) for atoms in surfaces for z in atoms.numbers})
    return TrainedForceField(model.network)


def _require_fixed_atoms_alone(surfaces: Sequence[Atoms]) -> None:
    for i, atoms in enumerate(surfaces):
        if not only_frozen(atoms):
            kinds = ", ".join(sorted({type(one).__name__ for one in atoms.constraints}))
            raise ValueError(
                f"structure {i} is under {kinds}, which do more than freeze atoms: a batch keeps "
                "frozen atoms alone; give an ASE calculator"
            )
