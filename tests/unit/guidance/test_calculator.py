import numpy as np
import pytest
from ase import units
from ase.calculators.calculator import CalculationFailed
from ase.calculators.fd import calculate_numerical_forces
from ase.calculators.lj import LennardJones
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from guidance import ForceFieldCalculator, relax
from tests.unit.guidance.physics import CUTOFF, EPSILON, SIGMA, graph_of, lennard_jones, overlayer


def surface(seed: int):
    atoms = overlayer(seed)
    atoms.calc = ForceFieldCalculator(lennard_jones, graph_of)
    return atoms


def test_energy_and_forces_are_those_of_ase():
    atoms, reference = surface(1), overlayer(1)
    reference.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF)
    energy = reference.get_potential_energy()
    forces = reference.get_forces(apply_constraint=False)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), forces, atol=1e-10)


def test_forces_are_the_slope_of_the_energy():
    atoms = surface(2)
    indices = list(range(15, len(atoms)))
    numerical = calculate_numerical_forces(atoms, eps=1e-5, iatoms=indices)
    exact = atoms.get_forces(apply_constraint=False)[indices]
    np.testing.assert_allclose(numerical, exact, atol=1e-6)


def test_fixed_atoms_have_forces_that_only_the_constraint_hides():
    atoms = surface(3)
    fixed = atoms.constraints[0].index
    assert abs(atoms.get_forces(apply_constraint=False)[fixed]).max() > 0.1
    assert not atoms.get_forces()[fixed].any()


def test_ase_bfgs_reaches_the_minimum_of_relax():
    start = relax(graph_of(overlayer(4)), lennard_jones, fmax=0.3).graph
    ours = relax(start, lennard_jones, fmax=1e-5, max_steps=500)
    atoms = start.to_atoms()[0]
    atoms.calc = ForceFieldCalculator(lennard_jones, graph_of)
    BFGS(atoms, logfile=None).run(fmax=1e-5, steps=500)
    assert atoms.get_potential_energy() == pytest.approx(ours.energy.item(), abs=1e-8)
    np.testing.assert_allclose(atoms.positions, ours.graph.positions.numpy(), atol=1e-3)


def test_dynamics_keep_the_total_energy():
    # Sparse adatoms would cross the truncation of the potential; a relaxed layer hardly does.
    atoms = relax(graph_of(overlayer(5)), lennard_jones, fmax=0.05).graph.to_atoms()[0]
    atoms.calc = ForceFieldCalculator(lennard_jones, graph_of)
    MaxwellBoltzmannDistribution(atoms, temperature_K=50, rng=np.random.default_rng(0))
    before, fixed = atoms.get_total_energy(), atoms.positions[:18].copy()
    VelocityVerlet(atoms, 2 * units.fs).run(100)
    assert atoms.get_kinetic_energy() > 0.001
    assert atoms.get_total_energy() == pytest.approx(before, abs=1e-3)
    assert np.array_equal(atoms.positions[:18], fixed)


def test_results_follow_the_atoms():
    atoms = surface(6)
    before = atoms.get_potential_energy()
    atoms.positions[-1, 2] += 0.3
    energy, _ = lennard_jones(graph_of(atoms))
    assert atoms.get_potential_energy() == energy.item() != before


def test_energy_that_is_not_finite_is_an_error():
    atoms = surface(7)
    atoms.positions[-1] = atoms.positions[-2]
    with pytest.raises(CalculationFailed, match="not finite"):
        atoms.get_potential_energy()
