"""Some candidates of a random structure search, as a task that any executor can carry out.

Candidates of a task are relaxed side by side, so that force field and reference see batches. What
belongs to a task never changes: the task that is repeated after a kill gives the same minima.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import Tensor

from experiments.harness.config.instantiate import from_key
from experiments.harness.execution.torch_setup import prepare_torch
from experiments.harness.training.checkpoint import load_model
from guidance import Relaxation, refine
from guidance import relax as relax_batch
from painnx import ForceField
from sdedata import Graph, StructureSet, collate
from sdedata.adsorption import is_adsorbed
from sdedata.dataset import concatenate
from sdedata.packed import read_packed
from sdedata.rss import random_surface
from sdedata.surface import with_third_vector
from sdedata.template import Template

RIDE: dict[str, Any] = {"fmax": 0.05, "max_steps": 100}
"""Of the relaxation on the surrogate alone, before the first call of the reference."""


@dataclass(frozen=True)
class Surrogate:
    """A force field that plans relaxations, so that the reference is called less often."""

    model: str
    """Its file or run folder."""
    trust_radius: float | None = None
    """Å, how far an atom may go for one call of the reference, which is called from the random
    start on; None: it is first called where a relaxation on the surrogate has ended.
    """


@dataclass(frozen=True)
class Task:
    """What a worker needs; all that is random follows from the seed and a candidate's index."""

    candidates: tuple[tuple[int, str], ...]
    """Index and composition."""
    seed: int
    template: Template
    calculator: str
    """The calculator's config as text: calculators themselves rarely survive pickling."""
    min_distances: dict[str, float]
    relaxation: dict[str, Any]
    surrogate: Surrogate | None
    """None: the reference does it alone."""
    folder: str

    @property
    def path(self) -> Path:
        return Path(self.folder) / f"{self.candidates[0][0]:06d}-{self.candidates[-1][0]:06d}.npz"


_mine = threading.local()  # calculators keep state: each thread of each process has its own


def calculator_of(config: str) -> Calculator:
    """This thread's own."""
    if getattr(_mine, "config", None) != config:
        prepare_torch(threads=1)  # one process per core with one thread each is the quickest split
        _mine.calculator, _mine.config = from_key(config), config
    return _mine.calculator


def surrogate_of(path: str) -> ForceField:
    if getattr(_mine, "path", None) != path:
        _mine.surrogate, _mine.path = load_model(path, "forcefield").network, path
    return _mine.surrogate


def cpu_seconds() -> float:
    """Of this process, with all its threads, and of those that it has started and that ended."""
    return sum(os.times()[:4])


class Reference:
    """A calculator as a force field on batches; what it refuses is NaN, with its `reasons`."""

    def __init__(self, calculator: Calculator) -> None:
        self.calculator = calculator
        self.reasons: list[str] = []
        """Of the structures it refused, in their order, since somebody last cleared the list."""

    def __call__(self, graph: Graph) -> tuple[Tensor, Tensor]:
        images = [with_third_vector(image) for image in graph.to_atoms()]
        found = [self._checked(one) for one in labels_of(self.calculator, images)]
        energies, forces = [], []
        for image, one in zip(images, found, strict=True):
            if isinstance(one, str):
                self.reasons.append(one)
                one = np.nan, np.full((len(image), 3), np.nan)
            energies.append(one[0])
            forces.append(one[1])
        like = graph.positions
        return torch.tensor(energies, dtype=torch.float64), like.new_tensor(np.concatenate(forces))

    @staticmethod
    def _checked(one: Any) -> Any:
        if isinstance(one, Exception):
            return f"{type(one).__name__}: {one}"
        if not (np.isfinite(one[0]) and np.isfinite(one[1]).all()):
            return "FloatingPointError: energy or forces not finite"
        return one


