import math

import pytest
import torch
from ase.calculators.lj import LennardJones
from ase.optimize import BFGS

from guidance import descend, relax
from tests.unit.guidance.physics import (
    CUTOFF,
    EPSILON,
    SIGMA,
    free,
    graph_of,
    harmonic,
    lennard_jones,
    overlayer,
    select,
)

SEEDS = range(6)


@pytest.fixture(scope="module")
def overlayers():
    return graph_of(*(overlayer(seed) for seed in SEEDS))


@pytest.fixture(scope="module")
def relaxed(overlayers):
    return relax(overlayers, lennard_jones, fmax=1e-3, max_steps=300)


def test_a_pair_relaxes_to_the_closed_form_distance():
    result = relax(free((0, 0, 0), (2.0, 1.0, 0.5)), lennard_jones, fmax=1e-9)
    distance = (result.graph.positions[0] - result.graph.positions[1]).norm()
    shift = 4 * EPSILON * ((SIGMA / CUTOFF) ** 12 - (SIGMA / CUTOFF) ** 6)
    assert result.converged.all()
    assert distance.item() == pytest.approx(2 ** (1 / 6) * SIGMA, abs=1e-9)
    assert result.energy.item() == pytest.approx(-EPSILON - shift, abs=1e-12)


def test_results_are_those_of_the_force_field_at_the_final_positions(overlayers, relaxed):
    energy, forces = lennard_jones(relaxed.graph)
    lengths = torch.where(relaxed.graph.mobile, forces.norm(dim=1), 0.0)
    largest = torch.stack([lengths[relaxed.graph.batch == b].max() for b in SEEDS])
    assert relaxed.converged.all()
    assert relaxed.finite.all()
    assert (largest <= 1e-3).all()
    torch.testing.assert_close(relaxed.fmax, largest, rtol=0, atol=1e-12)
    torch.testing.assert_close(relaxed.energy, energy, rtol=0, atol=1e-12)
    assert (energy < lennard_jones(overlayers)[0]).all()


def test_ase_finds_the_same_minimum_from_a_rattled_start(relaxed):
    for atoms, energy in zip(relaxed.graph.to_atoms(), relaxed.energy, strict=True):
        reached = atoms.positions.copy()
        atoms.rattle(0.05, seed=3)  # of the mobile atoms: FixAtoms is obeyed
        atoms.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF)
        BFGS(atoms, logfile=None).run(fmax=1e-5, steps=500)
        ours = relax(graph_of(atoms), lennard_jones, fmax=1e-5, max_steps=500)
        assert ours.energy.item() == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        assert abs(ours.graph.positions.numpy() - atoms.positions).max() < 1e-3
        assert ours.energy.item() == pytest.approx(energy.item(), abs=1e-5)
        assert abs(reached - atoms.positions).max() < 0.02


def test_fewer_force_calls_than_ase_bfgs():
    ours = theirs = 0
    for seed in SEEDS:
        atoms = overlayer(seed)
        ours += relax(graph_of(atoms), lennard_jones, fmax=0.05).steps.item()
        atoms.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF)
        optimiser = BFGS(atoms, logfile=None)
        optimiser.run(fmax=0.05, steps=500)
        theirs += optimiser.nsteps
    assert ours < 0.8 * theirs


def test_each_structure_moves_the_same_in_any_batch(overlayers, relaxed):
    for index, graph in enumerate(overlayers.split()):
        alone = relax(graph, lennard_jones, fmax=1e-3, max_steps=300)
        ours = relaxed.graph.positions[relaxed.graph.batch == index]
        assert alone.steps.item() == relaxed.steps[index].item()
        torch.testing.assert_close(alone.graph.positions, ours, rtol=0, atol=1e-9)


def test_finished_structures_are_dropped_and_nothing_changes(overlayers, relaxed):
    computed = []

    def counted(graph):
        computed.append(graph.n_structures)
        return lennard_jones(graph)

    fewer = relax(overlayers, counted, fmax=1e-3, max_steps=300, select=select)
    assert sum(computed) == (relaxed.steps + 1).sum().item() < len(computed) * len(SEEDS)
    torch.testing.assert_close(fewer.graph.positions, relaxed.graph.positions, rtol=0, atol=1e-9)


def test_frozen_atoms_and_converged_structures_stay_bit_for_bit(overlayers, relaxed):
    frozen = ~overlayers.mobile
    assert torch.equal(relaxed.graph.positions[frozen], overlayers.positions[frozen])
    mixed = graph_of(*relaxed.graph.to_atoms()[:2], overlayer(9))
    again = relax(mixed, lennard_jones, fmax=2e-3)
    assert again.steps[:2].tolist() == [0, 0]
    assert again.steps[2] > 5
    kept = mixed.batch < 2
    assert torch.equal(again.graph.positions[kept], mixed.positions[kept])


