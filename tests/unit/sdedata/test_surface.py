"""One frame of reference: z is the normal, whole slabs, the vacuum above; or the true cause."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms

from sdedata.graph import Graph
from sdedata.surface import VACUUM, gaps, upright
from sdedata.template import Template


def slab(vacuum: float = 8.0) -> Atoms:
    return fcc111("Pt", (2, 2, 3), vacuum=vacuum, periodic=True)


def distances(atoms: Atoms) -> np.ndarray:
    return atoms.get_all_distances(mic=True)


@pytest.mark.parametrize("height", np.linspace(-1.0, 1.0, 9))
@pytest.mark.parametrize("lean", [0.0, 3.0])
def test_a_slab_wrapped_through_z_is_whole_again(height, lean):
    atoms = slab()
    atoms.cell[2, 0] = lean
    whole = atoms.copy()
    atoms.positions += height * atoms.cell[2]
    atoms.wrap()
    found = upright(atoms, "it")
    assert np.ptp(found.positions[:, 2]) == pytest.approx(np.ptp(whole.positions[:, 2]))
    np.testing.assert_allclose(distances(found), distances(whole), atol=1e-9)
    turns = (found.positions - atoms.positions) @ np.linalg.inv(atoms.cell.array)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)
    np.testing.assert_array_equal(upright(found, "it").positions, found.positions)


def test_what_is_whole_is_not_touched():
    atoms = slab()
    atoms.positions[:, 2] -= 9.0  # partly below the cell, in one piece
    np.testing.assert_array_equal(upright(atoms, "it").positions, atoms.positions)
    crystal = bulk("Pt", cubic=True)
    np.testing.assert_array_equal(upright(crystal, "it").positions, crystal.positions)


def test_gaps_are_the_empty_layers():
    atoms = slab(8.0)
    height = np.ptp(atoms.positions[:, 2])
    assert gaps(atoms)[2] == pytest.approx(atoms.cell[2, 2] - height)
    assert gaps(atoms)[:2].max() < VACUUM


@pytest.mark.parametrize("part", [1e-12, 1e-5, 5e-4, -9e-4])
def test_z_parts_of_rounding_are_none(part):
    """Accepted by all or by none: a score refuses any z part of the first two vectors."""
    atoms = slab()
    atoms.cell[0, 2], atoms.cell[1, 2] = part, -part
    assert not Template.from_slab(atoms).slab.cell[:2, 2].any()


def turned(axis: int) -> Atoms:
    """The slab with its normal along x or y, as other programs have it."""
    atoms = slab()
    order = [2, 0, 1] if axis == 0 else [1, 2, 0]
    return Atoms(
        atoms.numbers, positions=atoms.positions[:, order], pbc=True,
        cell=atoms.cell.array[order][:, order],
    )  # fmt: skip


def c_down() -> Atoms:
    atoms = slab()
    atoms.cell[2] *= -1
    return atoms


def tilted() -> Atoms:
    atoms = slab()
    atoms.rotate(5, "x", rotate_cell=True)
    return atoms


def without(axis: int) -> Atoms:
    atoms = slab()
    atoms.pbc[axis] = False
    return atoms


WRONG = {
    "vacuum along x": (turned(0), "vacuum .* lies along the first cell vector"),
    "vacuum along y": (turned(1), "vacuum .* lies along the second cell vector"),
    "c down": (c_down(), "third cell vector points down .*atoms.cell"),
    "tilted": (tilted(), r"do not lie in the x-y plane \(z up to .*rotate"),
    "a not periodic": (without(0), "not periodic in the plane"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_stands_otherwise_is_refused_with_its_cause(case):
    atoms, cause = WRONG[case]
    for use in (lambda: upright(atoms, "it"), lambda: Template.from_slab(atoms)):
        with pytest.raises(ValueError, match=cause):
            use()


def test_a_wrapped_template_is_that_of_the_whole_slab():
    atoms = slab()
    wrapped = atoms.copy()
    wrapped.positions[:, 2] -= atoms.positions[:, 2].min() + 1.0
    shifted = wrapped.copy()
    wrapped.wrap()
    found, expected = (Template.from_slab(one) for one in (wrapped, shifted))
    assert np.ptp(found.slab.positions[:, 2]) == pytest.approx(np.ptp(atoms.positions[:, 2]))
    assert found.window[1] - found.top == expected.window[1] - expected.top
    assert Graph.from_atoms(found.slab, 4.0).senders.shape == Graph.from_atoms(
        expected.slab, 4.0
    ).senders.shape  # fmt: skip


@pytest.mark.parametrize("held", [slice(0), slice(4), slice(None)])
def test_a_slab_cut_by_the_boundary_of_a_box_is_refused(held):
    """Without periodicity along z nothing may be moved; the heights would be those of no slab."""
    atoms = slab()
    atoms.set_constraint(FixAtoms(np.arange(len(atoms))[held]))
    atoms.positions[:, 2] -= atoms.positions[:, 2].min() + 1.0
    atoms.wrap()
    upright(atoms, "it")
    atoms.pbc = (True, True, False)
    with pytest.raises(ValueError, match=r"1\d\.\d Å of vacuum lie inside the slab.* set pbc"):
        upright(atoms, "it")


def test_what_left_the_surface_does_not_cut_the_slab():
    atoms = slab()
    atoms.pbc = (True, True, False)
    atoms.set_constraint(FixAtoms(np.arange(len(atoms))))
    atoms += Atoms("O", [atoms.positions[-1] + [0.0, 0.0, VACUUM + 1.0]])
    np.testing.assert_array_equal(upright(atoms, "it").positions, atoms.positions)