def labels_of(
    calculator: Calculator, images: Sequence[Atoms]
) -> list[tuple[float, np.ndarray] | Exception]:
    """Energy and forces on all atoms of each, or what the calculator raised.

    A calculator with a method `batch`, from images to energies and forces, is called once for all.
    """
    if hasattr(calculator, "batch"):
        try:
            return list(calculator.batch(images))
        except Exception:  # because of one of them: which one it is shows below
            pass
    return [_labels(calculator, image) for image in images]


def _labels(calculator: Calculator, image: Atoms) -> tuple[float, np.ndarray] | Exception:
    image.calc = calculator
    try:
        return float(image.get_potential_energy()), image.get_forces(apply_constraint=False)
    except Exception as error:  # calculators raise anything
        return error


def search(task: Task) -> list[dict[str, Any]]:
    """Draw, relax and write the candidates of a task; returns their rows for the log.

    What fails costs that candidate only: its row then holds `failed`, the reason.
    """
    calculator_of(task.calculator)  # what a worker does once is not a candidate's time
    if task.surrogate is not None:
        surrogate_of(task.surrogate.model)
    started = cpu_seconds()
    rows: list[dict[str, Any]] = [{"index": i, "composition": c} for i, c in task.candidates]
    drawn: list[tuple[dict[str, Any], Atoms]] = []
    for row in rows:
        rng = np.random.default_rng([task.seed, row["index"]])
        try:
            atoms = random_surface(task.template, row["composition"], rng, task.min_distances)
            drawn.append((row, atoms))
        except ValueError as error:
            row["failed"] = str(error)
    sets = []
    if drawn:
        paths = relaxed(
            [atoms for _, atoms in drawn],
            calculator_of(task.calculator), task.relaxation, task.surrogate,
        )  # fmt: skip
        for b, (row, _) in enumerate(drawn):
            row |= paths.row(b)
            if paths.frames[b]:
                sets.append(paths.structures(b, row))
    for row in rows:
        row["cpu_seconds"] = (cpu_seconds() - started) / len(rows)
    write(task.path, sets, rows)
    return rows


def relaxed(
    images: Sequence[Atoms],
    calculator: Calculator,
    settings: Mapping[str, Any],
    surrogate: Surrogate | None = None,
) -> "Paths":
    """Relax structures side by side, by the calculator alone or as a surrogate plans it.

    `settings` are fmax (eV/Å), max_steps and max_step (Å). A calculator with a method `batch`
    computes all of them in one call.
    """
    reference = Reference(calculator)
    cutoff = 1.0 if surrogate is None else surrogate_of(surrogate.model).cutoff
    graph = collate([Graph.from_atoms(image, cutoff, dtype=torch.float64) for image in images])
    paths = Paths(graph, reference)
    common: Any = {"select": Graph.select, "observe": paths}
    common |= {"fmax": settings["fmax"], "max_steps": settings["max_steps"]}
    if surrogate is None:
        paths.last = relax_batch(graph, reference, max_step=settings["max_step"], **common)
    else:
        paths.last = _with_surrogate(graph, reference, surrogate, **common)
    return paths


def _with_surrogate(
    graph: Graph, reference: Reference, surrogate: Surrogate, **common: Any
) -> Relaxation[Graph]:
    network = surrogate_of(surrogate.model)

    def guess(graph: Graph) -> tuple[Tensor, Tensor]:
        energy, forces = network(graph.to(dtype=torch.float32))
        return energy.double(), forces.double()

    if surrogate.trust_radius is not None:
        return refine(graph, reference, guess, trust_radius=surrogate.trust_radius, **common)
    ride = relax_batch(graph, guess, select=Graph.select, **RIDE)
    sound = ride.finite[graph.batch, None]
    begin = graph.at(torch.where(sound, ride.graph.positions, graph.positions))
    return refine(begin, reference, guess, fallback=graph.positions, **common)


