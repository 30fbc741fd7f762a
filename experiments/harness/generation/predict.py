"""Energies and forces of structures with a trained force field."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from experiments.harness.execution.progress import progress


def predict(run: Path, source: Path, output: Path) -> list[float]:
    """Write `source` with predicted labels (also on fixed atoms) to `output`; returns energies.

    ValueError for a model or file that cannot be used, or an element that the model does not know.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write
    from ase.io.formats import filetype, ioformats

    from experiments.harness.runs.atomic_io import replacing
    from experiments.harness.training.checkpoint import load_model
    from guidance import ForceFieldCalculator
    from sdedata import Graph
    from sdedata.frames import read_frames

    model = load_model(run, "forcefield")
    frames = read_frames(source)
    if filetype(str(output), read=False) not in ioformats:
        raise ValueError(f"{output}: ASE writes no format of this name")
    for k, atoms in enumerate(frames):
        _check(atoms, model.elements, f"{source}, frame {k}")

    def to_graph(atoms: Atoms) -> Graph:
        return Graph.from_atoms(atoms, model.network.cutoff)

    calculator = ForceFieldCalculator(model.network, to_graph)
    energies = []
    for atoms in progress(frames, "predict"):
        energies.append(calculator.get_potential_energy(atoms))
        forces = calculator.results["forces"]
        atoms.calc = SinglePointCalculator(atoms, energy=energies[-1], forces=forces)
    with replacing(output) as part:
        write(part, frames)
    return energies


def _check(atoms: Atoms, elements: Sequence[int], where: str) -> None:
    """ValueError, beginning with `where`, for a structure that the model cannot judge."""
    unknown = sorted({chemical_symbols[z] for z in atoms.numbers if z not in elements})
    if unknown:
        raise ValueError(f"{where}: the model does not know {', '.join(unknown)}")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise ValueError(f"{where}: positions or cell are not finite")
    if any(p and not v.any() for p, v in zip(atoms.pbc, atoms.cell.array, strict=True)):
        raise ValueError(f"{where}: periodic along a direction without a cell vector")
