import math

import pytest
import torch

from guidance import Guide, eta_from_step
from tests.unit.guidance.physics import free, graph_of, harmonic, lennard_jones, overlayer


def test_tau_falls_from_eta_in_data_to_nothing_in_noise():
    guide = Guide(lennard_jones, eta=0.5)
    assert guide.tau(0.0) == 0.5
    assert guide.tau(0.25) == 0.375
    assert guide.tau(1.0) == 0.0


def test_eta_gives_the_papers_product_of_eta_and_dt():
    for steps in (1, 200, 1000):
        assert eta_from_step(0.001, steps) * (1 / steps) == pytest.approx(0.001, rel=1e-15)


def test_guide_is_tau_times_the_force_and_zero_on_the_substrate():
    graph = graph_of(overlayer(1), overlayer(2))
    velocity = Guide(lennard_jones, 0.5, max_force=None)(graph, 0.2)
    forces = lennard_jones(graph)[1]
    assert forces[~graph.mobile].abs().max() > 0.1
    assert not velocity[~graph.mobile].any()
    torch.testing.assert_close(velocity[graph.mobile], 0.4 * forces[graph.mobile])


def test_harmonic_guide_shifts_the_mean_of_a_gaussian_as_computed_by_hand():
    """dr = tau(t) f dt backwards from t = 1 is r(0) = c + (r(1) - c) exp(-eta k / 2)."""
    stiffness, eta, centre = 2.0, 0.7, (1.0, -2.0, 3.0)
    guide = Guide(harmonic(stiffness, centre), eta)
    start = torch.tensor([[0.5, 0.5, 0.5]], dtype=torch.float64)
    exact = torch.tensor([centre]) + (start - torch.tensor([centre])) * math.exp(
        -eta * stiffness / 2
    )
    errors = []
    for steps in (100, 200):
        graph = free(*start.tolist())
        for k in range(steps):
            t = 1 - (k + 0.5) / steps
            graph = graph.at(graph.positions + guide(graph, t) / steps)
        errors.append((graph.positions - exact).abs().max().item())
    assert errors[1] < 0.005
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.02)  # Euler's first order


def test_a_long_force_is_shortened_and_keeps_its_direction():
    graph = free((3.0, 0.0, 4.0), (0.03, 0.0, 0.04))
    velocity = Guide(harmonic(100.0), eta=1.0, max_force=10.0)(graph, 0.0)
    expected = torch.tensor([[-6.0, 0.0, -8.0], [-3.0, 0.0, -4.0]], dtype=torch.float64)
    torch.testing.assert_close(velocity, expected, rtol=1e-14, atol=0)
    assert Guide(harmonic(100.0), 1.0, max_force=None)(graph, 0.0)[0, 0] == -300


def test_a_force_whose_square_overflows_float32_is_shortened_too():
    graph = free((3.0, 0.0, 4.0), dtype=torch.float32)
    velocity = Guide(harmonic(1e30), eta=1.0, max_force=10.0)(graph, 0.0)
    torch.testing.assert_close(velocity, torch.tensor([[-6.0, 0.0, -8.0]]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("max_force", [10.0, None])
def test_forces_that_are_not_finite_show_in_their_structure_only(value, max_force):
    def broken(graph):
        energy, forces = lennard_jones(graph)
        forces[-1] = value
        return energy, forces

    graph = graph_of(overlayer(1), overlayer(2))
    velocity = Guide(broken, 0.5, max_force)(graph, 0.2)
    finite = velocity.isfinite().all(1)
    assert finite[graph.batch == 0].all()
    assert not finite[-1]


@pytest.mark.parametrize("eta", [-0.1, math.nan, math.inf])
def test_an_impossible_eta_is_refused(eta):
    with pytest.raises(ValueError, match="eta must be zero or positive"):
        Guide(lennard_jones, eta)
    with pytest.raises(ValueError, match="eta_dt must be zero or positive"):
        eta_from_step(eta, 100)


def test_impossible_limits_and_steps_are_refused():
    with pytest.raises(ValueError, match="max_force"):
        Guide(lennard_jones, 0.1, max_force=0.0)
    with pytest.raises(ValueError, match="at least one step"):
        eta_from_step(0.001, 0)
