"""Subsets of a data set: by energy, oxygen content and window (the paper's), each surface once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from sdedata.arrays import PER_ATOM, PER_STRUCTURE
from sdedata.composition import parse_formula
from sdedata.frozen import frozen_mask
from sdedata.relaxations import relaxations
from sdedata.similarity import unique
from sdedata.structures import SAME_CELL, StructureSet

D_MAX_ENERGY = 2.0
"""eV above the lowest structure of its stoichiometry: the paper's set D."""
LOW_MAX_ENERGY = 0.5
"""eV: the paper's set D_lowE."""
WINDOW = (1.0, 5.0)
"""Å above the highest fixed atom: the confinement in z that trainings have by default."""
SAME_PLACE = 1e-4
"""Å, between two files with the positions of one atom."""
SUBSETS = ("D", "D_lowE", "D_lowE-red", "D_lowE-ox")
"""The paper's sets; the last two add up to the second."""


def concatenate(sets: Sequence[StructureSet]) -> StructureSet:
    """Join several sets; `info` keeps the entries common to all, `meta` is that of the first."""
    if not sets:
        raise ValueError("nothing to concatenate: the list of structure sets is empty")
    keys = sorted(set.intersection(*(set(s.info) for s in sets)))
    return StructureSet(
        **{
            name: np.concatenate([getattr(s, name) for s in sets])
            for name in (*PER_ATOM, *PER_STRUCTURE)
        },
        info={key: np.concatenate([s.info[key] for s in sets]) for key in keys},
        meta=dict(sets[0].meta),
    )


def difference(data: StructureSet, other: StructureSet) -> StructureSet:
    """Return `data` with the energies and forces that it has above those of the same in `other`.

    Structures with an `index` in both are matched by it, so that `other` may hold more; else the
    k-th is the k-th. ValueError for other atoms, or an atom that is farther away than `SAME_PLACE`.
    """
    if "index" in data.info and "index" in other.info:
        place = {int(index): k for k, index in enumerate(other.info["index"])}
        wanted = [place.get(int(index), len(other)) for index in data.info["index"]]
    else:
        wanted = list(range(len(data)))
    missing = [k for k, at in enumerate(wanted) if at >= len(other)]
    if missing:
        raise ValueError(f"structure {missing[0]} is not in both sets")
    found = other.select(np.array(wanted, dtype=int))
    for k in range(len(data)):
        one, two = data.span(k), found.span(k)
        same = (
            np.array_equal(data.numbers[one], found.numbers[two])
            and np.abs(data.cell[k] - found.cell[k]).max() <= SAME_CELL
            and np.abs(data.positions[one] - found.positions[two]).max() <= SAME_PLACE
        )
        if not same:
            raise ValueError(f"structure {k} is another one in the two sets")
    return replace(data, energy=data.energy - found.energy, forces=data.forces - found.forces)


def with_surfaces(minima: StructureSet) -> StructureSet:
    """Add `surface_index` to `info`: the `index` of the first minimum that is the same surface.

    Raises ValueError if they are not on one template (`similarity.unique`).
    """
    surface = minima.info["index"][unique(minima.to_atoms())]
    return replace(minima, info=minima.info | {"surface_index": surface})


def distinct(data: StructureSet) -> StructureSet:
    """Select the lowest structure of each surface; all structures without `surface_index`."""
    if "surface_index" not in data.info:
        return data
    lowest_first = np.lexsort([data.energy, data.info["surface_index"]])
    _, first = np.unique(data.info["surface_index"][lowest_first], return_index=True)
    return data.select(np.sort(lowest_first[first]))


def low_energy(data: StructureSet, max_energy: float = D_MAX_ENERGY) -> StructureSet:
    """Select structures up to `max_energy` (eV) above the lowest of composition and substrate."""
    return data.select(data.relative_energy <= max_energy)


def oxygen_poor(data: StructureSet) -> StructureSet:
    """Select D-red: overlayers with at most as much oxygen as Ag2O (exactly 2:1 included)."""
    return data.select(_oxygen_excess(data) <= 0)


def oxygen_rich(data: StructureSet) -> StructureSet:
    """Select D-ox: overlayers with more oxygen than Ag2O."""
    return data.select(_oxygen_excess(data) > 0)


def _oxygen_excess(data: StructureSet) -> np.ndarray:
    """Compute 2 n(O) - n(other elements) of each overlayer: zero for Ag2O."""
    counts = [parse_formula(c) for c in data.compositions]
    return np.array([3 * c.get("O", 0) - sum(c.values()) for c in counts])


def learnable(data: StructureSet, window: tuple[float, float] = WINDOW) -> StructureSet:
    """Select what a score learns from: minima inside the window, of each surface the lowest."""
    return distinct(data.select(inside_window(data, window)))


