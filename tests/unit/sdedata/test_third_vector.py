"""Slabs whose cell has two vectors only, as `ase.build.fcc111` makes them."""

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from sdedata.rss import relax
from sdedata.surface import with_third_vector


class NeedsACell(EMT):
    """Divides by the volume, as calculators of plane waves and of stress do."""

    def calculate(self, atoms=None, *arguments):
        np.linalg.inv(atoms.cell.array)
        super().calculate(atoms, *arguments)


def slab():
    atoms = fcc111("Ag", (2, 2, 2))
    add_adsorbate(atoms, "Ag", 2.6, "fcc")
    atoms.set_constraint(FixAtoms(range(8)))
    return atoms


def test_a_calculator_gets_a_third_vector():
    atoms = slab()
    assert atoms.cell.rank == 2
    path = relax(atoms, NeedsACell(), fmax=0.05)
    plain = atoms.copy()
    plain.calc = EMT()
    assert path.energies[0] == pytest.approx(plain.get_potential_energy(), abs=1e-9)
    assert path.converged
    assert atoms.cell.rank == path.frame(-1, atoms).cell.rank == 2  # nobody's structure is changed


def test_a_vector_that_is_there_stays():
    atoms = slab()
    atoms.center(vacuum=3.0, axis=2)
    assert with_third_vector(atoms) is atoms
    completed = with_third_vector(slab())
    np.testing.assert_allclose(completed.cell[2], [0, 0, np.ptp(slab().positions[:, 2]) + 30])
    assert not completed.pbc[2]
