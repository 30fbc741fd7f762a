"""Energies and forces of structures with a trained force field, and their errors."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from experiments.harness.execution.progress import progress
from sdedata.reading import AS_WRITTEN, Reading

log = logging.getLogger(__name__)

SHIFTED = 5.0
"""A mean difference of so many times what is left without it is pointed out."""


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors against the labels of a file, where it has them; None without."""

    frames: int
    energy: float | None
    """meV per atom."""
    shift: float | None
    """meV per atom: the mean of the differences, of predicted less labelled energies."""
    scatter: float | None
    """meV per atom: the mean absolute difference from that mean."""
    force: float | None
    """meV/Å, of the components on atoms whose forces the file knows."""

    def __str__(self) -> str:
        parts = [
            f"{name} {value:.1f} {unit}"
            for name, value, unit in (
                ("energy", self.energy, "meV/atom"), ("forces", self.force, "meV/Å")
            )
            if value is not None
        ]  # fmt: skip
        if not parts:
            return "no energies or forces to compare with; --energy-key and --forces-key name them"
        text = f"mean absolute error against the file's labels: {', '.join(parts)}"
        if self.frames > 1 and self.shift and abs(self.shift) > SHIFTED * (self.scatter or 0.0):
            text += (
                f"; predicted energies differ by {self.shift:+.1f} meV/atom in the mean, and from "
                f"that by {self.scatter:.1f}: labels with another zero would do so"
            )
        return text


def predict(
    run: Path, source: Path, output: Path, reading: Reading = AS_WRITTEN
) -> tuple[dict[int, float], Errors]:
    """Write `source` with predicted labels (also on fixed atoms) to `output`.

    Returns energies (eV) by frame, and errors against the labels of the file, which may have other
    names (`reading`). Frames that hold no structure are left out, and the log names them.
    ValueError for a model or file that cannot be used, an element that the model does not know, or
    many frames that hold none.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io.formats import filetype, ioformats

    from experiments.harness.generation.given import read_given
    from experiments.harness.runs.atomic_io import replacing
    from experiments.harness.training.checkpoint import load_model
    from guidance import ForceFieldCalculator
    from sdedata import Graph
    from sdedata.files import write_frames
    from sdedata.frames import labels

    model = load_model(run, "forcefield")
    frames = read_given(source, reading)
    if filetype(str(output), read=False) not in ioformats:
        raise ValueError(f"{output}: ASE writes no format of this name")
    _require_known(frames, source, model.elements)
    alone = sum(not atoms.pbc[:2].all() for atoms in frames.values())
    if alone:
        log.info(f"{source}: {alone} of {len(frames)} frames are not periodic in the plane")

    def to_graph(atoms: Atoms) -> Graph:
        return Graph.from_atoms(atoms, model.network.cutoff)

    calculator = ForceFieldCalculator(model.network, to_graph)
    energies, differences = {}, []
    for k in progress(frames, "predict"):
        atoms, known = frames[k], labels(frames[k])
        energies[k] = calculator.get_potential_energy(atoms)
        forces = calculator.results["forces"]
        differences.append(_difference(atoms, known, energies[k], forces))
        atoms.calc = SinglePointCalculator(atoms, energy=energies[k], forces=forces)
    with replacing(output) as part:
        for phrase in write_frames(part, list(frames.values())):
            log.info(f"{output}: {phrase} left out: the format does not return it")
    return energies, _errors(differences)


def _require_known(frames: Mapping[int, Atoms], source: Path, elements: Sequence[int]) -> None:
    for k, atoms in frames.items():
        unknown = sorted({chemical_symbols[z] for z in atoms.numbers if z not in elements})
        if unknown:
            names = ", ".join(unknown)
            raise ValueError(f"{source}, frame {k}: the model does not know {names}")


def _difference(
    atoms: Atoms, known: Mapping[str, Any], energy: float, forces: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return errors per atom of the energy (eV) and of known force components; NaN, or none."""
    from sdedata.frames import energy_of, forces_of
    from sdedata.frozen import frozen_mask

    try:
        per_atom = (energy - energy_of(known, "")) / len(atoms)
    except ValueError:
        per_atom = np.nan
    try:
        labelled = forces_of(known, len(atoms), "")
    except ValueError:
        return per_atom, np.empty(0)
    frozen = frozen_mask(atoms)
    zeroed = bool(frozen.any()) and not labelled[frozen].any()
    return per_atom, (forces - labelled)[~(frozen & zeroed)].ravel()


def _errors(differences: Sequence[tuple[float, np.ndarray]]) -> Errors:
    energies = np.array([energy for energy, _ in differences])
    energies = energies[np.isfinite(energies)]
    forces = np.concatenate([force for _, force in differences])
    shift = energies.mean() if len(energies) else np.nan

    def mean(values: np.ndarray) -> float | None:
        return 1000 * float(values.mean()) if len(values) else None

    return Errors(
        len(differences),
        mean(np.abs(energies)),
        mean(energies),
        mean(np.abs(energies - shift)),
        mean(np.abs(forces)),
    )
