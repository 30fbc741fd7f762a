from dataclasses import replace

import pytest
import torch
from scipy import stats

from vpsde import (
    SDE,
    LinearBeta,
    MinimumImage,
    Reflected,
    Truncated,
    Wrapped,
    brownian,
    generators,
    vp,
)

C2X8 = [[5.869, 0.0], [-2.934, 10.165]]
P4X4 = [[11.738, 0.0], [5.869, 10.165]]
SDES = {
    "brownian": brownian(),
    "brownian, truncated": brownian(vertical=Truncated()),
    "brownian, nearest image": brownian(plane=MinimumImage()),
    "vp": vp(),
}
every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())


def at(t, graph):
    return torch.full((graph.n_structures,), t, dtype=torch.float64)


def uniform_pvalue(x):
    return stats.kstest(x.numpy(), "uniform").pvalue


def shares(graph):
    """Mobile atoms as shares of the cell and the window, which the prior makes uniform."""
    owner = graph.batch[graph.mobile]
    cell, window = graph.cell[owner, :2, :2], graph.window[owner]
    x = graph.positions[graph.mobile]
    in_plane = (x[:, None, :2] @ torch.linalg.inv(cell))[:, 0]
    z = (x[:, 2] - window[:, 0]) / (window[:, 1] - window[:, 0])
    return torch.cat([in_plane, z[:, None]], -1)


@every_sde
@pytest.mark.parametrize("window", [(2.0, 6.0), (1.0, 2.5)])
@pytest.mark.parametrize("cell", [C2X8, P4X4], ids=["c2x8", "p4x4"])
def test_target_has_unit_variance_in_every_direction_at_every_time(make_slab, sde, window, cell):
    graph = make_slab([cell] * 16, mobile=3000, frozen=0, window=window)
    t = torch.linspace(0.02, 0.62, 16, dtype=torch.float64)
    noisy = graph.at(sde.perturb(graph, t, torch.Generator().manual_seed(0)))
    to_unit = sde.scale(graph, t, power=-1)[graph.batch]
    score = sde.conditional_score(noisy, graph.positions, t)
    target = (to_unit @ score[:, :, None])[:, :, 0].view(16, 3000, 3)
    products = target[..., :, None] * target[..., None, :]
    error = products.std(1) / 3000**0.5
    # 144 numbers per case: five standard errors; the narrow window's score dies out before t = 1.
    alive = (sde.scale(graph, t) * sde.sigma(t)[:, None, None]).diagonal(dim1=1, dim2=2) > 2e-3
    both = alive[:, :, None] & alive[:, None, :]
    deviation = (products.mean(1) - torch.eye(3)).abs() / error.clamp_min(1e-3)
    assert both.double().mean() > 0.5
    assert deviation[both].max() < 5


@every_sde
def test_scale_and_its_inverse(make_slab, sde):
    graph = make_slab([C2X8, P4X4], window=(2.0, 4.0))
    for t in (1e-4, 0.1, 1.0):
        product = sde.scale(graph, at(t, graph)) @ sde.scale(graph, at(t, graph), power=-1)
        torch.testing.assert_close(product, torch.eye(3).double().expand(2, 3, 3))
    # A narrow kernel is a Gaussian: S = 1/sigma, up to the walls' share of it.
    unit = sde.scale(graph, at(1e-4, graph)) * sde.sigma(at(1e-4, graph))[:, None, None]
    torch.testing.assert_close(unit, torch.eye(3).double().expand(2, 3, 3), atol=1e-2, rtol=0)


def test_prior_is_uniform_in_the_cell_and_the_window(make_slab):
    graph = make_slab([C2X8, P4X4], mobile=20_000, window=(2.0, 6.0))
    prior = graph.at(brownian().prior(graph, torch.Generator().manual_seed(0)))
    for structure in shares(prior).view(2, 20_000, 3):
        assert min(uniform_pvalue(x) for x in structure.T) > 1e-3
        counts, _ = torch.histogramdd(structure, bins=[4, 4, 4], range=[0.0, 1.0] * 3)
        assert stats.chisquare(counts.flatten().numpy()).pvalue > 1e-3
    assert torch.equal(prior.positions[~graph.mobile], graph.positions[~graph.mobile])


