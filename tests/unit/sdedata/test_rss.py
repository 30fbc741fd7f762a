"""Random structure search: uniform starts that respect distances, relaxations with every frame."""

import numpy as np
import pytest
from ase.build import fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.data import covalent_radii
from ase.neighborlist import primitive_neighbor_list
from ase.optimize import BFGS, FIRE
from scipy.stats import kstest

from sdedata import Template
from sdedata.rss import CLOSEST, random_surface, relax

MIN_DISTANCES = {"Ag-Ag": 2.2, "Ag-O": 1.6, "O-O": 1.1}
LAST_OXYGEN = (0.44090200, 3.05130508, 6.45344068)


def platinum(size=(2, 2, 2), window=(1.0, 3.5)):
    slab = fcc111("Pt", size, vacuum=8.0, periodic=True)
    return Template.from_slab(slab, window, name="pt111")


def closest_approaches(atoms, first):
    """Shortest distance per pair of elements over all in-plane images, of pairs with an atom from
    `first` on; from ASE's neighbour list."""
    i, j, d = primitive_neighbor_list("ijd", [1, 1, 0], atoms.cell.array, atoms.positions, 4.0)
    found = {}
    for a, b, length in zip(i, j, d, strict=True):
        if max(a, b) >= first:
            pair = "-".join(sorted((atoms.symbols[a], atoms.symbols[b])))
            found[pair] = min(found.get(pair, np.inf), length)
    return found


@pytest.mark.parametrize("cell", ["c2x8", "p3x3"])
def test_minimum_distances_hold_with_the_substrate_too(cell):
    template = Template.ag111(cell, window=(0.5, 4.5))
    shortest = {}
    for seed in range(15):
        atoms = random_surface(template, "Ag6O5", np.random.default_rng(seed), MIN_DISTANCES)
        free = atoms.positions[len(template.slab) :, 2]
        assert ((free >= template.window[0]) & (free <= template.window[1])).all()
        assert atoms[len(template.slab) :].get_chemical_formula() == "Ag6O5"
        for pair, length in closest_approaches(atoms, len(template.slab)).items():
            shortest[pair] = min(shortest.get(pair, np.inf), length)
    for pair, limit in MIN_DISTANCES.items():
        # Respected, and not by a wide berth.
        assert limit <= shortest[pair] < limit + 0.4


@pytest.mark.parametrize("shear", [0, 1, 3])
def test_distances_hold_in_cells_so_thin_that_second_images_matter(shear):
    """A (1x3) cell of platinum, described by ever more oblique vectors of the same lattice."""
    slab = fcc111("Pt", (1, 3, 2), vacuum=8.0, periodic=True)
    slab.set_cell(slab.cell.array + shear * np.outer([0, 1, 0], slab.cell[0]), scale_atoms=False)
    template = Template.from_slab(slab, (1.0, 4.5), name="thin")
    limits = {"Pt-Pt": 2.5, "O-Pt": 2.0, "O-O": 2.4}
    for seed in range(10):
        atoms = random_surface(template, "PtO2", np.random.default_rng(seed), limits)
        found = closest_approaches(atoms, len(slab))
        assert all(found[pair] >= limits[pair] for pair in found)


def test_distances_by_default_come_from_covalent_radii():
    template = Template.ag111("p3x3")
    both = [
        closest_approaches(random_surface(template, "Ag3O6", np.random.default_rng(s)), 18)
        for s in range(10)
    ]
    for pair, (one, other) in {"Ag-Ag": (47, 47), "Ag-O": (47, 8), "O-O": (8, 8)}.items():
        limit = CLOSEST * (covalent_radii[one] + covalent_radii[other])
        assert limit <= min(found.get(pair, np.inf) for found in both) < limit + 0.5


