"""Structures of which everybody can see whether the overlayer is on its substrate."""

import pytest
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms

from sdedata import shipped
from sdedata.adsorption import RANGE, adsorbed, is_adsorbed


def on_silver(symbols: str, heights: list[float], apart: float = 0.0) -> Atoms:
    """Atoms above a hollow of Ag(111), each `apart` (Å) further along x."""
    atoms = fcc111("Ag", (3, 3, 2), a=4.15, vacuum=12.0, periodic=True)
    hollow = atoms.positions[9:, :2][[0, 1, 3]].mean(axis=0)
    top = atoms.positions[:, 2].max()
    places = [[hollow[0] + k * apart, hollow[1], top + z] for k, z in enumerate(heights)]
    atoms += Atoms(symbols, positions=places)
    atoms.set_constraint(FixAtoms(range(18)))
    return atoms


@pytest.mark.parametrize(
    ("symbols", "heights", "apart", "expected"),
    [
        ("O", [1.2], 0.0, True),  # 2.1 Å from three silver atoms
        ("O", [2.0], 0.0, True),  # 2.6 Å
        ("O", [4.5], 0.0, False),  # where CHGNet holds it in a false minimum
        ("O2", [4.5, 4.5], 1.25, False),  # a molecule: each atom has a neighbour
        ("AgO", [2.4, 4.5], 0.0, True),  # an atom above one that is bonded
        ("AgO", [2.4, 5.5], 0.0, False),
        ("Ag", [-1.2], 0.0, False),  # between the layers
        ("Ag", [0.2], 0.0, False),
        ("O2", [1.2, 1.2], 0.9, False),  # overlapping: 1.24 Å is the shortest in a minimum
        ("O2", [1.2, 1.2], 1.25, True),
    ],
)
def test_a_chain_of_bonds_holds_every_atom(symbols, heights, apart, expected):
    atoms = on_silver(symbols, heights, apart)
    assert is_adsorbed(atoms) == expected
    atoms.positions += 0.9 * atoms.cell[0]  # the same across a border of the cell
    assert is_adsorbed(atoms) == expected
    atoms.pbc[2], atoms.cell[2] = False, 0.0
    assert is_adsorbed(atoms) == expected


def test_the_range_is_above_the_highest_substrate_atom():
    atoms = on_silver("AgO", [2.4, 4.4])
    assert is_adsorbed(atoms, (2.3, 4.5))
    assert not is_adsorbed(atoms, (2.3, 4.3))
    assert not is_adsorbed(atoms, (2.5, 4.5))
    assert is_adsorbed(atoms, RANGE)


def test_without_a_substrate_there_is_nothing_to_leave():
    assert is_adsorbed(Atoms("O", cell=[5, 5, 20], pbc=True))


@pytest.mark.parametrize("name", shipped.searches())
def test_no_shipped_minimum_has_left_the_surface(name):
    assert adsorbed(shipped.load(name)).all()
