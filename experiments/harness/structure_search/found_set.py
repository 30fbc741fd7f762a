"""The set that a search makes: its minima and frames, after those of a set that it extends."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.config.instantiate import calculator_name, identity
from experiments.harness.config.settings import GenerateData
from experiments.harness.structure_search.search import Task, is_minimum, lacking, read
from experiments.harness.training.data import load_set
from sdedata import shipped
from sdedata.dataset import SUBSETS, concatenate, counts_table, thin, with_surfaces
from sdedata.structures import StructureSet

SAME = ("seed", "template", "compositions", "min_distances", "relaxation", "calculator")
"""What one set has in common: two that differ here are never put together."""


@dataclass(frozen=True)
class Found:
    """Converged minima, thinned frames of all relaxations, and why candidates failed."""

    minima: StructureSet
    frames: StructureSet
    failed: list[str]
    relax_steps: int = 0
    """Of all candidates, also of those that failed."""
    cpu_seconds: float = 0.0
    """Of the candidates that this search drew, not of a set that it extends."""


def extended(config: GenerateData) -> Found | None:
    """The set that this search extends, if any; ValueError if it was made in another way."""
    name = config.extend
    if name is None:
        return None
    minima, plain = _searched(name), config.plain()
    if minima.meta.get("basin_hopping") is not None:
        raise ValueError(
            f"extend={name} was made by basin hopping: its minima depend on each other"
        )
    for key in SAME:
        theirs, ours = identity(minima.meta.get(key)), identity(plain[key])
        if theirs != ours:
            if key == "calculator":
                theirs, ours = _told_apart(minima.meta.get(key), plain[key])
            raise ValueError(
                f"extend={name} was made with {key}={theirs}, this search has {key}={ours}: "
                "such minima are not put together"
            )
    if name not in shipped.names():
        frames: str | None = str(Path(name).with_name("frames.npz"))
    else:
        frames = shipped.frames_of(name)  # none of a reference, from which nothing learns
    return Found(minima, minima if frames is None else _searched(frames), [])


def _told_apart(*calculators: Any) -> list[str]:
    """Name calculators, with the digests of their networks where the names alone are the same."""
    names = [calculator_name(one) for one in calculators]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {identity(one)}" for name, one in zip(names, calculators, strict=True)]


def _searched(name: str) -> StructureSet:
    """Load a set; ValueError if it lacks what a search records of every structure."""
    data = load_set(name)
    if missing := lacking(data):
        raise ValueError(f"{name} has no {missing[0]}: extend a set that generate_data made")
    return data


def pack(base: Found | None, tasks: Sequence[Task], frames_per_minimum: int) -> Found:
    """What the tasks found, after those of the set that the search extends."""
    minima = [] if base is None else [base.minima]
    frames = [] if base is None else [base.frames]
    failed: list[str] = []
    seconds = 0.0
    steps = 0 if base is None else _steps(base.frames)
    for task in tasks:
        found, rows = read(task.path)
        steps += sum(row.get("relax_steps", 0) for row in rows)
        seconds += sum(row.get("cpu_seconds", 0.0) for row in rows)
        for row in rows:
            if "failed" in row:
                failed.append(row["failed"])
            if len(found) == 0 or row["index"] not in found.info["index"]:
                continue
            path = found.select(found.info["index"] == row["index"])
            path = replace(path, info=path.info | {"seed": np.full(len(path), task.seed)})
            if is_minimum(row):
                minima.append(path.select([len(path) - 1]))
            forces = path.forces.reshape(len(path), -1, 3)
            frames.append(path.select(thin(path.energy, forces, frames_per_minimum)))
    if not minima:
        raise ValueError(
            "no candidate relaxed to a minimum on the surface: raise relaxation.max_steps"
        )
    return Found(concatenate(minima), concatenate(frames), failed, steps, seconds)


def _steps(frames: StructureSet) -> int:
    """Sum the steps of relaxations over all candidates, which each of their frames has."""
    _, first = np.unique(frames.info["index"], return_index=True)
    return int(frames.info["relax_steps"][first].sum())


def marked_surfaces(
    minima: StructureSet, frames: StructureSet
) -> tuple[StructureSet, StructureSet]:
    """Return both with the fact `surface_index`.

    Of a path it is that of its end, if it ends in a minimum, or else its own `index`.
    """
    minima = with_surfaces(minima)
    ends = dict(
        zip(minima.info["index"].tolist(), minima.info["surface_index"].tolist(), strict=True)
    )
    surface = np.array([ends.get(i, i) for i in frames.info["index"].tolist()])
    return minima, replace(frames, info=frames.info | {"surface_index": surface})


def counts_by_subset(minima: StructureSet) -> dict[str, dict[str, int]]:
    """Fig. 2b: for D, D_lowE and its halves, the number of surfaces of each stoichiometry."""
    table = counts_table(minima)
    return {
        subset: {str(row["stoichiometry"]): int(row[subset]) for row in table} for subset in SUBSETS
    }