def counts_table(
    data: StructureSet, window: tuple[float, float] = WINDOW
) -> list[dict[str, int | str]]:
    """Count what the paper's sets hold (Fig. 2b) for a score to learn, a row per stoichiometry.

    Keys: stoichiometry and `SUBSETS`. A surface counts once, and not outside the window (Å).
    """
    once = learnable(data, window)
    lowest = low_energy(once, LOW_MAX_ENERGY)
    subsets = (low_energy(once, D_MAX_ENERGY), lowest, oxygen_poor(lowest), oxygen_rich(lowest))
    counts = {
        name: Counter(subset.compositions.tolist())
        for name, subset in zip(SUBSETS, subsets, strict=True)
    }
    return [
        {"stoichiometry": stoichiometry} | {name: counts[name][stoichiometry] for name in SUBSETS}
        for stoichiometry in sorted(counts["D"], key=lambda f: tuple(parse_formula(f).items()))
    ]


def totals(counts: Sequence[Mapping[str, int | str]]) -> dict[str, int | str]:
    """Sum the rows of `counts_table`: one more row, of the stoichiometry "all"."""
    sums = {name: sum(int(row[name]) for row in counts) for name in SUBSETS}
    return {"stoichiometry": "all"} | sums


def inside_window(data: StructureSet, window: tuple[float, float]) -> np.ndarray:
    """Mark structures whose overlayer lies in the window (Å above the highest fixed atom)."""
    low, high = window
    return np.array([bool(((z >= low) & (z <= high)).all()) for z in data.heights()])


def require_window(data: StructureSet, window: tuple[float, float], source: str) -> None:
    """Raise ValueError unless all overlayers lie in the window (Å above the highest fixed atom).

    The message names `source`, the first structure outside and their number, and proposes a window.
    """
    inside = inside_window(data, window)
    if inside.all():
        return
    low, high = window
    frame = int(np.argmin(inside))
    atoms, z = data.atoms(frame), data.heights()[frame]
    worst = int(np.argmax(np.maximum(low - z, z - high)))
    symbol = atoms[~frozen_mask(atoms)].symbols[worst]
    message = (
        f"{source}, frame {frame}: {symbol} at {z[worst]:.2f} Å above the slab is outside the "
        f"z range of {low:g} to {high:g} Å, as in {(~inside).sum()} of {len(data)} frames; "
    )
    everything = np.concatenate(data.heights())
    low = min(low, np.floor(10 * everything.min()) / 10)
    high = max(high, np.ceil(10 * everything.max()) / 10)
    if low <= 0:
        raise ValueError(
            message + "some lie inside the slab: leave these frames out or fix the atoms"
        )
    raise ValueError(message + f"this would hold them all: data.z_range=[{low:g},{high:g}]")


def thin(energies: np.ndarray, forces: np.ndarray, keep: int) -> np.ndarray:
    """Choose at most `keep` frames of a relaxation, first and last included, evenly spread.

    Returns indices. Late frames hardly differ: steps are measured by energy change (eV) plus mean
    force change (eV/Å), each on a square-root scale so that the first, large changes do not
    dominate. Raises ValueError for `keep` below 2.
    """
    if keep < 2:
        raise ValueError(f"keep at least 2 frames of a relaxation, not {keep}")
    if len(energies) <= keep:
        return np.arange(len(energies))
    change = np.sqrt(np.abs(np.diff(energies)))
    change += np.sqrt(np.linalg.norm(np.diff(forces, axis=0), axis=-1).mean(-1)) + 1e-9
    path = np.concatenate([[0.0], np.cumsum(change)])
    targets = np.linspace(0.0, path[-1], keep)
    return np.unique(np.abs(path[None] - targets[:, None]).argmin(1))


def split(
    data: StructureSet, share: float, generator: torch.Generator, at_most: int | None = None
) -> tuple[list[int], list[int]]:
    """Split `relaxations` at random; return the indices for training and for validation.

    `share`: of the relaxations for validation, which holds about `at_most` structures. Both get at
    least one; of a single relaxation the last frames are held out. ValueError for one structure.
    """
    found = relaxations(data)
    names, unit = np.unique(found.labels, return_inverse=True)
    if len(data) < 2:
        raise ValueError(
            f"training and validation need a structure each: there is {len(data)} in the data"
        )
    if at_most is not None:
        share = min(share, at_most / len(data))
    if len(names) == 1:
        learned = min(max(1, round((1 - share) * len(data))), len(data) - 1)
        return list(range(learned)), list(range(learned, len(data)))
    order = torch.randperm(len(names), generator=generator).numpy()
    held = np.isin(unit, order[: min(max(1, round(share * len(names))), len(names) - 1)])
    return np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()


def portion(
    data: StructureSet, chosen: Sequence[int], share: float, generator: torch.Generator
) -> list[int]:
    """Select a share of the `relaxations` among chosen structures at random, at least one.

    Draws of one seed are nested: what a smaller share selects is part of what a larger one does.
    """
    unit = relaxations(data).labels[list(chosen)]
    names = np.unique(unit)
    order = torch.randperm(len(names), generator=generator).numpy()
    kept = names[order[: max(1, round(share * len(names)))]]
    return np.asarray(chosen)[np.isin(unit, kept)].tolist()
