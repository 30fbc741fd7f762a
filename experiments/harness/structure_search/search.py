"""Some candidates of a structure search, as a task that any executor can carry out.

Candidates of a task are relaxed side by side, so that force field and reference see batches. What
belongs to a task never changes: the task that is repeated after a kill gives the same minima.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from experiments.harness.structure_search.basin_hopping import Hopping, Walker
from experiments.harness.structure_search.batch_relaxation import Surrogate, relaxed
from experiments.harness.structure_search.reference import (
    calculator_of,
    cpu_seconds,
    surrogate_of,
)
from sdedata import StructureSet
from sdedata.dataset import concatenate
from sdedata.packed import read_packed
from sdedata.rss import random_surface
from sdedata.template import Template


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
    hopping: Hopping | None = None
    """None: every candidate starts at random; else every one that has a minimum before it goes on
    from there, `side_by_side` candidates further back.
    """
    side_by_side: int | None = None
    """So many candidates are relaxed at once; None: all of them."""
    before: tuple[Path, ...] = ()
    """Files of the tasks whose walks this one goes on with; they are done before it."""

    @property
    def path(self) -> Path:
        return Path(self.folder) / f"{self.candidates[0][0]:06d}-{self.candidates[-1][0]:06d}.npz"


def search(task: Task) -> list[dict[str, Any]]:
    """Draw, relax and write the candidates of a task; returns their rows for the log.

    What fails costs that candidate only: its row then holds `failed`, the reason.
    """
    calculator_of(task.calculator)  # what a worker does once is not a candidate's time
    if task.surrogate is not None:
        surrogate_of(task.surrogate.model)
    started = cpu_seconds()
    rows: list[dict[str, Any]] = [{"index": i, "composition": c} for i, c in task.candidates]
    sets: list[StructureSet] = []
    at_once = task.side_by_side or len(rows)
    walkers = [None if task.hopping is None else Walker(task.hopping) for _ in range(at_once)]
    _return_to_minima(walkers, task.before)
    for first in range(0, len(rows), at_once):
        sets += _search_at_once(task, rows[first : first + at_once], walkers)
    for row in rows:
        row["cpu_seconds"] = (cpu_seconds() - started) / len(rows)
    write(task.path, sets, rows)
    return rows


def _return_to_minima(walkers: Sequence[Walker | None], done: Sequence[Path]) -> None:
    """Put walkers at the last minima that they went to in the files of the tasks before."""
    for path in reversed(done):
        frames, rows = read(path)
        for k, row in reversed(list(enumerate(rows))):
            walker = walkers[k % len(walkers)]
            if walker and walker.minimum is None and row.get("accepted"):
                relaxation = frames.select(frames.info["index"] == row["index"])
                walker.minimum = relaxation.atoms(len(relaxation) - 1)
                walker.energy = row["energy"]
        if all(walker is None or walker.minimum is not None for walker in walkers):
            return


def _search_at_once(
    task: Task, rows: Sequence[dict[str, Any]], walkers: Sequence[Walker | None]
) -> list[StructureSet]:
    """Relax candidates side by side, one for each walker; returns their frames."""
    drawn: list[tuple[dict[str, Any], Walker | None, np.random.Generator, Atoms]] = []
    for row, walker in zip(rows, walkers, strict=False):
        rng = np.random.default_rng([task.seed, row["index"]])
        atoms = walker.displaced(rng) if walker else None
        try:
            if atoms is None:
                atoms = random_surface(task.template, row["composition"], rng, task.min_distances)
        except ValueError as error:
            row["failed"] = str(error)
        else:
            drawn.append((row, walker, rng, atoms))
    if not drawn:
        return []
    images = [atoms for *_, atoms in drawn]
    paths = relaxed(images, calculator_of(task.calculator), task.relaxation, task.surrogate)
    ends = paths.last.graph.to_atoms()
    sets = []
    for b, (row, walker, rng, _) in enumerate(drawn):
        row |= paths.row(b)
        if paths.frames[b]:
            sets.append(paths.structures(b, row))
        if walker and is_minimum(row):
            row["accepted"] = walker.offer(ends[b], row["energy"], rng)
    return sets


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
        or (len(frames) and lacking(frames))
    ):
        raise ValueError(f"{path} holds no candidates: {REMEDY}")
    return frames, rows


def lacking(frames: StructureSet) -> list[str]:
    """Return the names of integers that a search records of every frame, and these do not have."""
    kinds = {name: values.dtype.kind for name, values in frames.info.items()}
    return [name for name in ("index", "relax_steps") if kinds.get(name) != "i"]


REMEDY = "delete the file and repeat the command, which searches for them again"


def _is_row(row: Any) -> bool:
    """Return whether it records what became of a candidate."""
    return (
        isinstance(row, dict)
        and type(row.get("index")) is int
        and isinstance(row.get("failed", ""), str)
        and ("failed" in row or isinstance(row.get("converged"), bool))
    )