def test_the_limit_of_brownian_motion_is_the_prior_and_that_of_vp_is_not(make_slab):
    graph = make_slab([P4X4], mobile=20_000, window=(2.0, 6.0))
    positions = graph.positions.clone()
    positions[graph.mobile] = torch.tensor([3.0, 1.0, 2.5], dtype=torch.float64)  # one structure
    start = graph.at(positions)
    generator = torch.Generator().manual_seed(0)
    noise = graph.at(brownian().perturb(start, at(1.0, graph), generator))
    # Its slowest wave keeps 2 exp(-sigma² G²/2) = 4 % of amplitude at sigma = 4.5 Å.
    counts, _ = torch.histogramdd(shares(noise), bins=[4, 4, 4], range=[0.0, 1.0] * 3)
    assert (counts / counts.mean() - 1).abs().max() < 0.25
    noise = graph.at(vp().perturb(start, at(1.0, graph), generator))
    counts, _ = torch.histogramdd(shares(noise), bins=[4, 4, 4], range=[0.0, 1.0] * 3)
    assert (counts / counts.mean()).max() > 4


@every_sde
def test_perturbation_has_the_moments_of_the_kernel(make_slab, sde):
    graph = make_slab([C2X8], mobile=40_000, window=(0.0, 8.0))
    positions = graph.positions.clone()
    positions[graph.mobile] = torch.tensor([2.0, 4.0, 3.0], dtype=torch.float64)
    t = at(0.1, graph)
    noisy = sde.perturb(graph.at(positions), t, torch.Generator().manual_seed(0))
    x, sigma, alpha = noisy[graph.mobile], sde.sigma(t), sde.alpha(t)
    assert 0.1 < sigma < 0.5  # far from the borders of the cell and from the walls
    mean = torch.tensor([2 * alpha, 4 * alpha, 4 + alpha * (3 - 4)])
    assert ((x.mean(0) - mean).abs() < 4.5 * sigma / 200).all()
    assert ((torch.cov(x.T) / sigma**2 - torch.eye(3)).abs() < 4.5 * 2**0.5 / 200).all()


@every_sde
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_perturbed_atoms_stay_inside_and_frozen_ones_where_they_are(make_slab, sde, dtype):
    graph = make_slab([C2X8, P4X4], mobile=500, dtype=dtype)
    for t in (0.01, 1.0):
        noisy = graph.at(sde.perturb(graph, at(t, graph), torch.Generator().manual_seed(0)))
        inside = shares(noisy)
        assert noisy.positions.dtype == dtype
        assert inside.min() > -1e-6
        assert inside.max() < 1 + 1e-6
        z = noisy.positions[graph.mobile, 2]
        assert z.min() >= 2
        assert z.max() <= 6
        assert torch.equal(noisy.positions[~graph.mobile], graph.positions[~graph.mobile])
        score = sde.conditional_score(noisy, graph.positions, at(t, graph))
        assert (score[~graph.mobile] == 0).all()
        assert (score[graph.mobile] != 0).all()


@pytest.mark.parametrize("sde", [brownian(), brownian(vertical=Truncated()), vp(plane=Wrapped())])
def test_score_is_the_gradient_of_the_density_of_a_whole_structure(make_slab, sde):
    graph = make_slab([C2X8, P4X4], mobile=5)
    noisy = sde.perturb(graph, at(0.3, graph), torch.Generator().manual_seed(0)).requires_grad_()
    density = sde.log_density(graph.at(noisy), graph.positions, at(0.3, graph))
    (gradient,) = torch.autograd.grad(density.sum(), noisy)
    score = sde.conditional_score(graph.at(noisy.detach()), graph.positions, at(0.3, graph))
    torch.testing.assert_close(score, gradient, rtol=1e-8, atol=1e-10)