def test_a_single_atom_is_uniform_in_cell_and_window():
    template = Template.ag111("c2x8", window=(3.0, 6.0))  # beyond the reach of the substrate
    rng = np.random.default_rng(11)
    places = np.array([random_surface(template, "O", rng).positions[-1] for _ in range(600)])
    fractions = places[:, :2] @ np.linalg.inv(np.asarray(template.slab.cell)[:2, :2])
    low, high = template.window
    for marginal in (*fractions.T, (places[:, 2] - low) / (high - low)):
        assert kstest(marginal, "uniform").pvalue > 1e-3


def test_rejection_treats_the_atoms_alike():
    """Two equal atoms above the slab's reach: the first placed and the second are both uniform."""
    template = platinum((3, 3, 1), window=(3.0, 6.0))
    rng = np.random.default_rng(12)
    both = np.array(
        [random_surface(template, "O2", rng, {"O-O": 1.0}).positions[-2:] for _ in range(400)]
    )
    low, high = template.window
    for k in (0, 1):
        assert kstest((both[:, k, 2] - low) / (high - low), "uniform").pvalue > 1e-3


def test_the_seed_decides_alone():
    template = Template.ag111("p3x3")
    np.random.seed(1)
    one = random_surface(template, "Ag6O3", np.random.default_rng([5, 2]), MIN_DISTANCES)
    np.random.seed(2)
    two = random_surface(template, "Ag6O3", np.random.default_rng([5, 2]), MIN_DISTANCES)
    assert one == two
    three = random_surface(template, "Ag6O3", np.random.default_rng([5, 3]), MIN_DISTANCES)
    assert one != three


def test_draws_stay_the_same_over_versions():
    """Shipped sets are reproduced from their seeds: the draws of a seed must not change."""
    template = Template.ag111("c2x8", window=(1.0, 4.5))
    atoms = random_surface(template, "Ag4O2", np.random.default_rng([7, 0]), MIN_DISTANCES)
    assert np.allclose(atoms.positions[-1], LAST_OXYGEN, atol=1e-6)


def test_overlayers_that_do_not_fit_are_refused():
    template = platinum((1, 1, 2))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="Pt7 does not fit into the z range .* of template pt111"):
        random_surface(template, "Pt7", rng, attempts=2)
    with pytest.raises(ValueError, match="Pt closer than 3 Å to its own image"):
        random_surface(template, "Pt", rng, {"Pt-Pt": 3.0})
    with pytest.raises(ValueError, match="'Zz2'"):
        random_surface(template, "Zz2", rng)
    for pair, distance in [("PtPt", 2.0), ("Pt-Zz", 2.0), ("Pt-O", -1.0), ("Pt-O", float("nan"))]:
        with pytest.raises(ValueError, match=f"minimum distance {pair}"):
            random_surface(template, "Pt", rng, {pair: distance})


@pytest.fixture(scope="module")
def relaxed():
    template = platinum((3, 3, 2))
    atoms = random_surface(template, "Pt3", np.random.default_rng(1))
    return atoms, relax(atoms, EMT(), fmax=0.02, max_steps=300)


def test_relaxation_ends_below_fmax_and_lower(relaxed):
    atoms, trajectory = relaxed
    assert trajectory.converged
    final = atoms.copy()
    final.positions = trajectory.positions[-1]
    final.calc = EMT()
    assert np.linalg.norm(final.get_forces(), axis=1).max() <= 0.02
    assert final.get_potential_energy() == pytest.approx(trajectory.energies[-1], abs=1e-10)
    assert trajectory.energies[-1] < trajectory.energies[0] - 0.5


def test_every_frame_is_kept_with_forces_on_all_atoms(relaxed):
    atoms, trajectory = relaxed
    assert trajectory.steps == len(trajectory.energies) - 1 > 5
    assert np.array_equal(trajectory.positions[0], atoms.positions)
    assert trajectory.fixed.tolist() == [True] * 18 + [False] * 3
    assert np.abs(trajectory.forces[:, trajectory.fixed]).max() > 0.1
    frame = atoms.copy()
    for k in range(0, len(trajectory.energies), 7):
        frame.positions = trajectory.positions[k]
        frame.calc = EMT()
        assert frame.get_potential_energy() == pytest.approx(trajectory.energies[k], abs=1e-10)
        assert np.allclose(
            frame.get_forces(apply_constraint=False), trajectory.forces[k], atol=1e-10
        )


