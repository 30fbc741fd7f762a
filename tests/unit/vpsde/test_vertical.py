import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from vpsde import Reflected, Truncated

WINDOW = (1.5, 4.7)
WIDTH = WINDOW[1] - WINDOW[0]
RATIOS = [0.01, 0.1, 0.4, 1.3]


def each(z_0, sigma, n):
    ones = torch.ones(n, dtype=torch.float64)
    return z_0 * ones, sigma * ones, torch.tensor([WINDOW] * n, dtype=torch.float64)


def heights(n=41):
    return torch.linspace(WINDOW[0] + 1e-3, WINDOW[1] - 1e-3, n, dtype=torch.float64)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("z_0", [1.5, 1.6, 3.0, 4.7])
def test_reflected_score_is_the_gradient_of_the_brute_force_mirror_sum(z_0, ratio):
    sigma = ratio * WIDTH
    z = heights().requires_grad_()
    n = 2 * WIDTH * torch.arange(-50, 51, dtype=torch.float64)
    images = torch.cat([z_0 + n, 2 * WINDOW[0] - z_0 + n])
    expected = (-((z.unsqueeze(1) - images) ** 2) / (2 * sigma**2)).logsumexp(-1)
    expected = expected - math.log(sigma * math.sqrt(2 * math.pi))
    (gradient,) = torch.autograd.grad(expected.sum(), z)
    at = z.detach(), *each(z_0, sigma, len(z))
    torch.testing.assert_close(Reflected().log_density(*at), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        sigma * Reflected().score(*at), sigma * gradient, rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("kernel", [Reflected(), Truncated()])
def test_density_is_normalised_over_the_window(kernel, ratio):
    z = torch.linspace(*WINDOW, 20_001, dtype=torch.float64)
    density = kernel.log_density(z, *each(1.6, ratio * WIDTH, len(z))).exp()
    assert integrate.simpson(density.numpy(), x=z.numpy()) == pytest.approx(1, abs=1e-8)


def test_reflected_kernel_is_the_law_of_brownian_motion_between_mirrors():
    # Many small steps, each turned back at a wall; a step of 0.025 Å leaves a bias under 0.01.
    n, sigma, steps = 8_000, 1.0, 1600
    generator = torch.Generator().manual_seed(1)
    z = torch.full((n,), 2.0, dtype=torch.float64)
    for _ in range(steps):
        z = z + sigma / steps**0.5 * torch.randn(n, generator=generator, dtype=torch.float64)
        z = torch.where(z < WINDOW[0], 2 * WINDOW[0] - z, z)
        z = torch.where(z > WINDOW[1], 2 * WINDOW[1] - z, z)
    mean, sigmas, window = each(2.0, sigma, n)
    noise = torch.randn(n, generator=generator, dtype=torch.float64)
    once = Reflected().sample(mean, sigmas, window, noise)
    assert stats.ks_2samp(z.numpy(), once.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("kernel", [Reflected(), Truncated()])
def test_samples_follow_the_density(kernel, ratio):
    n = 20_000
    mean, sigma, window = each(1.9, ratio * WIDTH, n)
    noise = torch.randn(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z = kernel.sample(mean, sigma, window, noise)
    assert z.min() >= WINDOW[0]
    assert z.max() <= WINDOW[1]
    grid = np.linspace(*WINDOW, 5001)
    density = kernel.log_density(torch.from_numpy(grid), *each(1.9, ratio * WIDTH, 5001)).exp()
    cumulative = integrate.cumulative_simpson(density.numpy(), x=grid, initial=0)
    assert stats.kstest(z.numpy(), lambda x: np.interp(x, grid, cumulative)).pvalue > 1e-3


@pytest.mark.parametrize("mean", [1.5, 3.0, 4.6])
@pytest.mark.parametrize("ratio", RATIOS)
def test_truncated_kernel_is_that_of_scipy(mean, ratio):
    sigma = ratio * WIDTH
    bounds = ((wall - mean) / sigma for wall in WINDOW)
    reference = stats.truncnorm(*bounds, loc=mean, scale=sigma)
    z = heights().requires_grad_()
    at = z, *each(mean, sigma, len(z))
    density = Truncated().log_density(*at)
    torch.testing.assert_close(
        density.detach(), torch.from_numpy(reference.logpdf(z.detach().numpy()))
    )
    (gradient,) = torch.autograd.grad(density.sum(), z)
    torch.testing.assert_close(Truncated().score(*at).detach(), gradient)


@pytest.mark.parametrize("outside", [-60.0, -20.0, -3.0, 0.0, 0.4, 5.0, 33.0, 200.0])
def test_truncated_quantiles_are_those_of_scipy_far_out_in_the_tails(outside):
    sigma = 0.7
    mean = (WINDOW[0] if outside < 0 else WINDOW[1]) + outside * sigma
    noise = torch.linspace(-4, 4, 33, dtype=torch.float64)
    z = Truncated().sample(noise * 0 + mean, *each(mean, sigma, 33)[1:], noise)
    bounds = ((wall - mean) / sigma for wall in WINDOW)
    expected = stats.truncnorm.ppf(stats.norm.cdf(noise.numpy()), *bounds, mean, sigma)
    decay = sigma / max(abs(outside), 1)  # the width of the distribution at the wall
    assert (np.diff(z.numpy()) > 0).all()
    np.testing.assert_allclose(z.numpy(), expected, rtol=0, atol=2e-5 * decay)


def test_without_noise_a_step_ends_at_the_nearest_allowed_point():
    mean = torch.tensor([1.0, 1.6, 4.0, 5.0, float("nan"), float("inf")], dtype=torch.float64)
    _, zero, window = each(0.0, 0.0, 6)
    z = Truncated().sample(mean, zero, window, zero)
    torch.testing.assert_close(z[:4], torch.tensor([1.5, 1.6, 4.0, 4.7]).double())
    assert not z[4:].isfinite().any()
    z = Reflected().sample(mean, zero, window, zero)
    torch.testing.assert_close(z[:4], torch.tensor([2.0, 1.6, 4.0, 4.4]).double())
    assert not z[4:].isfinite().any()


@pytest.mark.parametrize("alpha", [1.0, 0.6])
@pytest.mark.parametrize("ratio", [0.01, 0.05, 0.06, 0.3, 0.7, 1.2])
@pytest.mark.parametrize("kernel", [Reflected(), Truncated()])
def test_information_is_the_mean_square_of_the_score(kernel, ratio, alpha):
    if kernel == Reflected():
        alpha = 1.0  # mirrors know of no contraction
    sigma = torch.tensor([ratio * WIDTH], dtype=torch.float64)
    z = torch.linspace(*WINDOW, 1601, dtype=torch.float64)
    middle = sum(WINDOW) / 2
    rows = []
    for z_0 in z[::8].tolist():
        mean, sigmas, window = each(middle + alpha * (z_0 - middle), float(sigma), len(z))
        density = kernel.log_density(z, mean, sigmas, window).exp()
        square = (sigma * kernel.score(z, mean, sigmas, window)) ** 2
        rows.append(torch.trapezoid(density * square, z))
    expected = torch.trapezoid(torch.stack(rows), z[::8]) / WIDTH
    window = torch.tensor([WINDOW], dtype=torch.float64)
    value = kernel.log_information(window)(torch.tensor([alpha]).double(), sigma).exp()
    torch.testing.assert_close(value, expected.unsqueeze(0), rtol=3e-3, atol=0)
