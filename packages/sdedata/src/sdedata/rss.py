"""Random structure search: random overlayers on a frozen slab, relaxed with any ASE calculator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers, covalent_radii
from ase.optimize import BFGS
from ase.optimize.optimize import Optimizer

from sdedata.composition import parse_formula
from sdedata.frozen import frozen_mask
from sdedata.surface import with_third_vector
from sdedata.template import Template

CLOSEST = 0.76
"""Closest approach of two atoms, where none is given, per sum of their covalent radii."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """All frames of one relaxation, k frames of n atoms; the last is the minimum if converged."""

    fixed: np.ndarray  # (n,) bool
    positions: np.ndarray  # (k, n, 3) Å
    energies: np.ndarray  # (k,) eV
    forces: np.ndarray  # (k, n, 3) eV/Å, on all atoms, the fixed ones too
    converged: bool

    @property
    def steps(self) -> int:
        return len(self.energies) - 1

    def frame(self, k: int, atoms: Atoms) -> Atoms:
        """Copy the relaxed `atoms` with the positions, energy and forces of frame k."""
        atoms = atoms.copy()
        atoms.positions = self.positions[k]
        energy, forces = float(self.energies[k]), self.forces[k]
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        return atoms


def random_surface(
    template: Template,
    composition: str,
    rng: np.random.Generator,
    min_distances: Mapping[str, float] | None = None,
    attempts: int = 200,
) -> Atoms:
    """Draw an overlayer uniformly from cell and window, atom by atom, rejecting close contacts.

    `min_distances` (Å) maps pairs such as "Ag-O" to the closest approach allowed, substrate
    included; other pairs use `CLOSEST` times the sum of covalent radii. Raises ValueError for an
    invalid pair, a cell so small that an atom is too close to its own image, or an overlayer that
    does not fit in `attempts` attempts.
    """
    count = parse_formula(composition)
    _check(template, count, min_distances or {})
    symbols = np.array([symbol for symbol, n in count.items() for _ in range(n)])
    for _ in range(attempts):
        # Species in random order: otherwise the first species would fill the best sites.
        order = rng.permutation(len(symbols))
        grown = template.slab.copy()
        grown.set_constraint()
        for symbol in symbols[order]:
            position = _free_place(template, grown, symbol, rng, min_distances or {})
            if position is None:
                break
            grown += Atoms([symbol], positions=[position])
        else:
            positions = np.empty((len(symbols), 3))
            positions[order] = grown.positions[len(template.slab) :]
            return template.surface(composition, positions)
    low, high = template.window
    raise ValueError(
        f"{composition} does not fit into the z range {low:g} to {high:g} Å of template "
        f"{template.name}: enlarge the range or lower the minimum distances"
    )


def _free_place(
    template: Template,
    grown: Atoms,
    symbol: str,
    rng: np.random.Generator,
    min_distances: Mapping[str, float],
    tries: int = 500,
) -> np.ndarray | None:
    """Draw a point of cell and window that respects the minimum distances; None without success."""
    limits = np.array([_closest(symbol, other, min_distances) for other in grown.symbols])
    cell = np.asarray(template.slab.cell)[:2, :2]
    inverse = np.linalg.inv(cell)
    images = _lattice_vectors(cell, limits.max())
    for _ in range(tries):
        point = np.append(rng.random(2) @ cell, rng.uniform(*template.window))
        delta = grown.positions - point
        delta[:, :2] -= np.round(delta[:, :2] @ inverse) @ cell
        planar = delta[:, None, :2] + images
        if (np.hypot(np.linalg.norm(planar, axis=-1), delta[:, None, 2]) >= limits[:, None]).all():
            return point
    return None


def _lattice_vectors(cell: np.ndarray, reach: float) -> np.ndarray:
    """Return the in-plane lattice vectors (m, 2) that matter within `reach` (Å) of a point."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    i, j = np.maximum(np.floor(reach / heights + 0.5), 1).astype(int)
    return np.array([[k, m] for k in range(-i, i + 1) for m in range(-j, j + 1)]) @ cell


def _check(
    template: Template, count: Mapping[str, int], min_distances: Mapping[str, float]
) -> None:
    for pair, distance in min_distances.items():
        known = len(pair.split("-")) == 2 and all(s in atomic_numbers for s in pair.split("-"))
        if not (known and distance >= 0):
            raise ValueError(
                f"minimum distance {pair}: {distance}: name two elements (Ag-O) and a length in Å"
            )
    cell = np.asarray(template.slab.cell)[:2, :2]
    for symbol in count:
        limit = _closest(symbol, symbol, min_distances)
        lengths = np.linalg.norm(_lattice_vectors(cell, limit), axis=1)
        if lengths[lengths > 1e-6].min() < limit:
            raise ValueError(
                f"the cell of template {template.name} brings {symbol} closer than {limit:g} Å to "
                "its own image: repeat the slab or lower the minimum distance"
            )


def _closest(one: str, other: str, min_distances: Mapping[str, float]) -> float:
    for pair in (f"{one}-{other}", f"{other}-{one}"):
        if pair in min_distances:
            return min_distances[pair]
    radii = covalent_radii[atomic_numbers[one]] + covalent_radii[atomic_numbers[other]]
    return CLOSEST * float(radii)


def relax(
    atoms: Atoms,
    calculator: Calculator,
    fmax: float = 0.1,
    max_steps: int = 150,
    max_step: float = 0.2,
    optimizer: Callable[..., Optimizer] = BFGS,
) -> Trajectory:
    """Relax the atoms that are not frozen and store every frame.

    A slab without a third cell vector is relaxed in a cell with one along z, for calculators that
    need it. `fmax` in eV/Å on the free atoms, `max_step` in Å per atom and step; `optimizer` is a
    class of ASE's kind. Raises FloatingPointError if an energy, force or position is not finite.
    """
    atoms = with_third_vector(atoms.copy())
    atoms.calc = calculator
    fixed = frozen_mask(atoms)
    frames: list[tuple[np.ndarray, float, np.ndarray]] = []

    def keep() -> None:
        if not np.isfinite(atoms.positions).all():  # some calculators return an energy for these
            raise FloatingPointError(f"positions not finite after {len(frames)} steps")
        energy = float(atoms.get_potential_energy())
        forces = np.array(atoms.get_forces(apply_constraint=False), dtype=float)
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise FloatingPointError(f"energy or forces not finite after {len(frames)} steps")
        frames.append((atoms.positions.copy(), energy, forces))

    search = optimizer(atoms, maxstep=max_step, logfile=None)
    search.attach(keep)
    converged = bool(search.run(fmax=fmax, steps=max_steps))
    positions, energies, forces = zip(*frames, strict=True)
    return Trajectory(
        fixed=fixed,
        positions=np.array(positions),
        energies=np.array(energies),
        forces=np.array(forces),
        converged=converged,
    )
