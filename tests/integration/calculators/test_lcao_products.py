"""Sums of GPAW's LCAO over grid points made as products of matrices are those that GPAW makes."""

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111

from experiments.calculators import lcao_products

gpaw = pytest.importorskip("gpaw", reason="gpaw is compiled on request: pip install gpaw gpaw-data")


def computed(magnetic, kpts):
    """Energy (eV), forces (eV/Å) and the number of blocks of O on one layer of Ag(111), rattled."""
    slab = fcc111("Ag", (1, 2, 1), a=4.15, vacuum=4.0)
    add_adsorbate(slab, "O", 1.2, "fcc")
    slab.rattle(0.05, seed=1)
    slab.pbc = (True, True, False)
    if magnetic:
        slab.set_initial_magnetic_moments([0.1, 0.1, 1.0])
    slab.calc = gpaw.GPAW(
        mode="lcao", basis="dzp", h=0.25, kpts=kpts, xc="PBE", txt=None, spinpol=magnetic,
        occupations=gpaw.FermiDirac(0.1), convergence={"density": 1e-6},
    )  # fmt: skip
    found = slab.get_potential_energy(), slab.get_forces()
    return *found, slab.calc.wfs.basis_functions.blocks


@pytest.mark.slow
@pytest.mark.skipif(
    not gpaw.__version__.startswith(lcao_products.VERSION), reason="of another version of gpaw"
)
@pytest.mark.parametrize(
    ("magnetic", "kpts"), [(False, (2, 3, 1)), (True, (2, 1, 1)), (False, (1, 1, 1))]
)
def test_energies_and_forces_are_gpaws(monkeypatch, magnetic, kpts):
    lcao_products.use()
    energy, forces, used = computed(magnetic, kpts)
    assert bool(used) == (kpts != (1, 1, 1))
    monkeypatch.setattr(lcao_products, "blocks", lambda basis: None)
    expected, right, used = computed(magnetic, kpts)
    assert used is None
    assert energy == pytest.approx(expected, abs=1e-8)
    assert np.abs(forces - right).max() < 1e-8
    assert np.abs(right).max() > 0.5


def test_oxygen_with_spin_is_a_triplet_below_the_closed_shell():
    """A flat molecule in a cell of a slab; Hund: two unpaired electrons."""
    from ase.build import molecule

    from experiments.calculators import gpaw as slab_dft

    options = {"mode": "lcao", "basis": "dzp", "h": 0.25, "kpt_density": 0.1, "vacuum": 3.0}
    energies = {}
    for spin, magmoms in ((False, None), (True, {"O2": 2.0})):
        oxygen = molecule("O2", cell=(6, 6, 8))
        oxygen.rotate(90, "x")
        oxygen.set_initial_magnetic_moments(None)  # ASE's molecule brings its own
        oxygen.calc = slab_dft(**options, txt=None, magmoms=magmoms)
        energies[spin] = oxygen.get_potential_energy()
    assert oxygen.get_magnetic_moment() == pytest.approx(2.0, abs=0.01)
    assert energies[True] < energies[False] - 0.5
