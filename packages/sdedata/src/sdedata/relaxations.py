"""Which frames belong together: those of one relaxation, by their names or because they continue.

A split keeps relaxations together, and a score learns the last frame of each, if it is a minimum.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sdedata.options import NAMES
from sdedata.structures import SAME_CELL, StructureSet

BY_NAME = "by info"
STEP = 0.5
"""Å: no optimizer moves an atom farther between the frames that it writes."""
TWIN = 0.1
"""Å, up to which structures are the same for a network: they belong together in any case."""
FARTHER = 1.35
"""Two steps of a path per one: 1.6 to 2 in relaxations by BFGS and FIRE, 1 for rattled copies."""
RELAXED = 0.2
"""eV/Å, the largest force on a free atom of a structure that passes for a minimum."""
MOSTLY = 0.5
"""Share of frames that continue the one before, from which an `index` of each counts frames."""
RISE = 0.02
"""eV above a minimum, from which a frame that follows it begins another relaxation."""


@dataclass(frozen=True)
class Relaxations:
    """The relaxation of each structure of a set, and the rule by which it was found."""

    labels: Int[np.ndarray, " s"]
    rule: str

    def __len__(self) -> int:
        return len(np.unique(self.labels))

    def __str__(self) -> str:
        alone = len(self) == 1
        return self.counted + (": frames held out are like those learned from" if alone else "")

    @property
    def counted(self) -> str:
        """Their number and the rule."""
        return f"{len(self)} relaxation{'s' if len(self) > 1 else ''} ({self.rule})"

    @property
    def named(self) -> bool:
        """Whether `info` names them."""
        return self.rule.startswith(BY_NAME)

    @property
    def last(self) -> Int[np.ndarray, " r"]:
        """Index of the last frame of each relaxation, ascending."""
        return np.sort(len(self.labels) - 1 - np.unique(self.labels[::-1], return_index=True)[1])


def relaxations(data: StructureSet) -> Relaxations:
    """Group structures by `surface_index` or else `index` in `info`, or by what continues what.

    Consecutive frames of one surface continue each other if no atom moves by more than `STEP` and
    they lie along a path (`FARTHER`), or if none moves by more than `TWIN`; but a minimum
    (`RELAXED`) ends a relaxation if what follows is none and lies higher (`RISE`). An `index`
    that is another in every frame, while most continue each other, counts frames and is no name.
    """
    named = [name for name in NAMES if name in data.info]
    if named:
        _, labels = np.unique(data.info[named[0]], return_inverse=True)
        if named[0] != "index" or len(np.unique(labels)) < len(data):
            return Relaxations(labels, f"{BY_NAME} {named[0]!r}")
    continued = _continued(data)
    if named and continued.mean() < MOSTLY:
        return Relaxations(labels, f"{BY_NAME} {named[0]!r}")
    rule = "frames that continue each other" if continued.any() else "no frame continues another"
    return Relaxations(np.cumsum(~continued) - 1, rule)


def largest_forces(data: StructureSet) -> Float[np.ndarray, " s"]:
    """Return the largest force on a free atom of each structure, eV/Å."""
    lengths = np.where(data.fixed, 0.0, np.linalg.norm(data.forces, axis=1))
    return np.maximum.reduceat(lengths, data.starts) if len(data) else np.zeros(0)


def _continued(data: StructureSet) -> Bool[np.ndarray, " s"]:
    """Mark the structures that continue the one before."""
    n = len(data)
    if not n:
        return np.zeros(0, dtype=bool)
    moved = np.array([np.inf, *(_moved(data, i - 1, i) for i in range(1, n))])
    relaxed = largest_forces(data) <= RELAXED
    restarts = relaxed[:-1] & ~relaxed[1:] & (np.diff(data.energy) > RISE)
    continued = (moved <= STEP) & ~np.append(True, restarts)
    starts = np.flatnonzero(~continued).tolist()
    for start, end in zip(starts, [*starts[1:], n], strict=True):
        if not _is_path(data, start, end, moved):
            continued[start + 1 : end] = moved[start + 1 : end] <= TWIN
    return continued


def _is_path(data: StructureSet, start: int, end: int, moved: Float[np.ndarray, " s"]) -> bool:
    """Test whether structures get farther from each other with every one between them.

    Along a path two steps lead nearly twice as far as one; draws around one place, such as rattled
    copies of a structure, are all equally far apart.
    """
    if end - start < 3:
        return False
    two_steps = [_moved(data, i, i + 2) for i in range(start, end - 2)]
    return bool(np.mean(two_steps) > FARTHER * np.mean(moved[start + 1 : end]))


def _moved(data: StructureSet, i: int, j: int) -> float:
    """Return the largest displacement of an atom between two structures, Å.

    Infinite if they are not of the same atoms, frozen atoms and cell.
    """
    one, two = data.span(i), data.span(j)
    same = (
        np.array_equal(data.numbers[one], data.numbers[two])
        and np.array_equal(data.fixed[one], data.fixed[two])
        and np.abs(data.cell[i] - data.cell[j]).max() <= SAME_CELL
    )
    if not same:
        return np.inf
    moved = data.positions[two] - data.positions[one]
    plane = data.cell[i][:2, :2]
    moved[:, :2] -= np.round(moved[:, :2] @ np.linalg.inv(plane)) @ plane
    return float(np.linalg.norm(moved, axis=1).max())


def minima(data: StructureSet, max_force: float) -> tuple[StructureSet, str]:
    """Select the last frame of each relaxation, where its largest force is at most `max_force`.

    Returns a sentence about what was left out, too, "" for nothing. If no last frame is a minimum,
    all of them are taken, and the sentence reports that.
    """
    found = relaxations(data)
    last = found.last
    forces = largest_forces(data)[last]
    relaxed = last[forces <= max_force]
    n = len(data)
    if not len(relaxed):
        return data.select(last), (
            f"no relaxation ends in a minimum (largest force at most {max_force:g} eV/Å; the "
            f"lowest here is {forces.min():.2g}): taken are the {len(last)} last frames of "
            f"{found.counted}, out of {n}; relax them, for surfaces at rest"
        )
    if len(relaxed) == n:
        return data, ""
    return data.select(relaxed), (
        f"minima are the {len(relaxed)} last frames of {found.counted} with forces up to "
        f"{max_force:g} eV/Å, out of {n} frames; {len(last) - len(relaxed)} relaxations end above "
        "that"
    )