def test_no_atom_moves_farther_than_max_step_at_once(overlayers):
    path = [overlayers.positions]
    relax(overlayers, lennard_jones, observe=lambda state: path.append(state.graph.positions))
    lengths = torch.stack([(b - a).norm(dim=1).max() for a, b in zip(path, path[1:], strict=False)])
    assert lengths.max().item() == pytest.approx(0.2, abs=1e-12)


def test_overlapping_atoms_come_apart_in_float32():
    atoms = overlayer(1)
    atoms.positions[-1] = atoms.positions[-2] + [0.01, 0.0, 0.005]
    graph = graph_of(atoms, overlayer(2), dtype=torch.float32)
    assert lennard_jones(graph)[1].abs().max() > 1e20
    result = relax(graph, lennard_jones, fmax=0.05, max_steps=400)
    assert result.converged.all()
    assert (result.energy < -20).all()


def test_a_structure_that_becomes_nan_keeps_its_last_finite_positions(overlayers):
    def breaks_at_third_call(graph):
        energy, forces = lennard_jones(graph)
        calls.append(graph.positions)
        if len(calls) == 3:
            forces[graph.batch == 2] = math.nan
        return energy, forces

    calls: list[torch.Tensor] = []
    result = relax(overlayers, breaks_at_third_call, fmax=1e-3, max_steps=300)
    healthy = relax(overlayers, lennard_jones, fmax=1e-3, max_steps=300)
    broken = overlayers.batch == 2
    assert result.finite.tolist() == [True, True, False, True, True, True]
    assert result.converged.tolist() == [True, True, False, True, True, True]
    assert result.steps[2] == 2
    assert torch.equal(result.graph.positions[broken], calls[1][broken])
    assert result.energy[2] == lennard_jones(overlayers.at(calls[1]))[0][2]
    ours, undisturbed = result.graph.positions[~broken], healthy.graph.positions[~broken]
    torch.testing.assert_close(ours, undisturbed, rtol=0, atol=1e-9)


def test_a_structure_broken_from_the_start_is_flagged_and_not_moved(overlayers):
    def broken(graph):
        energy, forces = lennard_jones(graph)
        return torch.where(torch.arange(6) == 1, math.inf, energy), forces

    result = relax(overlayers, broken, select=None)
    stuck = overlayers.batch == 1
    assert result.finite.tolist() == [True, False, True, True, True, True]
    assert result.energy[1].isnan()
    assert torch.equal(result.graph.positions[stuck], overlayers.positions[stuck])


@pytest.mark.parametrize(("pulled_to", "wall"), [(1.0, 2.0), (12.0, 9.0)])
def test_atoms_stop_at_the_walls_of_the_window(pulled_to, wall):
    graph = free((1.0, 2.0, 3.0), (0.0, 0.0, 9.5))
    window = torch.tensor([[2.0, 9.0]], dtype=torch.float64)
    result = relax(graph, harmonic(1.0, (0, 0, pulled_to)), fmax=1e-6, window=window)
    assert result.converged.all()
    torch.testing.assert_close(
        result.graph.positions, torch.tensor([[0.0, 0, wall]] * 2).double(), rtol=0, atol=1e-6
    )


def test_descend_is_the_papers_step_repeated(overlayers):
    step, n_steps = 0.001, 7
    by_hand = overlayers
    for _ in range(n_steps):
        forces = lennard_jones(by_hand)[1] * by_hand.mobile[:, None]
        by_hand = by_hand.at(by_hand.positions + step * forces)
    result = descend(overlayers, lennard_jones, step, n_steps, max_force=None)
    torch.testing.assert_close(result.graph.positions, by_hand.positions, rtol=0, atol=1e-14)
    torch.testing.assert_close(result.energy, lennard_jones(by_hand)[0], rtol=0, atol=1e-12)
    assert result.steps.tolist() == [n_steps] * 6


def test_descend_shortens_forces_as_the_guide_does():
    result = descend(free((3.0, 0.0, 4.0)), harmonic(100.0), 0.001, 2, max_force=10.0)
    expected = torch.tensor([[3 - 0.012, 0.0, 4 - 0.016]], dtype=torch.float64)
    torch.testing.assert_close(result.graph.positions, expected, rtol=0, atol=1e-14)


def test_no_steps_give_the_energy_of_the_start(overlayers):
    result = relax(overlayers, lennard_jones, max_steps=0)
    assert torch.equal(result.graph.positions, overlayers.positions)
    assert torch.equal(result.energy, lennard_jones(overlayers)[0])
    assert not result.converged.any()


def test_impossible_settings_are_refused(overlayers):
    with pytest.raises(ValueError, match="fmax and max_step must be positive"):
        relax(overlayers, lennard_jones, fmax=0.0)
    with pytest.raises(ValueError, match="fmax and max_step must be positive"):
        relax(overlayers, lennard_jones, max_step=-0.2)
    with pytest.raises(ValueError, match="must not be negative"):
        relax(overlayers, lennard_jones, max_steps=-1)
    with pytest.raises(ValueError, match="step of a descent"):
        descend(overlayers, lennard_jones, -0.001, 3)