def test_brownian_motion_is_invariant_to_the_cell_origin_and_vp_is_not(make_slab):
    graph = make_slab([C2X8], mobile=50)
    shift = torch.tensor([1.7, 3.1, 0.0], dtype=torch.float64)
    moved = replace(graph, positions=graph.positions + shift)
    for sde, is_invariant in ((brownian(), True), (vp(), False)):
        noisy = sde.perturb(graph, at(0.3, graph), torch.Generator().manual_seed(0))
        score = sde.conditional_score(graph.at(noisy), graph.positions, at(0.3, graph))
        other = sde.conditional_score(moved.at(noisy + shift), moved.positions, at(0.3, graph))
        difference = (sde.sigma(at(0.3, graph)) * (score - other)).abs().max()
        assert (difference < 1e-10) == is_invariant


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {"mobile": torch.zeros_like(g.mobile)}, "no atom is mobile"),
        (lambda g: {"pbc": torch.zeros_like(g.pbc)}, "periodic"),
        (lambda g: {"cell": g.cell + torch.eye(3).roll(2, 1)}, "no z part"),
        (lambda g: {"cell": 0 * g.cell}, "span the xy plane"),
        (lambda g: {"window": g.window.flip(1)}, "z_lo < z_hi"),
        (lambda g: {"window": g.window * float("nan")}, "z_lo < z_hi"),
        (lambda g: {"window": g.window + 3}, "atom 3 of structure 0 lies at z = .* outside"),
        (lambda g: {"positions": g.positions * float("nan")}, "outside its window"),
    ],
)
def test_a_graph_that_cannot_be_diffused_is_refused(make_slab, change, message):
    graph = make_slab([C2X8])
    broken = replace(graph, **change(graph))
    with pytest.raises(ValueError, match=message):
        brownian().perturb(broken, at(0.1, graph), torch.Generator())


def test_the_named_processes_have_the_parts_that_they_are_given():
    parts = MinimumImage(), Truncated()
    assert brownian(1.0, 2.0, *parts) == SDE(LinearBeta(1.0, 2.0), False, *parts)
    assert brownian() == SDE(LinearBeta(0.01, 40.0), False, Wrapped(), Reflected())
    assert vp(1.0, 2.0, Wrapped()) == SDE(LinearBeta(1.0, 2.0), True, Wrapped(), Truncated())
    assert vp() == SDE(LinearBeta(0.01, 3.0), True, *parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_difference_is_by_the_nearest_image_and_of_mobile_atoms(make_slab, dtype):
    graph = make_slab([C2X8, P4X4], dtype=dtype)
    near = 0.3 * torch.sin(torch.arange(3 * len(graph.batch))).reshape(-1, 3).to(dtype)
    images = torch.tensor([1.0, -2.0, 0.0], dtype=dtype) @ graph.cell
    d = brownian().difference(graph, graph.positions + near + images[graph.batch], graph.positions)
    assert d.dtype == dtype
    torch.testing.assert_close(d, near * graph.mobile[:, None], rtol=0, atol=1e-5)


def test_the_prior_ignores_where_the_atoms_were(make_slab):
    graph = make_slab([C2X8])
    stray = replace(graph, positions=graph.positions + 100 * graph.mobile[:, None])
    first, second = (brownian().prior(g, generators(0, [0]))[graph.mobile] for g in (graph, stray))
    assert torch.equal(first, second)


def test_one_generator_per_structure(make_slab):
    graph = make_slab([C2X8, P4X4])
    with pytest.raises(ValueError, match="2 structures need one generator or 2, got 3"):
        brownian().prior(graph, generators(0, range(3)))
    seeds = {g.initial_seed() for seed in (0, 1) for g in generators(seed, range(2000))}
    assert len(seeds) == 4000
    first = torch.stack([torch.randn(4, generator=g) for g in generators(5, range(4000))])
    assert (torch.corrcoef(first.T) - torch.eye(4)).abs().max() < 4.5 / 4000**0.5
    assert (torch.corrcoef(torch.stack([first[1:, 0], first[:-1, 0]]))[0, 1]).abs() < 0.07


@pytest.mark.parametrize("sde", [brownian(), vp(), brownian(beta_min=0.0, beta_max=1.0)])
def test_the_time_of_a_noise_level_is_where_it_is_reached(sde):
    for t in (1e-3, 0.2, 0.7, 1.0):
        sigma = float(sde.sigma(torch.tensor(t, dtype=torch.float64)))
        assert sde.time_of(sigma) == pytest.approx(t, abs=1e-9)
    assert sde.time_of(0.0) == 0.0
    with pytest.raises(ValueError, match="sigma=50 Å is not between"):
        sde.time_of(50.0)
