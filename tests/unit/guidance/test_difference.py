"""The quadratic model of the difference of two potentials, against its definition."""

import numpy as np
import pytest
import torch

from guidance import difference
from guidance.difference import Difference
from tests.unit.guidance.physics import free

RNG = np.random.default_rng(5)
SITES = [(0.0, 0.0, 0.0), (3.0, 1.0, 0.0), (0.0, 4.0, 2.0)]
N = 3 * len(SITES)
EVERY = torch.tensor([True])


def tensor(array):
    return torch.tensor(np.asarray(array).reshape(-1, 3))


def symmetric():
    matrix = RNG.normal(size=(N, N))
    return matrix + matrix.T


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(difference, "RIDGE", 1e-12)


def fitted(steps, slope, missing):
    """The model of points around the sites; the difference changes by `slope` times the step."""
    graph = free(*SITES)
    known = Difference(graph)
    for step in steps:
        known.add(graph.positions + tensor(step), tensor(missing + slope @ step), EVERY)
    return known.around(graph.positions, tensor(missing), EVERY)


def smallest(steps, slope):
    """The symmetric matrix of least norm with the same changes, by linear least squares."""
    rows, columns = np.triu_indices(N)
    units = []
    for i, j in zip(rows, columns, strict=True):
        unit = np.zeros((N, N))
        unit[i, j] = unit[j, i] = 1.0 if i == j else 0.5**0.5  # of norm one
        units.append(unit)
    effects = np.stack([np.concatenate([unit @ s for s in steps]) for unit in units], axis=1)
    wanted = np.concatenate([slope @ s for s in steps])
    found, *_ = np.linalg.lstsq(effects, wanted, rcond=1e-10)
    return sum(c * unit for c, unit in zip(found, units, strict=True))


@pytest.mark.parametrize("n", [1, 4, N])
def test_it_is_the_smallest_symmetric_slope_that_explains_the_points(exact, n):
    slope, missing = symmetric(), RNG.normal(size=N)
    steps = 0.1 * RNG.normal(size=(n, N))
    model, expected = fitted(steps, slope, missing), smallest(steps, slope)
    if n == N:
        np.testing.assert_allclose(expected, slope, atol=1e-6)
    for displacement in 0.2 * RNG.normal(size=(5, N)):
        energy, forces = model(tensor(displacement))
        np.testing.assert_allclose(forces.flatten(), missing + expected @ displacement, atol=1e-6)
        work = missing @ displacement + displacement @ expected @ displacement / 2
        np.testing.assert_allclose(energy.item(), -work, atol=1e-6)


def test_forces_are_minus_the_slope_of_the_energy():
    """With the ridge, too, and with steps that are nearly parallel."""
    steps = 0.1 * RNG.normal(size=N) + 1e-3 * RNG.normal(size=(6, N))
    model = fitted(steps, RNG.normal(size=(N, N)), RNG.normal(size=N))
    displacement = tensor(0.1 * RNG.normal(size=N)).requires_grad_()
    energy, forces = model(displacement)
    (slope,) = torch.autograd.grad(energy.sum(), displacement)
    torch.testing.assert_close(forces, -slope)
    assert forces.norm() < 1e3


def test_an_asymmetric_slope_is_reproduced_along_the_steps(exact):
    """As where a potential is not quadratic: there is no symmetric matrix with all the changes."""
    steps, slope = 0.1 * RNG.normal(size=(4, N)), RNG.normal(size=(N, N))
    model = fitted(steps, slope, np.zeros(N))
    changes = np.stack([model(tensor(step))[1].flatten().numpy() for step in steps])
    wanted = steps @ slope @ steps.T
    np.testing.assert_allclose(steps @ changes.T, (wanted + wanted.T) / 2, atol=1e-8)


def test_without_other_points_the_difference_is_constant():
    graph = free(*SITES)
    known, missing = Difference(graph), tensor(RNG.normal(size=N))
    known.add(graph.positions, missing, EVERY)
    _, forces = known.around(graph.positions, missing, EVERY)(torch.rand_like(missing))
    torch.testing.assert_close(forces, missing)


@pytest.mark.parametrize(
    ("displacement", "value", "known"),
    [(2.0, 1.0, True), (0.1, 1.0, False), (0.1, np.nan, True)],
    ids=["far", "unknown", "not finite"],
)
def test_unusable_points_are_ignored(displacement, value, known):
    graph = free(*SITES)
    points, missing = Difference(graph), tensor(RNG.normal(size=N))
    points.add(graph.positions + displacement, value - missing, torch.tensor([known]))
    _, forces = points.around(graph.positions, missing, EVERY)(torch.rand_like(missing))
    torch.testing.assert_close(forces, missing)


def test_only_the_last_points_are_stored(monkeypatch, exact):
    monkeypatch.setattr(difference, "MEMORY", 4)
    slope, missing = symmetric(), RNG.normal(size=N)
    steps = 0.1 * RNG.normal(size=(7, N))
    all_of_them, last = fitted(steps, slope, missing), fitted(steps[-4:], slope, missing)
    displacement = tensor(RNG.normal(size=N))
    torch.testing.assert_close(all_of_them(displacement), last(displacement))
