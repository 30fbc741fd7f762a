"""Is an overlayer still on its substrate? A relaxation can converge with atoms that have left it.

An atom in the vacuum feels no force, and some potentials have a hill before the surface: such a
structure is converged, and no surface. Nor is one in a hole that a potential has where atoms
overlap (`overlapping`).
"""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import natural_cutoffs, neighbor_list
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sdedata.frozen import frozen_mask
from sdedata.structures import StructureSet

BOND = 1.3
"""Atoms closer than this many times the sum of their covalent radii are bonded (Ag-O 2.74 Å)."""
RANGE = (0.3, 9.0)
"""Å above the highest substrate atom: overlayers outside of it sink in or fly off."""
CLOSEST = 0.7
"""Atoms closer than this many times the sum of their covalent radii overlap (Ag-O 1.48 Å)."""


def overlapping(atoms: Atoms) -> bool:
    """Check whether a mobile atom is closer to another atom than `CLOSEST` allows."""
    i, j, distance = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=CLOSEST))
    return _overlap(atoms, i, j, distance)


def is_adsorbed(atoms: Atoms, z_range: tuple[float, float] = RANGE) -> bool:
    """Check that bonds link every mobile atom to the substrate, all in the range, none overlapping.

    The substrate are the atoms under FixAtoms (without any, every structure counts as adsorbed). A
    bond joins two atoms closer than `BOND` times the sum of their covalent radii; a chain of them
    may lead through other mobile atoms, so that a molecule above the surface is not adsorbed.

    Args:
        z_range: lowest and highest height of a mobile atom above the highest substrate atom, Å.
    """
    frozen = frozen_mask(atoms)
    if not frozen.any():
        return True
    height = atoms.positions[~frozen, 2] - atoms.positions[frozen, 2].max()
    if not ((height >= z_range[0]) & (height <= z_range[1])).all():
        return False
    i, j, distance = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=BOND))
    if _overlap(atoms, i, j, distance):
        return False
    n = len(atoms)
    bonds = coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    part = connected_components(bonds, directed=False)[1]
    return bool(np.isin(part[~frozen], part[frozen]).all())


def adsorbed(
    data: StructureSet, z_range: tuple[float, float] = RANGE
) -> Bool[np.ndarray, " structures"]:
    """Mark the structures of a set that are adsorbed (see `is_adsorbed`)."""
    return np.array([is_adsorbed(data.atoms(k), z_range) for k in range(len(data))], dtype=bool)


def _overlap(
    atoms: Atoms,
    i: Int[np.ndarray, " pairs"],
    j: Int[np.ndarray, " pairs"],
    distance: Float[np.ndarray, " pairs"],
) -> bool:
    """Check whether one of the pairs overlaps, with a mobile atom in it."""
    frozen, radii = frozen_mask(atoms), covalent_radii[atoms.numbers]
    close = distance < CLOSEST * (radii[i] + radii[j])
    return bool((close & ~(frozen[i] & frozen[j])).any())
