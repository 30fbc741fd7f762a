import math

import numpy as np
import pytest
import torch
from ase.geometry import find_mic

from vpsde import MinimumImage, Wrapped
from vpsde.plane import log_density, wrap

SIGMAS = [0.02, 0.3, 1.0, 2.2, 4.5]


def brute_force(d, cell, sigma):
    """log p(d) from 101 x 101 images, whatever the cell."""
    n = torch.arange(-50.0, 51.0, dtype=torch.float64)
    images = d.unsqueeze(1) + torch.cartesian_prod(n, n) @ cell
    exponents = -(images**2).sum(-1) / (2 * sigma**2)
    return exponents.logsumexp(-1) - math.log(2 * math.pi * sigma**2)


def displacements(cell, n=12, spread=1.0):
    generator = torch.Generator().manual_seed(3)
    share = torch.rand(n, 2, generator=generator, dtype=torch.float64) - 0.5
    return spread * share @ cell


def each(cell, sigma, d):
    return cell.expand(len(d), 2, 2), torch.full((len(d),), sigma, dtype=torch.float64)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_wrapped_score_is_the_gradient_of_the_brute_force_mixture(cell, sigma):
    d = displacements(cell, spread=3.0).requires_grad_()
    expected = brute_force(d, cell, sigma)
    (gradient,) = torch.autograd.grad(expected.sum(), d)
    cells, sigmas = each(cell, sigma, d)
    torch.testing.assert_close(log_density(d, cells, sigmas), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        sigma * Wrapped().score(d.detach(), cells, sigmas), sigma * gradient, rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("sigma", SIGMAS[1:])
def test_density_is_normalised_over_one_cell(cell, sigma):
    n = torch.arange(60, dtype=torch.float64) / 60
    d = torch.cartesian_prod(n, n) @ cell
    mean = log_density(d, *each(cell, sigma, d)).exp().mean()
    torch.testing.assert_close(mean * torch.linalg.det(cell).abs(), torch.ones_like(mean))


def test_minimum_image_is_that_of_ase(cell):
    d = displacements(cell, n=200, spread=5.0)
    cells, sigmas = each(cell, 0.7, d)
    full = np.eye(3) * 20
    full[:2, :2] = cell.numpy()
    padded = np.pad(d.numpy(), ((0, 0), (0, 1)))
    expected = torch.from_numpy(find_mic(padded, full, pbc=[True, True, False])[0][:, :2])
    torch.testing.assert_close(MinimumImage().score(d, cells, sigmas), -expected / 0.7**2)


def test_wrapping_shifts_by_lattice_vectors_into_the_cell(cell):
    d = displacements(cell, n=500, spread=40.0)
    cells = cell.expand(len(d), 2, 2)
    wrapped = wrap(d, cells)
    fractions = wrapped @ torch.linalg.inv(cell)
    assert fractions.min() > -1e-12
    assert fractions.max() < 1 + 1e-12
    shifts = (d - wrapped) @ torch.linalg.inv(cell)
    torch.testing.assert_close(shifts, shifts.round(), rtol=0, atol=1e-10)
    inside = (0.5 + 0.8 * (displacements(torch.eye(2).double(), n=500))) @ cell
    assert torch.equal(wrap(inside, cells), inside)


@pytest.mark.parametrize("sigma", [0.2, 0.9, 1.7])
@pytest.mark.parametrize("kernel", [Wrapped(), MinimumImage()])
def test_tabulated_information_is_the_mean_square_of_the_score(kernel, cell, sigma):
    # A grid over the cell, fine enough for the narrowest kernel; the score comes from images.
    # An odd number of points, so that none lies where two images are equally near.
    n = torch.arange(91, dtype=torch.float64) / 91
    d = torch.cartesian_prod(n, n) @ cell
    parts = [(chunk, *each(cell, sigma, chunk)) for chunk in d.split(9000)]
    score = torch.cat([sigma * kernel.score(*part) for part in parts])
    weight = torch.cat([log_density(*part) for part in parts]).softmax(0)
    expected = torch.einsum("g,gi,gj->ij", weight, score, score)
    log_table = kernel.log_information(cell.unsqueeze(0))(torch.tensor([sigma]).double())[0]
    ratio = (
        torch.linalg.matrix_exp(-log_table / 2) @ expected @ torch.linalg.matrix_exp(-log_table / 2)
    )
    # A grid converges slowly where the nearest image jumps.
    tolerance = 5e-3 if kernel == Wrapped() else 1e-2
    floored = torch.linalg.eigvalsh(expected) < 1e-6
    torch.testing.assert_close(
        torch.linalg.eigvalsh(ratio)[~floored],
        torch.ones(int((~floored).sum()), dtype=torch.float64),
        rtol=0,
        atol=tolerance,
    )


@pytest.mark.parametrize("kernel", [Wrapped(), MinimumImage()])
def test_information_turns_with_the_cell(kernel, cell):
    turn = torch.tensor(  # and mirror
        [[math.cos(0.7), math.sin(0.7)], [math.sin(0.7), -math.cos(0.7)]], dtype=torch.float64
    )
    sigma = torch.tensor([1.1], dtype=torch.float64)
    plain = kernel.log_information(cell[None])(sigma)[0]
    turned = kernel.log_information((cell @ turn)[None])(sigma)[0]
    torch.testing.assert_close(turned, turn.mT @ plain @ turn, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kernel", [Wrapped(), MinimumImage()])
@pytest.mark.parametrize("change", [[[1, 0], [0, -1]], [[0, 1], [1, 0]], [[1, -2], [0, 1]]])
def test_information_is_that_of_the_lattice_whichever_vectors_span_it(kernel, change, cell):
    sigma = torch.tensor([1.1, 6.0], dtype=torch.float64)
    other = torch.tensor(change, dtype=torch.float64) @ cell
    ours, theirs = (kernel.log_information(c.expand(2, 2, 2))(sigma) for c in (cell, other))
    # The average over residuals of the nearest image is a sum over another grid.
    tolerance = 1e-5 if kernel == Wrapped() else 2e-2
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def test_a_wide_kernel_has_no_score_and_the_unit_stops_at_its_floor(cell):
    log_table = Wrapped().log_information(cell[None])(torch.tensor([50.0]).double())[0]
    torch.testing.assert_close(log_table, math.log(1e-6) * torch.eye(2).double())
