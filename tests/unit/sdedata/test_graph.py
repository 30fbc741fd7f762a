"""The graph: immutable, batched, to ASE and back with constraints and labels."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from sdedata import Graph, collate, neighbour_list
from sdedata.neighbours import edge_vectors
from sdedata.template import Template

TENSORS = ("positions", "numbers", "batch", "mobile", "cell", "pbc", "window", "energy", "forces")


def platinum(size=(2, 2, 2), metal="Pt", height=1.9):
    """A slab with one adatom, lower layers fixed, energy and forces by EMT."""
    atoms = fcc111(metal, size, vacuum=6.0, periodic=True)
    add_adsorbate(atoms, metal, height, "fcc")
    atoms.set_constraint(FixAtoms(indices=np.arange(len(atoms) - 1)))
    atoms.rattle(0.1, seed=len(atoms))
    atoms.calc = EMT()
    atoms.get_potential_energy()
    return atoms


def graph(atoms, cutoff=5.0, window=(10.0, 14.0)):
    return Graph.from_atoms(atoms, cutoff, window, dtype=torch.float64)


def assert_same(one, other, names=TENSORS):
    for name in names:
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        assert first is None or torch.equal(first, second), name
    assert one.cutoff == other.cutoff


def test_from_atoms_takes_constraints_window_and_labels_along():
    atoms = platinum()
    found = graph(atoms)
    assert found.mobile.tolist() == [False] * 8 + [True]
    assert found.window.tolist() == [[10.0, 14.0]]
    assert found.numbers.tolist() == [78] * 9
    assert found.energy.item() == atoms.get_potential_energy()
    # ASE's getter would give zeros on the fixed atoms.
    everywhere = atoms.get_forces(apply_constraint=False)
    assert np.abs(everywhere[:8]).max() > 0.1
    assert np.array_equal(found.forces.numpy(), everywhere)


def test_atoms_and_back():
    atoms = platinum()
    (back,) = graph(atoms).to_atoms()
    assert back == atoms  # positions, numbers, cell, pbc
    assert back.constraints[0].get_indices().tolist() == list(range(8))
    assert back.get_potential_energy() == atoms.get_potential_energy()
    assert np.array_equal(
        back.get_forces(apply_constraint=False), atoms.get_forces(apply_constraint=False)
    )
    assert np.array_equal(back.get_forces()[:8], np.zeros((8, 3)))


def test_labels_of_older_positions_are_not_taken():
    atoms = platinum()
    atoms.positions[-1, 2] += 0.2
    found = graph(atoms)
    assert found.energy is None
    assert found.forces is None


def test_without_labels_constraint_or_window():
    (back,) = Graph.from_atoms(Atoms("Ag2", positions=[[0, 0, 0], [0, 0, 2.5]]), 3.0).to_atoms()
    found = Graph.from_atoms(back, 3.0)
    assert found.mobile.all()
    assert found.window.tolist() == [[-np.inf, np.inf]]
    assert back.calc is None
    assert back.constraints == []
    assert len(found.senders) == 2


def test_collate_then_split_is_the_identity():
    singles = [graph(platinum()), graph(platinum((1, 1, 3), "Au")), graph(platinum((2, 1, 2)))]
    batch = collate(singles)
    assert batch.n_structures == 3
    assert batch.counts.tolist() == [9, 4, 5]
    assert batch.batch.tolist() == [0] * 9 + [1] * 4 + [2] * 5
    for one, other in zip(batch.split(), singles, strict=True):
        assert_same(one, other)
    assert_same(collate([collate(singles[:2]), singles[2]]), batch)


def test_a_batch_has_the_edges_of_its_parts():
    singles = [graph(platinum()), graph(platinum((1, 1, 3), "Au"))]
    batch = collate(singles)
    parts = torch.cat([edge_table(s, start) for s, start in zip(singles, [0, 9], strict=True)])
    assert_same_rows(edge_table(batch), parts)
    assert batch.vectors.norm(dim=-1).max() < 5.0


@pytest.mark.parametrize("mobile", ["the adatom", "all", "none", "every third"])
def test_edges_are_the_neighbour_list_on_the_way_too(mobile):
    """With cached edges of the substrate, and after the substrate has moved."""
    found = collate([graph(platinum()), graph(platinum((1, 1, 3), "Au"))])
    masks = {"all": True, "none": False, "every third": torch.arange(13) % 3 == 0}
    if mobile in masks:
        found = replace(found, mobile=torch.zeros(13, dtype=torch.bool) | masks[mobile])
    generator = torch.Generator().manual_seed(0)
    for which in (found.mobile, found.mobile, ~found.mobile, found.mobile):
        listed = neighbour_list(found.positions, found.cell, found.pbc, found.batch, found.cutoff)
        vectors = edge_vectors(found.positions, found.cell, found.batch, listed)
        expected = torch.column_stack([listed.receivers, listed.senders, vectors])
        assert_same_rows(edge_table(found), expected)
        step = torch.randn(13, 3, dtype=torch.float64, generator=generator)
        found = found.at(found.positions + step * which[:, None])


def edge_table(found, start=0):
    """Receiver, sender and vector of each edge; atoms are counted from `start`."""
    return torch.column_stack([found.receivers + start, found.senders + start, found.vectors])


def assert_same_rows(one, other):
    one, other = (table[np.lexsort(table.numpy().round(8).T[::-1])] for table in (one, other))
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_edges_are_computed_once_and_shared():
    found = graph(platinum())
    assert found.senders is found.edges.senders
    assert found.edges is found.edges


def test_at_moves_atoms_and_forgets_edges_and_labels():
    found = graph(platinum())
    before, edges = found.positions.clone(), found.edges
    moved = found.at(found.positions + torch.tensor([0.0, 0.0, 1.0]))
    assert moved.energy is None
    assert moved.forces is None
    assert_same(moved, found, ("numbers", "batch", "mobile", "cell", "pbc", "window"))
    assert moved.edges is not edges
    assert torch.allclose(moved.vectors, found.vectors, atol=1e-12)  # a rigid shift
    assert torch.equal(found.positions, before)
    apart = found.at(found.positions * torch.tensor([1.0, 1.0, 40.0]))
    assert len(apart.senders) < len(found.senders)


def test_to_another_precision_and_back():
    found = graph(platinum())
    single = found.to(dtype=torch.float32)
    for name in TENSORS:
        floating = getattr(found, name).is_floating_point()
        single_too = floating and name != "energy"  # totals have more digits than float32
        expected = torch.float32 if single_too else getattr(found, name).dtype
        assert getattr(single, name).dtype == expected, name
    assert single.vectors.dtype == torch.float32
    again = single.to("cpu", torch.float64)
    assert torch.allclose(again.positions, found.positions, atol=1e-6)


def test_immutable():
    found = graph(platinum())
    with pytest.raises(FrozenInstanceError):
        found.positions = found.positions + 1


def test_collate_keeps_labels_only_if_all_have_them():
    labelled = graph(platinum())
    bare = labelled.at(labelled.positions)
    assert collate([labelled, bare]).energy is None
    assert collate([labelled, bare]).forces is None
    assert collate([labelled, labelled]).energy.shape == (2,)


def test_collate_refuses_what_cannot_be_one_batch():
    found = graph(platinum())
    with pytest.raises(ValueError, match="empty"):
        collate([])
    with pytest.raises(ValueError, match="different cutoffs"):
        collate([found, replace(found, cutoff=6.0)])


def test_shapes_are_checked():
    """In the test run only: jaxtyping's annotations, enforced by beartype."""
    found = graph(Template.ag111("p3x3").slab)
    with pytest.raises(Exception, match="positions"):
        replace(found, positions=found.positions[:, :2])
