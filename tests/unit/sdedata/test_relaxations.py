"""Frames of one relaxation are found, by name or because they continue each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from sdedata import StructureSet, Template
from sdedata.dataset import concatenate, split
from sdedata.own import read_good
from sdedata.relaxations import RELAXED, largest_forces, minima, relaxations
from sdedata.rss import random_surface, relax

BFGS_FRAMES = dict(fmax=0.05, max_steps=120)


def slab() -> Atoms:
    return fcc111("Pt", (2, 2, 2), vacuum=8.0, periodic=True)


def relaxation(atoms: Atoms, **options) -> list[Atoms]:
    path = relax(atoms, EMT(), **{**BFGS_FRAMES, **options})
    return [path.frame(k, atoms) for k in range(len(path.energies))]


@pytest.fixture(scope="module")
def searched() -> list[StructureSet]:
    """Relaxations of random overlayers of three atoms, as a search writes them."""
    template, rng = Template.from_slab(slab()), np.random.default_rng(1)
    return [
        StructureSet.from_atoms(relaxation(random_surface(template, "Pt2O", rng, {})))
        for _ in range(6)
    ]


def truth(sets: list[StructureSet]) -> np.ndarray:
    return np.repeat(np.arange(len(sets)), [len(data) for data in sets])


def test_relaxations_in_one_file_are_found_without_names(searched):
    data = concatenate(searched)
    found = relaxations(data)
    assert found.labels.tolist() == truth(searched).tolist()
    assert found.last.tolist() == (np.cumsum([len(d) for d in searched]) - 1).tolist()
    assert str(found) == "6 relaxations (frames that continue each other)"


def test_no_frame_held_out_has_a_twin_among_those_learned(searched):
    data = concatenate(searched)
    train, held = split(data, 0.3, torch.Generator().manual_seed(0))
    assert not set(truth(searched)[train]) & set(truth(searched)[held])
    positions = data.positions.reshape(len(data), -1, 3)
    nearest = [np.abs(positions[i] - positions[train]).max((1, 2)).min() for i in held]
    assert min(nearest) > 0.1  # Å


def test_restarts_near_the_last_minimum_are_other_relaxations():
    """An atom that falls into the same hollow again and again, from 0.2 Å beside it."""
    sets = []
    for seed in range(5):
        atoms = slab()
        add_adsorbate(atoms, "Pt", 2.2, "fcc")
        atoms.positions[-1] += np.random.default_rng(seed).normal(0.0, 0.2, 3)
        atoms.set_constraint(FixAtoms(range(8)))
        sets.append(StructureSet.from_atoms(relaxation(atoms)))
    assert relaxations(concatenate(sets)).labels.tolist() == truth(sets).tolist()


@pytest.mark.parametrize("scale", [0.05, 0.1])
def test_rattled_copies_are_no_path(scale):
    """Draws around one place, though each is near the one before."""
    atoms = slab()
    add_adsorbate(atoms, "Pt", 2.0, "fcc")
    atoms.set_constraint(FixAtoms(range(8)))
    rng, frames = np.random.default_rng(0), []
    for k in range(40):
        frame = atoms.copy()
        frame.positions[-1] += scale * rng.normal(size=3)
        frame.calc = SinglePointCalculator(frame, energy=0.01 * k, forces=np.ones((9, 3)))
        frames.append(frame)
    data = StructureSet.from_atoms(frames)
    found = relaxations(data)
    moved = np.linalg.norm(np.diff(data.positions.reshape(40, 9, 3)[:, -1], axis=0), axis=1)
    assert (np.diff(found.labels) == (moved > 0.1)).all()
    slow = data.positions.reshape(40, 9, 3).copy()
    slow[:, -1] = atoms.positions[-1] + np.cumsum(np.full((40, 3), 0.1), axis=0)
    assert len(relaxations(replace(data, positions=slow.reshape(-1, 3)))) == 1


def test_an_atom_that_crosses_the_boundary_of_the_cell_goes_on(searched):
    data = searched[0]
    moved = data.positions.copy()
    free = ~data.fixed
    half = np.repeat(np.arange(len(data)), data.counts) >= len(data) // 2
    moved[free & half] += data.cell[0, 0] - data.cell[0, 1]
    assert len(relaxations(replace(data, positions=moved))) == 1


def named(data: StructureSet, **info) -> StructureSet:
    return replace(data, info={key: np.asarray(value) for key, value in info.items()})


def test_names_come_first_but_a_count_of_frames_is_none(searched):
    data = concatenate(searched)
    pairs = truth(searched) // 2
    assert relaxations(named(data, index=pairs)).labels.tolist() == pairs.tolist()
    assert len(relaxations(named(data, index=truth(searched), surface_index=pairs))) == 3
    frames = np.arange(len(data))
    counted = relaxations(named(data, index=frames))
    assert counted.labels.tolist() == truth(searched).tolist()
    ends = data.select(relaxations(data).last)
    assert len(relaxations(named(ends, index=np.arange(6)))) == 6


def test_each_of_several_files_is_one_unless_it_has_names(searched, tmp_path):
    """Also if only some have names, and if their numbers are the same."""
    paths = [tmp_path / f"{k}.extxyz" for k in range(4)]
    named(concatenate(searched[:2]), index=truth(searched[:2])).write(paths[0])
    named(searched[2], index=np.zeros(len(searched[2]), dtype=int)).write(paths[1])
    searched[3].write(paths[2])
    searched[4].write(paths[3])
    found = read_good(paths)
    assert found.data.info["index"].tolist() == truth(searched[:5]).tolist()
    assert found.rule == (
        "by info 'index' in 0.extxyz, 1.extxyz; a file without names is one in 2.extxyz, 3.extxyz"
    )


def test_a_single_relaxation_is_held_out_at_its_end(searched):
    data = searched[0]
    train, held = split(data, 0.2, torch.Generator().manual_seed(0))
    assert train + held == list(range(len(data)))
    assert len(held) == round(0.2 * len(data))
    assert "frames held out are like those learned from" in str(relaxations(data))


# Minima


def test_largest_forces_are_of_free_atoms(searched):
    data = searched[0]
    expected = [
        np.linalg.norm(a.get_forces(), axis=1).max()  # ASE: zero on fixed atoms
        for a in data.to_atoms()
    ]
    np.testing.assert_allclose(largest_forces(data), expected, atol=1e-6)


def test_a_score_learns_the_last_frames_at_rest(searched):
    data = concatenate(searched)
    kept, left_out = minima(data, RELAXED)
    at_rest = [d for d in searched if largest_forces(d)[-1] <= RELAXED]
    assert kept.digest == concatenate([d.select([len(d) - 1]) for d in at_rest]).digest
    assert f"out of {len(data)} frames" in left_out
    again, nothing = minima(kept, RELAXED)
    assert (again.digest, nothing) == (kept.digest, "")


def test_without_a_minimum_all_last_frames_are_taken_with_a_word(searched):
    data = concatenate([d.select(np.arange(3)) for d in searched])
    kept, left_out = minima(data, 1e-4)
    assert kept.digest == data.select(relaxations(data).last).digest
    assert left_out.startswith("no relaxation ends in a minimum")


# Cells and labels


def test_cells_that_differ_by_rounding_are_one():
    """As of 4.1550000001 and 4.1549999999, whose two decimals differ, or of 0 and -6e-16."""
    rows = []
    for k, noise in enumerate((0.0, -6e-16, 1e-9, -1e-9, 4e-3, 0.2)):
        atoms = slab()
        atoms.cell[0, 0] = 5.545 + noise
        atoms.cell[0, 1] = noise
        atoms.set_constraint(FixAtoms(range(4)))
        atoms.calc = SinglePointCalculator(atoms, energy=float(k), forces=np.ones((8, 3)))
        rows.append(atoms)
    data = StructureSet.from_atoms(rows)
    assert data.relative_energy.tolist() == [0, 1, 2, 3, 4, 0]


def test_forces_zeroed_on_fixed_atoms_are_not_known(searched):
    data = searched[0]
    forces = data.forces.copy()
    first = data.span(0)
    forces[first] *= ~data.fixed[first][:, None]
    some = replace(data, forces=forces)
    assert data.known_forces.all()
    assert some.known_forces[first].tolist() == (~data.fixed[first]).tolist()
    assert some.known_forces[first.stop :].all()
    graphs = some.graphs(4.0, (0.5, 9.0))
    assert graphs[0].forces is not None
    assert graphs[0].forces.isnan().all(1).tolist() == data.fixed[first].tolist()
    frames = some.to_atoms()
    (note,) = StructureSet.from_atoms(frames, "mine").notes
    assert note.startswith(
        f"mine: 1 of {len(data)} frames have forces of exactly zero on all fixed"
    )
