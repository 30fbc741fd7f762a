"""Repetition describes the same surface by a larger cell: energies and forces must follow."""

from collections import Counter

import numpy as np
import pytest
import torch
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from scipy.stats import chisquare

from sdedata import Graph, collate, repeat
from sdedata.augment import draw_repeats


def surface(metal, size=(2, 2, 2)):
    atoms = fcc111(metal, size, vacuum=6.0, periodic=True)
    add_adsorbate(atoms, metal, 1.9, "bridge")
    atoms.set_constraint(FixAtoms(indices=np.arange(len(atoms) - 1)))
    atoms.rattle(0.15, seed=3)
    atoms.positions[0] += atoms.cell[0]  # an atom outside its cell
    atoms.calc = EMT()
    atoms.get_potential_energy()
    return atoms


def graph(atoms, window=(8.0, 13.0)):
    return Graph.from_atoms(atoms, 5.0, window, dtype=torch.float64)


@pytest.mark.parametrize("metal", ["Pt", "Ag"])
@pytest.mark.parametrize("repeats", [(2, 1), (1, 2), (3, 2)])
def test_labels_are_those_of_a_calculator(metal, repeats):
    repeated = repeat(graph(surface(metal)), repeats)
    (atoms,) = repeated.to_atoms()
    atoms.calc = EMT()
    assert repeated.energy.item() == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    exact = atoms.get_forces(apply_constraint=False)
    assert np.abs(exact).max() > 0.5
    assert np.allclose(repeated.forces.numpy(), exact, atol=1e-8)


@pytest.mark.parametrize("repeats", [(2, 1), (1, 2), (3, 2)])
def test_geometry_and_order_are_those_of_ase(repeats):
    atoms = surface("Pt")
    (ours,) = repeat(graph(atoms), repeats).to_atoms()
    theirs = atoms.repeat((*repeats, 1))
    assert np.array_equal(ours.numbers, theirs.numbers)
    assert np.allclose(ours.positions, theirs.positions, atol=1e-12)
    assert np.allclose(ours.cell, theirs.cell, atol=1e-12)
    assert np.array_equal(ours.pbc, theirs.pbc)
    assert np.array_equal(
        np.sort(ours.constraints[0].get_indices()), np.sort(theirs.constraints[0].get_indices())
    )


def test_each_atom_keeps_its_surroundings():
    small = graph(surface("Ag"))
    large = repeat(small, (2, 2))
    neighbours = torch.bincount(small.receivers, minlength=len(small.positions))
    assert torch.equal(torch.bincount(large.receivers), neighbours.repeat(4))


def test_batches_repeat_structure_by_structure_and_keep_their_windows():
    one, two = graph(surface("Pt")), graph(surface("Ag", (1, 2, 2)), window=(7.0, 12.0))
    both = repeat(collate([one, two]), (2, 1))
    assert both.window.tolist() == [[8.0, 13.0], [7.0, 12.0]]
    assert both.counts.tolist() == [2 * len(one.positions), 2 * len(two.positions)]
    assert torch.equal(both.energy, 2 * torch.cat([one.energy, two.energy]))
    for found, single in zip(both.split(), (one, two), strict=True):
        assert torch.equal(found.positions, repeat(single, (2, 1)).positions)


def test_unlabelled_structures_and_the_trivial_repeat():
    found = graph(surface("Pt"))
    bare = repeat(found.at(found.positions), (2, 1))
    assert bare.energy is None
    assert bare.forces is None
    assert repeat(found, (1, 1)) is found
    with pytest.raises(ValueError, match="at least 1"):
        repeat(found, (0, 2))


def test_drawn_repeats_are_uniform_over_the_pairs_that_fit():
    generator = torch.Generator().manual_seed(5)
    drawn = Counter(draw_repeats(4, generator) for _ in range(4000))
    # 1x1 1x2 1x3 1x4 2x1 2x2 3x1 4x1
    assert set(drawn) == {(i, j) for i in range(1, 5) for j in range(1, 5) if i * j <= 4}
    assert chisquare(list(drawn.values())).pvalue > 1e-3
    assert draw_repeats(1, generator) == (1, 1)
    with pytest.raises(ValueError, match="at least 1"):
        draw_repeats(0, generator)


def test_drawn_repeats_follow_from_the_generator_alone():
    one, two = (torch.Generator().manual_seed(9) for _ in range(2))
    torch.manual_seed(1)
    first = [draw_repeats(6, one) for _ in range(20)]
    torch.manual_seed(2)
    assert first == [draw_repeats(6, two) for _ in range(20)]
