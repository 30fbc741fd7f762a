"""Relaxation of surfaces: by any ASE calculator, or in batches on a force field of this project."""

from collections.abc import Sequence
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
from experiments.harness.training.checkpoint import Model, load_model
from guidance import LBFGS, ForceFieldCalculator
from guidance import relax as relax_batch
from painnx import ForceField
from sdedata import Graph, collate, rss
from sdedata.frozen import frozen_mask, only_frozen


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
        max_steps: steps before a structure is left unconverged.
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
    field, made = _force_field(calculator, surfaces), cast(Calculator, calculator)
    if field is None and hasattr(made, "batch") and _have_fixed_atoms_alone(surfaces):
        chunks = batches(range(len(surfaces)), batch_size)
        ends: list[Atoms] = []
        for chunk in progress(chunks, "relax") if show_progress else chunks:
            images = [surfaces[i] for i in chunk]
            paths = relaxed(images, made, options)
            ends += [_end(atoms, _path(atoms, paths, b)) for b, atoms in enumerate(images)]
        return ends
    if field is None:
        found = progress(surfaces, "relax") if show_progress else surfaces
        return [_end(atoms, _trajectory(atoms, made, options)) for atoms in found]
    _require_fixed_atoms_alone(surfaces)
    chunks = batches(range(len(surfaces)), batch_size)
    ends = []
    for chunk in progress(chunks, "relax") if show_progress else chunks:
        ends += _in_batch([surfaces[i] for i in chunk], field, options)
    return ends


def assess(
    images: Sequence[Atoms], calculator: str, relaxation: dict[str, Any]
) -> list[tuple[dict[str, Any], list[Atoms]]]:
    """Relax generated structures in a worker, with its own calculator (see `calculator_of`).

    Returns of each its row for the log, and the frames before and after, if it succeeded.
    """
    made = calculator_of(calculator)
    if not (hasattr(made, "batch") and _have_fixed_atoms_alone(images)):
        return [_assessed(atoms, _trajectory(atoms, made, relaxation)) for atoms in images]
    paths = relaxed(images, made, relaxation)
    return [_assessed(atoms, _path(atoms, paths, b)) for b, atoms in enumerate(images)]


def _assessed(atoms: Atoms, path: rss.Trajectory | str) -> tuple[dict[str, Any], list[Atoms]]:
    row: dict[str, Any] = {"index": int(atoms.info["index"])}
    if isinstance(path, str):
        return row | {"failed": path}, []
    facts = {"relax_steps": path.steps, "converged": path.converged}
    frames = [path.frame(k, atoms) for k in (0, -1)]
    for frame in frames:
        frame.info.update(facts)
    energies = {"energy": float(path.energies[0]), "energy_relaxed": float(path.energies[-1])}
    return row | facts | energies, frames


def _path(atoms: Atoms, paths: Paths, b: int) -> rss.Trajectory | str:
    """Return the relaxation of structure b; the reason if it failed. Atoms at rest keep digits."""
    if b in paths.failed:
        return paths.failed[b]
    fixed = frozen_mask(atoms)
    positions, energies, forces = (np.array(part) for part in zip(*paths.frames[b], strict=True))
    positions[:, fixed] = atoms.positions[fixed]
    return rss.Trajectory(fixed, positions, energies, forces, bool(paths.last.converged[b]))


def _trajectory(
    atoms: Atoms, calculator: Calculator, options: dict[str, Any]
) -> rss.Trajectory | str:
    """Relax one structure; returns the reason if that fails."""
    try:
        return rss.relax(atoms, calculator, optimizer=LBFGS, **options)
    except Exception as error:  # calculators raise anything
        return f"{type(error).__name__}: {error}"


def _end(atoms: Atoms, path: rss.Trajectory | str) -> Atoms:
    if isinstance(path, str):
        return _failed(atoms, path)
    end = path.frame(-1, atoms)
    end.info |= {
        "energy_initial": float(path.energies[0]),
        "relax_steps": path.steps,
        "converged": path.converged,
    }
    return end


def _in_batch(surfaces: Sequence[Atoms], field: ForceField, options: dict[str, Any]) -> list[Atoms]:
    device = next(field.parameters()).device
    graph = collate([Graph.from_atoms(atoms, field.cutoff) for atoms in surfaces]).to(device)
    initial = field(graph)[0].tolist()
    done = relax_batch(graph, field, select=Graph.select, **options)
    forces = done.forces.cpu().double().split(graph.counts.tolist())
    ends = []
    for b, (atoms, moved) in enumerate(zip(surfaces, done.graph.to_atoms(), strict=True)):
        if not done.finite[b]:
            ends.append(_failed(atoms, "FloatingPointError: energy or forces not finite"))
            continue
        result = atoms.copy()
        mobile = graph.mobile[graph.batch == b].cpu().numpy()
        result.positions[mobile] = moved.positions[mobile]  # the others keep all their digits
        result.calc = SinglePointCalculator(
            result, energy=float(done.energy[b]), forces=forces[b].numpy()
        )
        result.info |= {
            "energy_initial": initial[b],
            "relax_steps": int(done.steps[b]),
            "converged": bool(done.converged[b]),
        }
        ends.append(result)
    return ends


def _failed(atoms: Atoms, reason: str) -> Atoms:
    result = atoms.copy()  # without a calculator
    result.info |= {"relax_steps": 0, "converged": False, "failed": reason}
    return result


def _force_field(calculator: Any, surfaces: Sequence[Atoms]) -> ForceField | None:
    """Return the network that a calculator stands for; None for any other ASE calculator."""
    if isinstance(calculator, ForceFieldCalculator):
        return calculator.force_field if isinstance(calculator.force_field, ForceField) else None
    if isinstance(calculator, Calculator) or not isinstance(calculator, Model | str | Path):
        return None
    model = calculator if isinstance(calculator, Model) else load_model(calculator, "forcefield")
    if model.kind != "forcefield":
        raise ValueError(f"{model.source} holds a {model.kind} network; a forcefield is needed")
    model.require_elements({int(z) for atoms in surfaces for z in atoms.numbers})
    return model.network


def _have_fixed_atoms_alone(surfaces: Sequence[Atoms]) -> bool:
    return all(map(only_frozen, surfaces))


def _require_fixed_atoms_alone(surfaces: Sequence[Atoms]) -> None:
    for i, atoms in enumerate(surfaces):
        if not only_frozen(atoms):
            kinds = ", ".join(sorted({type(one).__name__ for one in atoms.constraints}))
            raise ValueError(
                f"structure {i} is under {kinds}, which do more than freeze atoms: a batch keeps "
                "frozen atoms alone; give an ASE calculator"
            )
