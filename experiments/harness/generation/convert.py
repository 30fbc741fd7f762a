"""The best structures of a run or a file, as input of other programs."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from experiments.harness.config.settings import Convert
from experiments.harness.generation.evaluate import RELAXED
from experiments.harness.generation.given import read_given
from experiments.harness.generation.inputs import write_inputs
from experiments.harness.generation.label import LABELLED, above_lowest
from experiments.harness.generation.sample import GENERATED
from experiments.harness.runs.run_folder import RunFolder
from sdedata import StructureSet
from sdedata.adsorption import is_adsorbed
from sdedata.dataset import distinct
from sdedata.frames import digest, labels
from sdedata.frames import energy_of as labelled_energy
from sdedata.similarity import unique

log = logging.getLogger(__name__)

MAY_CHANGE = ("output", "source")
MINIMA = "minima.npz"
"""File of a search's minima."""


def run(config: Convert) -> dict[str, Any]:
    """Write the inputs; returns the number of structures and their files.

    Raises ValueError for a source without structures, and for a folder that holds others.
    """
    if config.source is None:
        raise ValueError("nothing to convert: give a run's folder or a file of structures")
    source = Path(config.source)
    frames = candidates(source)
    if not frames:
        raise ValueError(f"{source} holds no structures that are finite and on the surface")
    best = lowest(frames, config.n)
    name = config.name or source.resolve().stem
    folder = RunFolder(Path(config.output) / "convert" / name)
    plain = config.plain() | {"name": name, "digest": digest(best)}
    with folder.recording(plain, MAY_CHANGE, config.overrides):
        files = write_inputs(best, folder, config.format)
    log.info(f"{len(best)} of {len(frames)} structures: {files[0]} ... in {folder.path}")
    return {"convert/n": len(best), "convert/files": files}


def candidates(source: Path) -> list[Atoms]:
    """Read the structures of a file, or of a run: each surface once, none that left its slab.

    Raises ValueError for a folder that is no such run.
    """
    if source.is_file():
        is_packed = source.suffix == ".npz"
        return StructureSet.read(source).to_atoms() if is_packed else [*read_given(source).values()]
    folder = RunFolder.existing(source)
    if (source / MINIMA).is_file():
        return distinct(StructureSet.read(source / MINIMA)).to_atoms()
    if relaxed := folder.structures(RELAXED):
        stayed = [atoms for atoms in relaxed if is_adsorbed(atoms)]
        if not stayed:
            return []
        energies = np.array([energy_of(atoms) for atoms in stayed])
        order = np.argsort(energies, kind="stable")
        ascending = [stayed[k] for k in order]
        first = unique(ascending, folder.config["tolerance"])
        return [ascending[k] for k in np.unique(first)]
    if labelled := folder.structures(LABELLED):
        return labelled
    generated = folder.structures(GENERATED)
    if not generated:
        raise ValueError(f"{source} has no structures of sample, evaluate, label or generate_data")
    return [atoms for atoms in generated if atoms.info["finite"]]


def energy_of(atoms: Atoms) -> float | None:
    """Return the energy (eV) that a structure carries, else the force field's; None without."""
    found = {"energy": atoms.info.get("energy_forcefield")} | labels(atoms)
    try:
        return labelled_energy(found, "")
    except ValueError:
        return None


def lowest(frames: Sequence[Atoms], n: int) -> list[Atoms]:
    """Select at most n structures by their energies above the lowest of the same atoms.

    In the order of the file, and the log says so, if not all of them have an energy.
    """
    energies = [energy_of(atoms) for atoms in frames]
    known = [energy for energy in energies if energy is not None]
    if len(known) < len(frames):
        missing = len(frames) - len(known)
        log.info(f"{missing} of {len(frames)} structures have no energy: taken in their order")
        return list(frames[:n])
    order = np.argsort(above_lowest(frames, known), kind="stable")
    return [frames[k] for k in order[:n]]
