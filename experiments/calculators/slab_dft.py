"""DFT for slabs: open along z, k-points by their density, smeared occupations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes, kptdensity2monkhorstpack
from ase.data import chemical_symbols
from ase.neighborlist import natural_cutoffs, neighbor_list
from jaxtyping import Bool

from sdedata.adsorption import BOND

NEAR = 0.5
"""Å: if no atom moved further, a computation starts from the density of the one before."""


class SlabDFT(Calculator):
    """Computes each structure in a cell that is open along z, with a vacuum of its own.

    The next step of a relaxation stays in the cell of the first and starts from its density.
    ValueError for a magnetic moment of what is no element.

    make           builds GPAW, given `parameters`, k-points and occupations
    elements       atomic numbers that it has data for
    kpt_density    k-points per 1/Å along each vector of the surface cell, Gamma among them
    width          eV, of the Fermi-Dirac smearing; energies are extrapolated to zero
    vacuum         Å above and below the atoms, whatever cell a structure has
    magmoms        Bohr magnetons of an atom at the start, by element, unless a structure has some;
                   O2 stands for oxygen bonded to oxygen. A structure without a moment is computed
                   without spin, in half the time
    """

    implemented_properties: Any = ("energy", "forces", "free_energy", "magmom")

    def __init__(
        self,
        make: Callable[..., Calculator],
        elements: frozenset[int],
        *,
        kpt_density: float = 5.0,
        width: float = 0.1,
        vacuum: float = 5.5,
        magmoms: Mapping[str, float] | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__()
        named = {symbol.removesuffix("2") for symbol in magmoms or {}}
        if unknown := sorted(named - set(chemical_symbols[1:])):
            raise ValueError(f"magmoms: {unknown[0]} is no element")
        self.make, self.elements, self.given = make, elements, parameters
        self.kpt_density, self.width, self.vacuum = kpt_density, width, vacuum
        self.magmoms = dict(magmoms or {})
        self.last: Atoms | None = None

    def prepared(self, atoms: Atoms) -> Atoms:
        """Return what is computed in place of a structure: unconstrained, open along z."""
        slab = atoms.copy()
        slab.set_constraint()
        slab.pbc = (True, True, False)
        slab.center(self.vacuum, axis=2)
        if self.magmoms and not slab.get_initial_magnetic_moments().any():
            bonded = _bonded_to_like(slab)
            given = [
                self.magmoms.get(f"{symbol}2" if like else symbol, self.magmoms.get(symbol, 0.0))
                for symbol, like in zip(slab.symbols, bonded, strict=True)
            ]
            slab.set_initial_magnetic_moments(given if any(given) else None)
        return slab

    def k_points(self, slab: Atoms) -> tuple[int, ...]:
        """Return the k-points along each vector of a cell.

        They hold Gamma: an even grid beside it lacks the symmetry of a hexagonal cell.
        """
        return tuple(int(n) for n in kptdensity2monkhorstpack(slab, self.kpt_density, even=False))

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, list(properties), list(system_changes))
        assert atoms is not None  # ASE gives them
        slab = self.prepared(atoms)
        last, self.last = self.last, None  # one that fails is not continued
        if last is not None and _is_near(slab, last):
            last.positions = slab.positions
            slab = last
        else:
            last = None  # whose memory the new one may need
            slab.calc = self.make(
                **self.given,
                kpts={"size": self.k_points(slab), "gamma": True},
                occupations={"name": "fermi-dirac", "width": self.width},
            )
        self.results = {
            "energy": slab.get_potential_energy(),
            "free_energy": slab.get_potential_energy(force_consistent=True),
            "forces": slab.get_forces(),
        }
        if slab.get_initial_magnetic_moments().any():
            self.results["magmom"] = slab.get_magnetic_moment()
        self.last = slab


def _bonded_to_like(slab: Atoms) -> Bool[np.ndarray, " atoms"]:
    """Whether each atom has another of its element within bonding distance."""
    i, j = neighbor_list("ij", slab, natural_cutoffs(slab, mult=BOND))
    like = np.zeros(len(slab), dtype=bool)
    like[i[slab.numbers[i] == slab.numbers[j]]] = True
    return like


def _is_near(slab: Atoms, last: Atoms) -> bool:
    """Whether a slab is another one after a small step, so that both fit the same cell."""
    moments = [one.get_initial_magnetic_moments() for one in (slab, last)]
    return (
        np.array_equal(slab.numbers, last.numbers)
        and np.array_equal(*moments)  # one without spin is not continued with it
        and np.allclose(slab.cell[:2], last.cell[:2])
        and abs(slab.cell[2, 2] - last.cell[2, 2]) < NEAR
        and np.abs(slab.positions - last.positions).max() < NEAR
    )
