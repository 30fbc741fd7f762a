"""Relaxation on a reference with a surrogate: correct however poor the surrogate."""

import math
import random

import pytest
import torch

from guidance import refine, relax
from tests.unit.guidance.physics import free, graph_of, harmonic, lennard_jones, overlayer, select

SEEDS = range(6)
FMAX = 0.02


def skewed(graph):
    """Lennard-Jones that is a third too stiff, in a weak field."""
    energy, forces = lennard_jones(graph)
    pull, pulling = harmonic(0.05, (0.0, 0.0, 14.0))(graph)
    return 1.3 * energy + pull, 1.3 * forces + pulling


def nothing(graph):
    zeros = torch.zeros_like(graph.positions)
    return zeros.new_zeros(graph.n_structures), zeros


def opposite(graph):
    energy, forces = lennard_jones(graph)
    return -energy, -forces


@pytest.fixture(scope="module")
def overlayers():
    return graph_of(*(overlayer(seed) for seed in SEEDS))


def largest(graph, forces):
    lengths = torch.where(graph.mobile, forces.norm(dim=1), 0.0)
    return torch.stack([lengths[graph.batch == b].max() for b in range(graph.n_structures)])


@pytest.mark.parametrize(
    ("surrogate", "max_steps"),
    [(lennard_jones, 60), (skewed, 60), (nothing, 100), (opposite, 100)],
    ids=["the reference", "skewed", "nothing", "opposite"],
)
def test_it_ends_in_minima_of_the_reference(overlayers, surrogate, max_steps):
    done = refine(overlayers, lennard_jones, surrogate, select, FMAX, max_steps)
    energy, forces = lennard_jones(done.graph)
    assert done.converged.all()
    assert done.finite.all()
    assert (largest(done.graph, forces) <= FMAX).all()
    torch.testing.assert_close(done.energy, energy, rtol=0, atol=1e-12)
    torch.testing.assert_close(done.forces, forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(done.fmax, largest(done.graph, forces), rtol=0, atol=1e-12)
    frozen = ~overlayers.mobile
    assert torch.equal(done.graph.positions[frozen], overlayers.positions[frozen])


def test_a_good_surrogate_saves_most_calls(overlayers):
    """Started from the relaxation on the surrogate, as in a search."""
    alone = relax(overlayers, lennard_jones, FMAX)
    begin = relax(overlayers, skewed, FMAX).graph
    refined = refine(begin, lennard_jones, skewed, select, FMAX)
    assert refined.converged.all()
    assert (refined.steps + 1).sum() < (alone.steps + 1).sum() / 3


@pytest.mark.parametrize("surrogate", [nothing, opposite])
def test_a_useless_surrogate_costs_little_more_than_none(overlayers, surrogate):
    """The difference is fitted as L-BFGS fits the curvature."""
    alone = relax(overlayers, lennard_jones, FMAX)
    refined = refine(overlayers, lennard_jones, surrogate, select, FMAX, 100)
    assert refined.steps.sum() < 1.3 * alone.steps.sum()


def test_energies_fall_and_no_atom_leaves_the_radius(overlayers):
    states = []
    done = refine(overlayers, lennard_jones, skewed, select, FMAX, observe=states.append)
    energies = torch.stack([state.energy for state in states])
    settled = (energies[1:] > energies[:-1]) & ~torch.stack([s.converged for s in states[1:]])
    assert not settled.any()
    assert len(states) == done.steps.max() + 1
    first = (states[1].graph.positions - overlayers.positions).norm(dim=1).max()
    assert 0 < first <= 0.3 + 1e-12


@pytest.mark.parametrize("radius", [5e-4, 0.1, 0.5])
def test_no_atom_moves_farther_than_the_trust_radius(overlayers, radius):
    (graph, *_) = overlayers.split()
    evaluated, states = [], []

    def recorded(graph):
        evaluated.append(graph.positions)
        return lennard_jones(graph)

    refine(graph, recorded, skewed, select, FMAX, 300, trust_radius=radius, observe=states.append)
    displacements = [
        (trial - state.graph.positions).norm(dim=1).max()
        for trial, state in zip(evaluated[1:], states, strict=False)
    ]
    assert max(displacements) == pytest.approx(radius, abs=1e-12)


@pytest.mark.parametrize("x", [1.18, 1.23, 1.3])
def test_small_trust_radii_find_the_minimum_of_the_reference_alone_and_large_ones_a_lower_one(x):
    """One atom on a rippled spring; the surrogate has the spring without the ripple."""
    spring, height, wave = harmonic(0.5), 0.02, 2 * math.pi / 0.2  # eV, 1/Å

    def rippled(graph):
        energy, forces = spring(graph)
        phase = wave * graph.positions[:, 0]
        ripple = torch.zeros_like(forces)
        ripple[:, 0] = height * wave * phase.sin()
        return energy + height * phase.cos(), forces + ripple

    start = free((x, 0.0, 0.0))
    alone = relax(start, rippled, 1e-4, max_step=0.05)
    short, long = (
        refine(start, rippled, spring, select, 1e-4, trust_radius=radius) for radius in (0.05, 1.0)
    )
    for done in (alone, short, long):
        assert done.converged.all()
    torch.testing.assert_close(short.graph.positions, alone.graph.positions, rtol=0, atol=1e-4)
    assert long.energy < alone.energy - 0.09


def test_finished_structures_are_not_evaluated(overlayers):
    evaluated = []

    def counted(graph):
        evaluated.append(graph.n_structures)
        return lennard_jones(graph)

    done = refine(overlayers, counted, skewed, select, FMAX)
    assert sum(evaluated) == (done.steps + 1).sum().item() < len(evaluated) * len(SEEDS)


def test_each_structure_moves_the_same_in_any_batch(overlayers):
    together = refine(overlayers, lennard_jones, skewed, select, FMAX)
    for index, graph in enumerate(overlayers.split()):
        alone = refine(graph, lennard_jones, skewed, select, FMAX)
        ours = together.graph.positions[together.graph.batch == index]
        assert alone.steps.item() == together.steps[index].item()
        torch.testing.assert_close(alone.graph.positions, ours, rtol=0, atol=1e-8)


def test_a_structure_that_becomes_nan_stops_at_its_last_finite_positions(overlayers):
    calls = []

    def breaks_at_third_call(graph):
        calls.append(graph)
        energy, forces = lennard_jones(graph)
        if len(calls) == 3:
            energy[2] = math.nan
        return energy, forces

    done = refine(overlayers, breaks_at_third_call, skewed, select, FMAX)
    assert done.finite.tolist() == [True, True, False, True, True, True]
    assert done.converged.tolist() == done.finite.tolist()
    assert done.steps[2] == 2
    energy, _ = lennard_jones(done.graph)
    torch.testing.assert_close(done.energy, energy, rtol=0, atol=1e-12)


def test_a_surrogate_may_return_nan(overlayers):
    """Where it does, the structure takes a short step along the reference's forces."""
    dice = random.Random(0)

    def now_and_then(graph):
        energy, forces = skewed(graph)
        return energy, forces * math.nan if dice.random() < 0.2 else forces

    done = refine(overlayers, lennard_jones, now_and_then, select, FMAX)
    assert done.converged.all()
    assert (largest(done.graph, lennard_jones(done.graph)[1]) <= FMAX).all()


def test_it_starts_from_the_fallback_where_the_surrogate_is_unreliable(overlayers):
    """Atoms of the fourth structure overlap at the start, the others are unchanged."""
    begin = overlayers.positions.clone()
    atoms = torch.nonzero((overlayers.batch == 3) & overlayers.mobile).flatten()
    begin[atoms[0]] = begin[atoms[1]] + torch.tensor([1.6, 0.0, 0.0])
    states = []
    done = refine(
        overlayers.at(begin), lennard_jones, nothing, select, FMAX, 600,
        fallback=overlayers.positions, max_force_error=200.0, observe=states.append,
    )  # fmt: skip
    assert torch.equal(states[0].graph.positions, begin)
    assert torch.equal(states[1].graph.positions, overlayers.positions)
    assert states[1].steps.tolist() == [0, 0, 0, 1, 0, 0]
    assert done.converged.all()


@pytest.mark.parametrize(
    "wrong", [{"fmax": 0.0}, {"max_steps": -1}, {"max_force_error": 0.0}, {"trust_radius": 0.0}]
)
def test_bad_numbers_are_refused(overlayers, wrong):
    with pytest.raises(ValueError, match="must be positive and max_steps not negative"):
        refine(overlayers, lennard_jones, skewed, select, **wrong)
