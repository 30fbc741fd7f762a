import pytest
import torch

from vpsde import SDE, LinearBeta, Truncated, Wrapped, brownian, vp

T = torch.linspace(0, 1, 11, dtype=torch.float64)


def test_beta_is_the_derivative_of_its_integral():
    schedule = LinearBeta(0.01, 3.0)
    t = T.clone().requires_grad_()
    (beta,) = torch.autograd.grad(schedule.integral(t).sum(), t)
    torch.testing.assert_close(beta, schedule.beta(T), rtol=1e-12, atol=0)
    assert schedule.integral(0.0) == 0


@pytest.mark.parametrize("bounds", [(-0.1, 3.0), (3.0, 0.01), (1.0, 1.0), (float("nan"), 1.0)])
def test_an_impossible_schedule_is_refused(bounds):
    with pytest.raises(ValueError, match="0 <= beta_min < beta_max"):
        LinearBeta(*bounds)


@pytest.mark.parametrize("sde", [vp(), brownian(vertical=Truncated(), plane=Wrapped())])
def test_alpha_and_sigma_are_the_moments_of_the_simulated_sde(sde):
    steps, paths = 500, 20_000
    generator = torch.Generator().manual_seed(0)
    x = torch.full((paths,), 2.0, dtype=torch.float64)
    for k in range(steps):
        beta = sde.schedule.beta((k + 0.5) / steps)
        drift = -0.5 * beta * x if sde.drift else 0.0
        noise = torch.randn(paths, generator=generator, dtype=torch.float64)
        x = x + drift / steps + (beta / steps) ** 0.5 * noise
        if k + 1 in (150, 500):
            t = torch.tensor((k + 1) / steps, dtype=torch.float64)
            error = sde.sigma(t) / paths**0.5
            assert abs(x.mean() - 2 * sde.alpha(t)) < 4 * error
            assert abs(x.std() - sde.sigma(t)) < 4 * error


def test_vp_preserves_variance_and_brownian_motion_adds_it():
    torch.testing.assert_close(vp().alpha(T) ** 2 + vp().sigma(T) ** 2, torch.ones_like(T))
    torch.testing.assert_close(brownian().sigma(T) ** 2, brownian().schedule.integral(T))
    assert (brownian().alpha(T) == 1).all()
    # The paper's range of beta, as its Eq. 1 has it.
    torch.testing.assert_close(vp().alpha(T[-1]).item(), 0.4712, atol=1e-4, rtol=0)
    torch.testing.assert_close(vp().sigma(T[-1]).item(), 0.8820, atol=1e-4, rtol=0)


def test_mirrors_with_a_drift_are_refused():
    with pytest.raises(ValueError, match="Brownian motion only"):
        SDE(LinearBeta(0.01, 3.0), drift=True)
