"""A system of one's own from nothing but a file with its slab: platinum on Pt(111), by EMT.

EMT describes platinum well, and what is lowest there is known: an atom sits in a hollow, and seven
form the compact heptamer, a hexagon of six around one.
"""

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read

from experiments.harness.training.checkpoint import load_model
from sdedata import StructureSet
from sdedata.rss import relax
from sdedata.similarity import same
from tests.tiny import SEARCH, TRAIN, run

HEXAGON = ((0, 0), (1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1))
FMAX = 0.1  # eV/Å, of a search by default


def slab(n):
    return fcc111("Pt", (n, n, 2), vacuum=8.0, periodic=True)


def island(n, site, offsets):
    """Atoms in hollows of one kind, relaxed as a search relaxes."""
    atoms = slab(n)
    for i, j in offsets:
        add_adsorbate(atoms, "Pt", 2.1, site, offset=(i + n // 2, j + n // 2))
    atoms.set_constraint(FixAtoms(range(2 * n * n)))
    path = relax(atoms, EMT(), fmax=FMAX)
    assert path.converged
    atoms.positions = path.positions[-1]
    return atoms, float(path.energies[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("platinum")
    for n in (2, 5):
        slab(n).write(home / f"p{n}x{n}.extxyz")
    common = [*SEARCH, "surrogate=null", "template=mine", f"output={home}"]
    run("generate_data", *common, "name=atom", f"template.slab={home}/p2x2.extxyz",
        "composition=Pt", "n_per_composition=6")  # fmt: skip
    run("generate_data", *common, "name=heptamer", f"template.slab={home}/p5x5.extxyz",
        "composition=Pt7", "n_per_composition=4")  # fmt: skip
    return home


def found(home, name):
    return StructureSet.read(home / f"generate_data/{name}/minima.npz")


def test_a_small_search_finds_the_known_minimum(home):
    """An atom in p(2x2) is lowest in the two hollows, and six starts meet both."""
    minima = found(home, "atom")
    for site in ("fcc", "hcp"):
        hollow, energy = island(2, site, [(0, 0)])
        there = [a.get_potential_energy() for a in minima.to_atoms() if same(a, hollow, 0.1)]
        assert min(there) == pytest.approx(energy, abs=2e-3)
        assert minima.energy.min() == pytest.approx(energy, abs=5e-3)


def test_the_set_reads_back(home):
    minima, given = found(home, "heptamer"), read(home / "p5x5.extxyz")
    assert set(minima.compositions) == {"Pt7"}
    assert minima.meta["compositions"] == ["Pt7"]
    for atoms in minima.to_atoms():
        np.testing.assert_allclose(atoms.cell, given.cell, atol=1e-9)
        np.testing.assert_allclose(atoms.positions[:50], given.positions, atol=1e-5)
        assert atoms.constraints[0].index.tolist() == list(range(50))
        energy = atoms.get_potential_energy()
        atoms.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-3)
        assert np.linalg.norm(atoms.get_forces()[50:], axis=1).max() < FMAX + 1e-3


@pytest.mark.parametrize("site", ["fcc", "hcp"])
def test_the_heptamer_is_a_minimum_far_below_a_small_search(home, site):
    compact, energy = island(5, site, HEXAGON)
    assert energy < found(home, "heptamer").energy.min() - 0.2
    shaken = compact.copy()
    shaken.positions[50:] += np.random.default_rng(0).normal(0.0, 0.1, (7, 3))
    path = relax(shaken, EMT(), fmax=FMAX)
    shaken.positions = path.positions[-1]
    assert path.energies[0] > energy + 0.05
    assert path.energies[-1] == pytest.approx(energy, abs=0.01)
    assert same(shaken, compact, 0.1)


def test_networks_learn_from_it(home):
    for task, name in (("score", "minima"), ("forcefield", "frames")):
        data = f"data.path={home}/generate_data/heptamer/{name}.npz"
        run("train", *TRAIN, f"task={task}", data, "data.max_energy=100", "train.steps=2",
            f"output={home}")  # fmt: skip
        model = load_model(home / "train" / task)
        assert model.elements == (78,)
        assert model.card["compositions"] == ["Pt7"]
        assert model.card["calculator"] == {"_target_": "ase.calculators.emt.EMT"}