def test_frozen_atoms_do_not_move_and_steps_are_short(relaxed):
    atoms, trajectory = relaxed
    fixed = trajectory.fixed
    assert (trajectory.positions[:, fixed] == atoms.positions[fixed]).all()
    steps = np.linalg.norm(np.diff(trajectory.positions, axis=0), axis=-1)
    assert 0.1 < steps.max() <= 0.2 + 1e-9


def test_the_input_is_not_modified():
    atoms = random_surface(platinum(), "Pt", np.random.default_rng(0))
    before = atoms.copy()
    relax(atoms, EMT(), max_steps=3)
    assert atoms == before
    assert atoms.calc is None


def test_too_few_steps_end_unconverged():
    atoms = random_surface(platinum(), "Pt2", np.random.default_rng(3))
    trajectory = relax(atoms, EMT(), fmax=1e-6, max_steps=2)
    assert not trajectory.converged
    assert trajectory.steps == 2


def test_another_optimizer_finds_the_same_minimum():
    atoms = random_surface(platinum(), "Pt", np.random.default_rng(0))
    one, two = (relax(atoms, EMT(), 0.005, 300, optimizer=kind) for kind in (BFGS, FIRE))
    assert one.converged
    assert two.converged
    assert two.energies[-1] == pytest.approx(one.energies[-1], abs=1e-3)


def test_a_minimum_is_one_frame():
    atoms = random_surface(platinum(), "Pt", np.random.default_rng(0))
    atoms.positions = relax(atoms, EMT(), fmax=0.01, max_steps=200).positions[-1]
    again = relax(atoms, EMT(), fmax=0.02)
    assert again.converged
    assert again.steps == 0


class Failing(Calculator):
    """EMT for a few calls; then it fails in one of the ways of real calculators."""

    implemented_properties = ("energy", "forces")

    def __init__(self, how, after):
        super().__init__()
        self.inner, self.how, self.left = EMT(), how, after

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.inner.calculate(atoms, properties, system_changes)
        self.results = dict(self.inner.results)
        self.left -= 1
        if self.left < 0:
            match self.how:
                case "energy":
                    self.results["energy"] = float("nan")
                case "forces":
                    forces = self.results["forces"].copy()
                    forces[0, 0] = np.inf  # on a frozen atom: no optimizer would see it
                    self.results["forces"] = forces
                case "raise":
                    raise RuntimeError("the calculation did not converge")


class Slope(EMT):
    """The same forces everywhere, from which ASE's BFGS learns a curvature of 0 / 0."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        forces = np.zeros((len(self.atoms), 3))
        forces[-1, 2] = 0.5
        self.results = {"energy": -1.0, "forces": forces}


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_an_optimizer_with_nan_positions_ends_the_relaxation():
    atoms = random_surface(platinum(), "Pt2", np.random.default_rng(3))
    with pytest.raises(FloatingPointError, match="positions not finite after 2 steps"):
        relax(atoms, Slope())


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("how", ["energy", "forces"])
def test_a_calculator_with_nan_results_ends_the_relaxation(how, after):
    atoms = random_surface(platinum(), "Pt2", np.random.default_rng(3))
    with pytest.raises(FloatingPointError, match=f"not finite after {after} steps"):
        relax(atoms, Failing(how, after), fmax=1e-6)


def test_a_failing_calculator_raises():
    atoms = random_surface(platinum(), "Pt2", np.random.default_rng(3))
    with pytest.raises(RuntimeError, match="did not converge"):
        relax(atoms, Failing("raise", 2), fmax=1e-6)
