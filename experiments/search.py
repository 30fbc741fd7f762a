"""One candidate of a random structure search, as a task that any executor can carry out."""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator

from experiments.build import from_key
from guidance import LBFGS
from sdedata.rss import Trajectory, random_surface, relax
from sdedata.template import Template


@dataclass(frozen=True)
class Candidate:
    """What a worker needs for structure `index`; all that is random follows from (seed, index)."""

    index: int
    composition: str
    seed: int
    template: Template
    calculator: str
    """The calculator's config as text: calculators themselves rarely survive pickling."""
    min_distances: dict[str, float]
    relaxation: dict[str, Any]
    folder: str

    @property
    def path(self) -> Path:
        return Path(self.folder) / f"{self.index:05d}.npz"


_mine = threading.local()  # calculators keep state: each thread of each process has its own


def _calculator(config: str) -> Calculator:
    if getattr(_mine, "config", None) != config:
        import torch

        torch.set_num_threads(1)  # one process per core with one thread each beats any other split
        _mine.calculator, _mine.config = from_key(config), config
    return _mine.calculator


def search(candidate: Candidate) -> dict[str, Any]:
    """Draw, relax and write one candidate; returns its row for the log.

    What fails costs this candidate only: the row then holds `failed`, the reason.
    """
    started = time.process_time()
    rng = np.random.default_rng([candidate.seed, candidate.index])
    row: dict[str, Any] = {"index": candidate.index, "composition": candidate.composition}
    calculator = _calculator(candidate.calculator)
    try:
        atoms = random_surface(
            candidate.template, candidate.composition, rng, candidate.min_distances
        )
        trajectory = relax(atoms, calculator, optimizer=LBFGS, **candidate.relaxation)
    except Exception as error:  # calculators raise anything; the reason is kept in the log
        return row | {"failed": f"{type(error).__name__}: {error}"}
    row |= {
        "energy": float(trajectory.energies[-1]),
        "energy_initial": float(trajectory.energies[0]),
        "relax_steps": trajectory.steps,
        "converged": trajectory.converged,
        "cpu_seconds": time.process_time() - started,
    }
    write_trajectory(candidate.path, trajectory, row)
    return row


def write_trajectory(path: Path, trajectory: Trajectory, row: dict[str, Any]) -> None:
    """Atomically: a file that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.npz")
    np.savez_compressed(
        partial,
        numbers=trajectory.numbers.astype(np.uint8),
        fixed=trajectory.fixed,
        cell=trajectory.cell,
        pbc=trajectory.pbc,
        positions=trajectory.positions.astype(np.float32),
        energies=trajectory.energies,
        forces=trajectory.forces.astype(np.float32),
        **{f"row.{key}": np.array(value) for key, value in row.items()},  # type: ignore[arg-type]
    )
    partial.replace(path)


def read_trajectory(path: Path) -> tuple[Trajectory, dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        row = {k.removeprefix("row."): file[k].item() for k in file.files if k.startswith("row.")}
        arrays = {k: file[k] for k in file.files if not k.startswith("row.")}
    return Trajectory(**arrays, converged=bool(row["converged"])), row


def assess(
    atoms: Atoms, calculator: str, relaxation: dict[str, Any]
) -> tuple[dict[str, Any], list[Atoms]]:
    """Relax one generated structure: its row, and the frames before and after, if it succeeded."""
    row: dict[str, Any] = {"index": int(atoms.info["index"])}
    reference = _calculator(calculator)
    try:
        trajectory = relax(atoms, reference, optimizer=LBFGS, **relaxation)
    except Exception as error:  # calculators raise anything; the reason is kept in the log
        return row | {"failed": f"{type(error).__name__}: {error}"}, []
    facts = {"relax_steps": trajectory.steps, "converged": trajectory.converged}
    frames = []
    for k in (0, -1):
        frame = atoms.copy()
        frame.positions = trajectory.positions[k]
        frame.info.update(facts)
        frame.calc = SinglePointCalculator(
            frame, energy=float(trajectory.energies[k]), forces=trajectory.forces[k]
        )
        frames.append(frame)
    row |= facts | {
        "energy": float(trajectory.energies[0]),
        "energy_relaxed": float(trajectory.energies[-1]),
    }
    return row, frames
