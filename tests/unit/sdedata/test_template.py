"""Templates: the silver cells, any slab from ASE, and invalid input."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, fcc111, surface
from ase.constraints import FixAtoms
from ase.io import write

from sdedata import Template, parse_formula
from sdedata.composition import formula
from sdedata.template import A0_AG, AG111_CELLS

A = A0_AG / 2**0.5
UNIT = np.array([[A, 0.0], [A / 2, A * 3**0.5 / 2]])  # p(1x1) of Ag(111)


@pytest.mark.parametrize(("cell", "per_layer"), [("c2x8", 8), ("p3x3", 9), ("p4x4", 16)])
def test_silver_cells(cell, per_layer):
    template = Template.ag111(cell)
    slab = template.slab
    planar = np.asarray(slab.cell)[:2, :2]
    assert np.allclose(planar, np.array(AG111_CELLS[cell]) @ UNIT, atol=1e-10)
    assert np.allclose(slab.cell[2], [0, 0, 20 + A0_AG / 3**0.5])  # 22.396 Å
    assert slab.cell[2, 2] == pytest.approx(22.396, abs=5e-4)
    assert slab.pbc.all()
    heights, counts = np.unique(slab.positions[:, 2].round(6), return_counts=True)
    assert counts.tolist() == [per_layer, per_layer]
    assert np.diff(heights) == pytest.approx(A0_AG / 3**0.5, abs=1e-6)
    assert len(slab.constraints[0].get_indices()) == len(slab) == 2 * per_layer
    assert template.area == pytest.approx(per_layer * A**2 * 3**0.5 / 2)
    assert template.window == pytest.approx((template.top + 1.0, template.top + 5.0))


def test_the_c2x8_cell_is_the_primitive_one_of_the_centred_rectangle():
    """2a along x and 4√3a along y, with a lattice point in the middle: half its area."""
    inverse = np.linalg.inv(np.array(AG111_CELLS["c2x8"]) @ UNIT)
    rectangle = np.array([[2 * A, 0], [0, 4 * 3**0.5 * A], [A, 2 * 3**0.5 * A]])
    steps = rectangle @ inverse
    assert np.allclose(steps, np.round(steps), atol=1e-10)
    assert Template.ag111("c2x8").area == pytest.approx(2 * A * 4 * 3**0.5 * A / 2)


@pytest.mark.parametrize("cell", AG111_CELLS)
def test_the_corner_of_the_cell_exposes_a_top_layer_atom(cell):
    """And every top-layer atom sits on a lattice point of (1x1), every lower one on a hollow."""
    template = Template.ag111(cell)
    z = template.slab.positions[:, 2]
    steps = template.slab.positions[:, :2] @ np.linalg.inv(UNIT)
    top, bottom = steps[z > template.top - 0.1], steps[z <= template.top - 0.1]
    assert np.allclose(top, np.round(top), atol=1e-8)
    assert (np.abs(template.slab.positions[:, :2][z > template.top - 0.1]).sum(1) < 1e-8).any()
    hollow = (bottom - np.floor(bottom + 1e-8)).round(6)
    assert {tuple(h) for h in hollow} <= {(0.333333, 0.333333), (0.666667, 0.666667)}
    assert len(np.unique(hollow, axis=0)) == 1


def test_each_silver_atom_has_the_neighbours_of_fcc():
    slab = Template.ag111("c2x8").slab
    distances = slab.get_all_distances(mic=True)
    # Nine neighbours in two layers of fcc(111), some of them images of one atom: compare lengths.
    assert distances[distances > 0].min() == pytest.approx(A, abs=1e-8)


def test_any_slab_with_fixed_atoms():
    slab = fcc100("Pt", (2, 2, 3), vacuum=8.0, periodic=True)
    count = len(slab)
    slab.set_constraint(FixAtoms(indices=np.arange(count)))
    with_adatom = slab.copy()
    add_adsorbate(with_adatom, "Pt", 1.8, "hollow")
    template = Template.from_slab(with_adatom, window=(0.5, 4.0), name="pt100")
    assert len(template.slab) == count  # the free atom was an overlayer
    assert np.array_equal(template.slab.positions, slab.positions)
    assert template.window == pytest.approx((template.top + 0.5, template.top + 4.0))
    assert len(with_adatom) == count + 1


def test_a_slab_without_constraints_is_all_substrate(caplog):
    """With other elements on it, which may be an adsorbate, it is reported."""
    slab = surface(bulk("Au", cubic=True), (2, 1, 1), 2, vacuum=8.0, periodic=True)
    template = Template.from_slab(slab)
    assert len(template.slab.constraints[0].get_indices()) == len(slab)
    assert caplog.text == ""
    add_adsorbate(slab, "H", 1.0, (0.0, 0.0))
    template = Template.from_slab(slab)
    assert len(template.slab.constraints[0].get_indices()) == len(slab)
    assert f"all of Au{len(slab) - 1}H are the slab" in caplog.text


@pytest.mark.parametrize("suffix", ["extxyz", "traj"])
def test_a_slab_from_a_file(tmp_path, suffix):
    slab = fcc111("Pt", (2, 2, 2), vacuum=8.0, periodic=True)
    add_adsorbate(slab, "O", 1.2, "fcc")
    slab.set_constraint(FixAtoms(indices=np.arange(8)))
    path = tmp_path / f"platinum.{suffix}"
    write(path, slab)
    template = Template.from_slab(path)
    assert template.name == "platinum"
    assert template.slab.get_chemical_formula() == "Pt8"
    assert np.allclose(template.slab.positions, slab.positions[:8], atol=1e-7)


@pytest.mark.parametrize("cell", AG111_CELLS)
def test_templates_by_name(cell):
    found, expected = Template.load(f"ag111_{cell}", (1.0, 4.5)), Template.ag111(cell, (1.0, 4.5))
    assert found.slab == expected.slab
    assert found.window == expected.window
    assert found.name == expected.name


def test_templates_by_file_and_by_neither(tmp_path):
    path = tmp_path / "gold.traj"
    write(path, fcc111("Au", (2, 2, 2), vacuum=8.0, periodic=True))
    assert Template.load(str(path)).name == "gold"
    with pytest.raises(ValueError, match=r"no slab 'ag111': give a file, or one of ag111_c2x8"):
        Template.load("ag111")


def test_a_surface_is_the_slab_and_its_overlayer():
    template = Template.ag111("p3x3")
    places = np.arange(9.0).reshape(3, 3)
    atoms = template.surface("Ag2O", places)
    assert atoms.get_chemical_formula() == "Ag20O"
    assert atoms.symbols[-3:].get_chemical_formula() == "Ag2O"
    assert np.array_equal(atoms.positions[-3:], places)
    assert atoms.constraints[0].get_indices().tolist() == list(range(18))
    assert template.surface({"Ag": 2, "O": 1}, places) == atoms


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Ag6O3", {"Ag": 6, "O": 3}),
        ("Pt7", {"Pt": 7}),
        ("O", {"O": 1}),
        ("(AgO)2", {"Ag": 2, "O": 2}),
    ],
)
def test_formulas(text, count):
    assert parse_formula(text) == count
    numbers = Atoms(text).numbers
    assert parse_formula(formula(numbers[::-1])) == count


def test_formulas_are_written_metals_first():
    assert formula(np.array([8, 47, 8, 47])) == "Ag2O2"


@pytest.mark.parametrize(
    "text", ["", "Ag0", "Ag6O0", "XxO", "X", "ag6", "Ag-2", "Ag1.5", "6", "Ag6 O3"]
)
def test_the_error_names_an_invalid_formula(text):
    with pytest.raises(ValueError, match=f"{text!r}"):
        parse_formula(text)


def slab_file(tmp_path, atoms):
    path = tmp_path / "slab.extxyz"
    write(path, atoms)
    return path


def test_bad_slab_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*missing\.extxyz"):
        Template.from_slab(tmp_path / "missing.extxyz")
    empty = tmp_path / "empty.extxyz"
    empty.touch()
    with pytest.raises(ValueError, match=r"empty\.extxyz is empty"):
        Template.from_slab(empty)
    garbage = tmp_path / "garbage.extxyz"
    garbage.write_text("no structure\n")
    with pytest.raises(ValueError, match=r"garbage\.extxyz cannot be read"):
        Template.from_slab(garbage)
    with pytest.raises(ValueError, match=r"slab\.extxyz: no cell in the plane"):
        Template.from_slab(slab_file(tmp_path, Atoms("Ag")))


def test_invalid_slabs_are_refused():
    good = fcc111("Pt", (2, 2, 2), vacuum=8.0, periodic=True)
    tilted, walled, broken, endless = (good.copy() for _ in range(4))
    tilted.rotate(20, "x", rotate_cell=True)
    walled.pbc = [True, False, True]
    broken.positions[0, 0] = np.nan
    endless.cell[2] = 0
    for slab, fault in [
        (tilted, "do not lie in the x-y plane"),
        (walled, "not periodic in the plane"),
        (broken, "not finite"),
        (endless, "periodic along z without a cell vector"),
        (good[:0], "no atoms"),
    ]:
        with pytest.raises(ValueError, match=f"template slab: .*{fault}"):
            Template.from_slab(slab)


@pytest.mark.parametrize(
    ("window", "fault"),
    [
        ((-1.0, 3.0), "inside the slab"),
        ((0.0, 3.0), "inside the slab"),
        ((3.0, 3.0), "is empty"),
        ((4.0, 1.0), "is empty"),
        ((1.0, float("nan")), "is empty"),
        ((1.0, 19.0), "too thin in z"),
    ],
)
def test_windows_that_cannot_hold_an_overlayer_are_refused(window, fault):
    with pytest.raises(ValueError, match=f"template ag111_p3x3: .*{fault}"):
        Template.ag111("p3x3", window)


def test_a_slab_without_a_cell_in_z_needs_no_vacuum():
    slab = fcc111("Ag", (2, 2, 2))
    assert slab.cell[2, 2] == 0
    assert Template.from_slab(slab, window=(1.0, 30.0)).top == slab.positions[:, 2].max()


def test_unknown_silver_cell():
    with pytest.raises(ValueError, match="'p5x5': choose one of c2x8, p3x3, p4x4"):
        Template.ag111("p5x5")


@pytest.mark.parametrize("number", [0, 119, 300])
def test_atoms_of_no_element_are_refused(number):
    slab = Template.ag111("p3x3").slab
    slab.numbers[4] = number
    with pytest.raises(ValueError, match=r"no element\) at index 4; remove"):
        Template.from_slab(slab)