class Paths:
    """What an observer of a relaxation has seen: the frames of each structure.

    A frame is positions (Å), energy (eV) and forces on all atoms (eV/Å); `failed` has the reasons
    of structures that the calculator refused.
    """

    last: Relaxation[Graph]

    def __init__(self, graph: Graph, reference: Reference) -> None:
        self.graph, self.reference = graph, reference
        self.frames: list[list[tuple[np.ndarray, float, np.ndarray]]] = []
        self.failed: dict[int, str] = {}
        for _ in range(graph.n_structures):
            self.frames.append([])

    def __call__(self, state: Relaxation[Graph]) -> None:
        counts = self.graph.counts.tolist()
        everything = zip(
            state.graph.positions.split(counts), state.forces.split(counts), strict=True
        )
        for b, (positions, forces) in enumerate(everything):
            frames = self.frames[b]
            if not state.finite[b]:
                if b not in self.failed:  # the reference was just called, in this order
                    self.failed[b] = self.reference.reasons.pop(0)
            elif not frames or not np.array_equal(frames[-1][0], positions.numpy()):
                frames.append((positions.numpy(), float(state.energy[b]), forces.numpy()))

    def row(self, b: int) -> dict[str, Any]:
        """What became of a structure."""
        steps, fmax = int(self.last.steps[b]), float(self.last.fmax[b])
        row: dict[str, Any] = {"relax_steps": steps, "converged": bool(self.last.converged[b])}
        if b in self.failed:
            return row | {"failed": self.failed[b]}
        row |= {"energy": float(self.last.energy[b]), "energy_initial": self.frames[b][0][1]}
        row["adsorbed"] = is_adsorbed(self.last.graph.to_atoms()[b])
        if not row["converged"]:
            row["failed"] = f"not converged after {steps} steps: a force of {fmax:.2g} eV/Å is left"
        elif not row["adsorbed"]:
            row["failed"] = "atoms have left the surface: no chain of bonds holds them"
        return row

    def structures(self, b: int, row: dict[str, Any]) -> StructureSet:
        """The frames of a structure, with the facts of its row."""
        graph, k = self.graph, len(self.frames[b])
        atoms = graph.batch == b
        n = int(atoms.sum())
        positions, energies, forces = zip(*self.frames[b], strict=True)
        facts = {key: row[key] for key in ("index", "relax_steps", "converged")}
        facts["energy_initial"] = energies[0]
        return StructureSet(
            counts=np.full(k, n),
            numbers=np.tile(graph.numbers[atoms].numpy(), k),
            positions=np.concatenate(positions),
            fixed=np.tile(~graph.mobile[atoms].numpy(), k),
            cell=np.tile(graph.cell[b].numpy(), (k, 1, 1)),
            pbc=np.tile(graph.pbc[b].numpy(), (k, 1)),
            energy=np.array(energies),
            forces=np.concatenate(forces),
            info={key: np.full(k, value) for key, value in facts.items()} | {"step": np.arange(k)},
        )


def is_minimum(row: dict[str, Any]) -> bool:
    """Return whether a candidate came to rest on the surface (rows of before record less)."""
    return bool(row.get("converged") and row.get("adsorbed", True))


def write(path: Path, sets: Sequence[StructureSet], rows: Sequence[dict[str, Any]]) -> None:
    """The frames of a task and its rows in one file, atomically: a file that is there is whole."""
    frames = concatenate(sets) if sets else StructureSet.empty()
    replace(frames, meta={"rows": list(rows)}).write(path)


def read(path: Path) -> tuple[StructureSet, list[dict[str, Any]]]:
    """What `write` wrote; ValueError for a file that is damaged."""
    frames = StructureSet(**read_packed(path))
    rows = frames.meta.get("rows")
    if (
        not isinstance(rows, list)
        or not all(map(_is_row, rows))
        or (len(frames) and "index" not in frames.info)
    ):
        raise ValueError(f"{path} holds no candidates: {REMEDY}")
    return frames, rows


REMEDY = "delete the file and repeat the command, which searches for them again"


def _is_row(row: Any) -> bool:
    """Whether it tells what became of a candidate."""
    return (
        isinstance(row, dict)
        and type(row.get("index")) is int
        and isinstance(row.get("failed", ""), str)
        and ("failed" in row or isinstance(row.get("converged"), bool))
    )
