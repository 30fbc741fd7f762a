"""Held along all three axes is frozen, whichever constraints say so and from whichever file."""

import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.constraints import (
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixedLine,
    FixedPlane,
    FixScaled,
)
from ase.io import read, write

from sdedata.files import read_frames
from sdedata.frozen import cartesian, frozen_mask, partly_held
from sdedata.template import Template


def slab(layers: int = 3) -> Atoms:
    atoms = fcc111("Ag", (2, 2, layers), vacuum=8.0, periodic=True)
    add_adsorbate(atoms, "O", 1.2, "fcc")
    return atoms


LOWER, UPPER = list(range(4)), list(range(4, 8))
HELD = {
    "FixAtoms": [FixAtoms(LOWER + UPPER)],
    "FixCartesian": [FixCartesian(LOWER + UPPER)],
    "FixScaled": [FixScaled(LOWER + UPPER)],
    "a mixture": [FixAtoms(LOWER), FixCartesian(UPPER), FixBondLengths([[8, 12]])],
    "axes one by one":
        [FixAtoms(LOWER), FixCartesian(UPPER, (1, 1, 0)), FixedPlane(UPPER, (0, 0, 1))],
    "lattice axes one by one":
        [FixAtoms(LOWER), FixScaled(UPPER, (1, 0, 1)), FixScaled(UPPER, (0, 1, 0))],
    "a line and a plane":
        [FixAtoms(LOWER), FixedLine(UPPER, (1, 1, 1)), FixedPlane(UPPER, (1, 1, 1))],
    "negative indices": [FixAtoms([i - 13 for i in LOWER + UPPER])],
}  # fmt: skip


@pytest.mark.parametrize("how", HELD)
def test_whoever_holds_all_axes_freezes(how):
    atoms = slab()
    atoms.set_constraint(HELD[how])
    assert np.flatnonzero(frozen_mask(atoms)).tolist() == LOWER + UPPER
    assert not partly_held(atoms).any()
    # the truth: a constraint that holds an atom lets no step move it
    moved = atoms.copy()
    moved.set_constraint([c for c in HELD[how] if not isinstance(c, FixBondLengths)])
    moved.set_positions(moved.positions + np.random.default_rng(0).normal(size=(13, 3)))
    still = np.linalg.norm(moved.positions - atoms.positions, axis=1) < 1e-9
    assert still.tolist() == frozen_mask(atoms).tolist()


@pytest.mark.parametrize(
    "constraint",
    [FixCartesian(UPPER, (1, 1, 0)), FixScaled(UPPER, (1, 0, 1)), FixedLine(UPPER, (0, 0, 1)),
     FixedPlane(UPPER, (1, 0, 0))],
)  # fmt: skip
def test_one_or_two_axes_are_not_frozen(constraint):
    atoms = slab()
    atoms.set_constraint([FixAtoms(LOWER), constraint])
    assert np.flatnonzero(frozen_mask(atoms)).tolist() == LOWER
    assert np.flatnonzero(partly_held(atoms)).tolist() == UPPER


def test_a_lattice_axis_of_an_oblique_cell_is_no_cartesian_axis():
    atoms = slab()
    atoms.set_constraint([FixScaled(UPPER, (1, 0, 0)), FixCartesian(UPPER, (0, 1, 1))])
    assert frozen_mask(atoms).sum() == 4  # a* leans toward x: together three axes
    atoms.set_constraint(
        [FixScaled(UPPER, (1, 0, 0)), FixedPlane(UPPER, atoms.cell.reciprocal()[0])]
    )
    assert not frozen_mask(atoms).any()  # twice the same axis
    assert not cartesian(atoms)  # and none of x, y, z


@pytest.mark.parametrize("ending", ["extxyz", "traj", "json", "db", "vasp"])
def test_files_keep_what_is_frozen(tmp_path, ending):
    atoms = slab()
    atoms.set_constraint([FixAtoms(LOWER), FixCartesian(UPPER)])
    if ending == "vasp":  # selective dynamics: lattice flags
        atoms.set_constraint([FixScaled(LOWER + UPPER), FixScaled([8], (1, 1, 0))])
    path = tmp_path / (f"POSCAR.{ending}" if ending == "vasp" else f"slab.{ending}")
    write(path, atoms)
    (back,) = read_frames(path)
    assert np.flatnonzero(frozen_mask(back)).tolist() == LOWER + UPPER
    assert np.flatnonzero(partly_held(back)).tolist() == ([8] if ending == "vasp" else [])


# Templates


def template_of(atoms: Atoms, tmp_path, ending: str = "extxyz") -> Template:
    write(tmp_path / f"slab.{ending}", atoms)
    return Template.from_slab(tmp_path / f"slab.{ending}")


@pytest.mark.parametrize("ending", ["extxyz", "traj"])
def test_a_template_keeps_free_layers_and_removes_the_overlayer(tmp_path, ending, caplog):
    caplog.set_level(logging.INFO)
    atoms = slab(4)
    atoms.set_constraint([FixAtoms(LOWER), FixCartesian(UPPER, (1, 1, 0))])
    found = template_of(atoms, tmp_path, ending)
    assert str(found.slab.symbols) == "Ag16"
    assert found.top == pytest.approx(atoms.positions[:16, 2].max())
    assert frozen_mask(found.slab).all()
    assert "12 free atoms in layers like the frozen ones" in caplog.text
    assert "1 free atoms (O) are removed" in caplog.text


def test_a_rumpled_layer_is_a_layer_and_an_oxide_none(tmp_path, caplog):
    atoms = slab(4)[:16]
    atoms.positions[12:] += np.random.default_rng(0).normal(scale=0.1, size=(4, 3))
    places = atoms.positions[[12, 13, 14, 12, 13]] + (0, 0, 2.3)
    places[3:, 0] += 1.4
    oxide = atoms + Atoms("Ag3O2", positions=places)
    oxide.set_constraint(FixAtoms(LOWER + UPPER))
    assert len(template_of(oxide, tmp_path).slab) == 16
    atoms.set_constraint(FixAtoms(range(16)))
    caplog.clear()
    assert len(template_of(atoms, tmp_path).slab) == 16
    assert not caplog.text


def test_a_mask_of_three_columns_is_read_as_one_of_one(tmp_path):
    atoms = slab(2)
    atoms.set_constraint(FixCartesian(range(8)))
    write(tmp_path / "three.extxyz", atoms)
    assert "move_mask:L:3" in (tmp_path / "three.extxyz").read_text()
    assert len(read(tmp_path / "three.extxyz").constraints) == 9  # ASE: one for each atom
    assert str(Template.from_slab(tmp_path / "three.extxyz").slab.symbols) == "Ag8"
