import numpy as np
import pytest
import torch
from ase.geometry import find_mic
from scipy import stats

from vpsde import (
    SDE,
    ExactScore,
    LinearBeta,
    MinimumImage,
    Truncated,
    brownian,
    corrector_step,
    denoise,
    generators,
    noise_level,
    reverse_step,
    sample,
    times,
    vp,
)
from vpsde.linalg import rows_times

C2X8 = [[5.869, 0.0], [-2.934, 10.165]]
P4X4 = [[11.738, 0.0], [5.869, 10.165]]
BROWNIAN = {
    "reflected": brownian(),
    "truncated": brownian(vertical=Truncated()),
    "nearest image": brownian(plane=MinimumImage()),
}
ONE = torch.ones(1, dtype=torch.float64)


def last(states):
    *_, state = states
    return state


def distances(graph, structure):
    """Of each mobile atom from its place in the structure, nearest images by ASE: [b m]."""
    x = graph.positions[graph.mobile].view(graph.n_structures, -1, 3)
    d = (x - structure).reshape(-1, 3).numpy()
    _, lengths = find_mic(d, graph.cell[0].numpy(), pbc=[True, True, False])
    return torch.from_numpy(lengths).view(graph.n_structures, -1)


def smooth_score(graph, t):
    """Stands for a network: a function of each structure alone."""
    return torch.sin(graph.positions * 1.3 + 1 / (0.1 + t[graph.batch, None]))


def test_times_fall_from_one_to_zero():
    assert times(1) == [1.0, 0.0]
    assert times(4, power=1.0) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert times(4) == [1.0, 0.75**1.5, 0.5**1.5, 0.125, 0.0]


@pytest.mark.parametrize("noise", ["ancestral", "euler"])
@pytest.mark.parametrize("steps", [50, 200])
@pytest.mark.parametrize("sde", BROWNIAN.values(), ids=BROWNIAN.keys())
def test_one_structure_is_found_again(make_slab, sde, steps, noise):
    # The exact minimiser of the loss, in the sampler: any error is the parametrisation's.
    structure = torch.tensor([[0.3, 0.2, 2.03], [2.9, 5.0, 4.0], [-1.0, 8.0, 5.9]]).double()
    graph = make_slab([C2X8] * 20, mobile=3)
    exact = ExactScore(sde, structure[None], ONE)
    end = last(sample(exact, graph, sde, times(steps), generators(1, range(20)), noise=noise))
    assert end.t == 0
    assert end.finite.all()
    away = distances(end.graph, structure)
    # Nothing is left but rounding, where no wall is near.
    assert away[:, 1:].max() < 1e-6
    # The first atom lies 0.03 Å from a mirror: it needs a last time with a smaller sigma.
    if steps == 200:
        assert away.max() < 0.02


def test_noise_in_the_last_step_would_stay_in_the_structure(make_slab):
    structure = torch.tensor([[2.9, 5.0, 4.0]]).double()
    graph, sde, grid = make_slab([C2X8] * 300, mobile=1), brownian(), times(20, power=1.0)
    exact = ExactScore(sde, structure[None], ONE)
    generator = torch.Generator().manual_seed(0)
    end = last(sample(exact, graph, sde, grid, generator, noise="euler", noisy_end=True))
    away = distances(end.graph, structure)[:, 0]
    width = noise_level(sde, grid[-2], 0.0, "euler")
    assert stats.kstest(away.numpy() / width, "chi", args=(3,)).pvalue > 1e-3


@pytest.mark.parametrize("steps", [40])
def test_a_mixture_is_sampled_with_its_frequencies(make_slab, steps):
    # The first two structures are near each other, so that late steps decide between them.
    structures = torch.tensor(
        [
            [[1.0, 1.0, 3.0], [2.5, 5.0, 3.5]],
            [[1.3, 1.2, 3.1], [2.8, 5.2, 3.6]],
            [[4.0, 3.0, 5.2], [0.0, 8.0, 2.6]],
        ],
        dtype=torch.float64,
    )
    shares, n = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), 1500
    graph, sde = make_slab([C2X8] * n, mobile=2, frozen=0), brownian()
    exact = ExactScore(sde, structures, shares)
    end = last(sample(exact, graph, sde, times(steps), torch.Generator().manual_seed(0)))
    away = torch.stack([distances(end.graph, s).amax(-1) for s in structures])
    assert away.amin(0).max() < 0.02
    counts = torch.bincount(away.argmin(0), minlength=3)
    assert stats.chisquare(counts.numpy(), n * shares.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("share", [0.2, 1.0])
@pytest.mark.parametrize("sde", [brownian(), vp()], ids=["brownian", "vp"])
def test_a_corrector_leaves_the_noise_of_one_structure_as_it_is(make_slab, sde, share):
    structure, n = torch.tensor([[7.0, 5.0, 4.0]], dtype=torch.float64), 2000
    graph, generator = make_slab([P4X4] * n, mobile=1, frozen=0), torch.Generator().manual_seed(0)
    t = torch.full((n,), sde.schedule.time_of(0.3), dtype=torch.float64)
    exact, scales = ExactScore(sde, structure[None], ONE), sde.scales(graph)
    start = graph.at(structure.repeat(n, 1))
    here = start.at(sde.perturb(start, t, generator))
    centre = here.positions.median(0).values
    for _ in range(3):
        score = rows_times(exact(here, t), scales(t)[here.batch])
        noise = torch.randn(n, 3, dtype=torch.float64, generator=generator)
        here = here.at(corrector_step(here, score, sde, float(t[0]), share, noise))
    away = (here.positions - centre) / float(sde.sigma(t)[0])
    for axis in range(3):
        assert stats.kstest(away[:, axis].numpy(), "norm").pvalue > 1e-3


def test_a_corrector_mends_frequencies_that_coarse_steps_of_eq_2_miss(make_slab):
    structures = torch.tensor(
        [[[1.0, 1.0, 3.0]], [[1.6, 1.4, 3.2]], [[4.0, 3.0, 5.2]]], dtype=torch.float64
    )
    shares, n = torch.tensor([0.6, 0.2, 0.2], dtype=torch.float64), 3000
    graph, sde = make_slab([C2X8] * n, mobile=1, frozen=0), brownian()
    exact, grid, found = ExactScore(sde, structures, shares), times(12, power=1.0), {}
    for corrector in (0.0, 0.5):
        generator = torch.Generator().manual_seed(0)
        end = last(sample(exact, graph, sde, grid, generator, noise="euler", corrector=corrector))
        away = torch.stack([distances(end.graph, s).amax(-1) for s in structures])
        found[corrector] = torch.bincount(away.argmin(0), minlength=3) / n
    missed = {corrector: float((f - shares).abs().max()) for corrector, f in found.items()}
    assert missed[0.0] > 0.08  # the first structure's share, after 12 steps of a predictor alone
    assert missed[0.5] < 0.04


def test_vp_finds_one_structure_but_not_the_frequencies_of_two(make_slab):
    # What the paper's Eq. 1 does with a perfect network. Its drift and its score cancel, and the
    # last step lands. But at t = 1 alpha is 0.47 and sigma 0.88 Å, far from the uniform prior, so
    # that the shares of two structures are those of their basins in the cell.
    sde, n = vp(), 300
    graph = make_slab([P4X4] * n, mobile=1, frozen=0)
    structures = torch.tensor([[[2.0, 2.0, 4.0]], [[12.0, 8.0, 4.0]]], dtype=torch.float64)
    shares = torch.tensor([0.95, 0.05], dtype=torch.float64)
    grid = times(100, power=1.0)
    for k, weights in ((slice(0, 1), ONE), (slice(0, 2), shares)):
        exact = ExactScore(sde, structures[k], weights)
        end = last(sample(exact, graph, sde, grid, torch.Generator().manual_seed(0)))
        away = torch.stack([distances(end.graph, s).amax(-1) for s in structures[k]])
        assert (away.amin(0) < 0.02).double().mean() > 0.98
    second = int((away.argmin(0) == 1).sum())
    assert stats.binomtest(second, n, 0.05).pvalue < 1e-6


def test_denoising_from_a_noise_level_returns_to_the_nearest_structure(make_slab):
    # From 0.2 Å the posterior is all but certain which of two structures 2 Å apart it was.
    sde, n = brownian(), 200
    structures = torch.tensor([[[1.0, 1.0, 3.0]], [[3.0, 1.0, 3.0]]], dtype=torch.float64)
    exact = ExactScore(sde, structures, torch.tensor([0.5, 0.5], dtype=torch.float64))
    graph = make_slab([C2X8] * n, mobile=1, frozen=0)
    start = graph.at(structures[torch.arange(n) % 2].reshape(-1, 3))
    t, own = sde.time_of(0.2), generators(0, range(n))
    noised = start.at(sde.perturb(start, torch.full((n,), t, dtype=torch.float64), own))
    grid = [t * k for k in times(30)]
    states = list(denoise(exact, noised, sde, grid, own))
    assert torch.equal(states[0].positions, noised.positions)
    assert (states[-1].t, len(states)) == (0, 31)
    away = distances(states[-1].graph, structures[0])[:, 0]
    assert (away[0::2] < 0.02).all()
    assert (away[1::2] > 1.98).all()


def gaussian_recursion(steps, noise, s_0, start):
    """Variance at t = 0 by hand, for data of width s_0: each step is linear in the position."""
    sde = brownian()
    grid = [start * t for t in times(steps, power=1.0)]
    integral = sde.schedule.integral
    variance = s_0**2 + integral(start)
    for t, t_next in zip(grid, grid[1:], strict=False):
        shrink = 1 - (integral(t) - integral(t_next)) / (s_0**2 + integral(t))
        variance = shrink**2 * variance + noise_level(sde, t, t_next, noise) ** 2
    return variance


@pytest.mark.parametrize("noise", ["ancestral", "euler"])
def test_reverse_steps_bring_back_a_gaussian_and_converge_in_first_order(make_slab, noise):
    s_0, start, n = 0.5, 0.2, 60_000
    graph = make_slab([[[80.0, 0.0], [0.0, 80.0]]], mobile=n, frozen=0, window=(0.0, 80.0))
    generator = torch.Generator().manual_seed(0)
    errors = []
    for steps in (8, 16, 32):
        sde, state = brownian(), graph
        grid = [start * t for t in times(steps, power=1.0)]
        width = (s_0**2 + sde.schedule.integral(start)) ** 0.5
        first = 40 + width * torch.randn(n, 3, generator=generator, dtype=torch.float64)
        state = state.at(first)
        for t, t_next in zip(grid, grid[1:], strict=False):
            score = -(state.positions - 40) / (s_0**2 + sde.schedule.integral(t))
            dw = torch.randn(n, 3, generator=generator, dtype=torch.float64)
            std = noise_level(sde, t, t_next, noise)
            state = state.at(reverse_step(state, score, sde, t, t_next, dw, std=std))
        variance = ((state.positions - 40) ** 2).mean()
        expected = gaussian_recursion(steps, noise, s_0, start)
        assert abs(variance / expected - 1) < 4.5 * (2 / (3 * n)) ** 0.5
        errors.append(expected / s_0**2 - 1)
    assert 1.6 < errors[0] / errors[1] < 2.6
    assert 1.6 < errors[1] / errors[2] < 2.6
    assert abs(gaussian_recursion(4000, noise, s_0, start) / s_0**2 - 1) < 2e-3


def gaussian_flow(steps, start=0.3, s_0=0.5):
    """The exact score of a Gaussian of width s_0 around 40 Å, and a grid from t = start."""
    sde = brownian()

    def model(graph, t):
        squared = s_0**2 + sde.sigma(t) ** 2
        score = -(graph.positions - 40) / squared[graph.batch, None]
        return score @ torch.linalg.inv(sde.scale(graph, t))[0].T

    return sde, model, [start * t for t in times(steps, power=1.0)]


def test_heun_follows_the_probability_flow_in_second_order(make_slab):
    # It contracts a Gaussian by the ratio of its widths, exactly.
    graph = make_slab([[[80.0, 0.0], [0.0, 80.0]]], mobile=50, frozen=0, window=(0.0, 80.0))
    generator = torch.Generator().manual_seed(0)
    offset = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    errors = []
    for steps in (16, 32, 64):
        sde, model, grid = gaussian_flow(steps)
        exact = (0.5**2 / (0.5**2 + float(sde.sigma(torch.tensor(0.3))) ** 2)) ** 0.5
        end = last(denoise(model, graph.at(40 + offset), sde, grid, generator, solver="heun"))
        share = ((end.positions - 40) / offset).mean()
        assert ((end.positions - 40) / offset).std() < 1e-8
        errors.append(abs(float(share) / exact - 1))
    assert errors[-1] < 1e-3
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert 3.0 < coarse / fine < 5.0


def multistep_recursion(steps, s_0=0.5, start=0.3):
    """Variance at t = 0 by hand: each step is linear in (x, D of the step before)."""
    sde, grid = brownian(), [start * t for t in times(steps, power=1.0)]
    squares = [sde.schedule.integral(t) for t in grid]
    covariance = np.zeros((2, 2))
    covariance[0, 0] = s_0**2 + squares[0]
    for k in range(steps):
        now, after = squares[k], squares[k + 1]
        share, r = s_0**2 / (s_0**2 + now), after / now
        weight = 0.0
        if k > 0 and after > 0:
            weight = np.log(now / after) / (2 * np.log(squares[k - 1] / now))
        kept = r + (1 - r) * share * (1 + weight)
        step = np.array([[kept, -(1 - r) * weight], [share, 0.0]])
        covariance = step @ covariance @ step.T
        covariance[0, 0] += after * (1 - r)
    return covariance[0, 0]


def test_multistep_brings_back_a_gaussian_in_second_order(make_slab):
    errors = [multistep_recursion(steps) / 0.25 - 1 for steps in (64, 128, 256, 512)]
    first = gaussian_recursion(128, "ancestral", 0.5, 0.3) / 0.25 - 1
    assert abs(errors[1]) < abs(first) / 5
    assert [errors[k] / errors[k + 1] > 2.9 for k in range(3)] == [True] * 3
    n, steps = 40_000, 8
    graph = make_slab([[[80.0, 0.0], [0.0, 80.0]]], mobile=n, frozen=0, window=(0.0, 80.0))
    generator = torch.Generator().manual_seed(0)
    sde, model, grid = gaussian_flow(steps)
    width = (0.5**2 + sde.schedule.integral(0.3)) ** 0.5
    start = 40 + width * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    end = last(denoise(model, graph.at(start), sde, grid, generator, solver="multistep"))
    variance = float(((end.positions - 40) ** 2).mean())
    assert variance / multistep_recursion(steps) == pytest.approx(1, abs=4.5 * (2 / (3 * n)) ** 0.5)


@pytest.mark.parametrize("solver", ["multistep", "heun"])
def test_second_order_solvers_sample_a_mixture_with_its_frequencies(make_slab, solver):
    structures = torch.tensor(
        [[[1.0, 1.0, 3.0], [2.5, 5.0, 3.5]], [[4.0, 3.0, 5.2], [0.0, 8.0, 2.6]]],
        dtype=torch.float64,
    )
    shares, n = torch.tensor([0.7, 0.3], dtype=torch.float64), 800
    graph, sde = make_slab([C2X8] * n, mobile=2, frozen=0), brownian()
    exact = ExactScore(sde, structures, shares)
    generator = torch.Generator().manual_seed(0)
    end = last(sample(exact, graph, sde, times(30), generator, solver=solver))
    away = torch.stack([distances(end.graph, s).amax(-1) for s in structures])
    assert (away.amin(0) < 0.05).double().mean() > 0.98
    first = int((away.argmin(0) == 0).sum())
    assert stats.binomtest(first, n, 0.7).pvalue > 1e-3


@pytest.mark.parametrize(
    ("sde", "options", "reason"),
    [
        (vp(), {"solver": "heun"}, "Brownian motion"),
        (brownian(), {"solver": "multistep", "noise": "euler"}, "no noise of Eq. 2"),
        (brownian(), {"solver": "heun", "compile": True}, "cannot be compiled"),
    ],
)
def test_a_solver_that_does_not_go_with_the_rest_is_refused(make_slab, sde, options, reason):
    graph = make_slab([C2X8])
    with pytest.raises(ValueError, match=reason):
        next(sample(smooth_score, graph, sde, times(3), generators(0, [0]), **options))


def test_vp_step_is_eq_2(make_slab):
    graph, sde = make_slab([C2X8], mobile=3, frozen=0, window=(0.0, 8.0)), vp()
    x = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [0.5, 6.0, 4.5]], dtype=torch.float64)
    score = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64).expand(3, 3)
    graph, zero, dt = graph.at(x), torch.zeros(3, 3, dtype=torch.float64), 1e-3
    new = reverse_step(graph, score, sde, 0.4, 0.4 - dt, zero, std=0.0)
    beta = sde.schedule.beta(0.4 - dt / 2)
    r = x - torch.tensor([0.0, 0.0, 4.0])
    torch.testing.assert_close(new - x, beta * (r / 2 + score) * dt, rtol=1e-9, atol=1e-12)


def test_a_harmonic_guide_pulls_as_computed_by_hand(make_slab):
    # Without score and noise, Eq. 3 is x' = x - tau(t) k (x - c) dt: a product of factors.
    sde = SDE(LinearBeta(0.0, 1e-20), drift=False)
    graph = make_slab([P4X4] * 3, mobile=4, window=(0.0, 8.0))
    centre, k, eta = torch.tensor([6.0, 5.0, 4.0], dtype=torch.float64), 0.7, 1.5
    seen = []

    def guide(graph, t):
        seen.append(t)
        force = -k * (graph.positions - centre) * graph.mobile[:, None]
        return eta * (1 - t) * force

    def model(graph, t):
        return torch.zeros_like(graph.positions)

    states = list(sample(model, graph, sde, times(20, 1.0), generators(0, range(3)), guide))
    start, end = (s.graph.positions[graph.mobile] for s in (states[0], states[-1]))
    factor = np.prod([1 - eta * (1 - t) * k * 0.05 for t in seen])
    assert seen == times(20, 1.0)[:-1]
    torch.testing.assert_close(end, centre + factor * (start - centre), rtol=0, atol=1e-8)


def test_the_last_step_adds_one_step_of_the_guide_to_the_structure(make_slab):
    structure = torch.tensor([[1.0, 2.0, 3.5], [2.9, 5.0, 4.0]]).double()
    graph, sde = make_slab([C2X8] * 5, mobile=2), brownian()
    push = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)

    def guide(graph, t):
        return push * graph.mobile[:, None]

    exact = ExactScore(sde, structure[None], ONE)
    grid = times(50)
    end = last(sample(exact, graph, sde, grid, generators(0, range(5)), guide))
    assert distances(end.graph, structure + push * grid[-2]).max() < 1e-6


@pytest.mark.parametrize("sde", [brownian(), brownian(vertical=Truncated()), vp()])
def test_structure_k_of_a_seed_is_the_same_in_any_batch(make_slab, sde):
    cells = [C2X8, P4X4, C2X8, P4X4, C2X8]
    together = make_slab(cells, mobile=5)
    states = list(sample(smooth_score, together, sde, times(30), generators(7, range(5))))
    for k in range(5):
        alone = make_slab(cells[k : k + 1], mobile=5)
        own = together.batch == k
        alone = alone.at(together.positions[own])
        single = sample(smooth_score, alone, sde, times(30), generators(7, [k]))
        for state, reference in zip(single, states, strict=True):
            assert torch.equal(state.graph.positions, reference.graph.positions[own])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sde", [brownian(), brownian(vertical=Truncated()), vp()])
def test_frozen_atoms_stay_and_mobile_ones_keep_to_cell_and_window(make_slab, sde, dtype):
    graph = make_slab([C2X8, P4X4], mobile=8, dtype=dtype)
    weights = torch.nn.Parameter(torch.tensor(3.0, dtype=dtype))

    def model(graph, t):
        return weights * smooth_score(graph, t)  # frozen atoms get a score too: it must not matter

    inverse = torch.linalg.inv(graph.cell[graph.batch, :2, :2])

    def guide(graph, t):
        return weights * 0.1 * graph.mobile[:, None].expand(-1, 3)

    for state in sample(model, graph, sde, times(25), generators(0, range(2)), guide):
        x = state.graph.positions
        assert x.dtype == dtype
        assert not x.requires_grad
        assert torch.equal(x[~graph.mobile], graph.positions[~graph.mobile])
        assert x[graph.mobile, 2].min() >= 2
        assert x[graph.mobile, 2].max() <= 6
        share = (x[:, None, :2] @ inverse)[graph.mobile]
        assert share.min() > -1e-5
        assert share.max() < 1 + 1e-5


@pytest.mark.parametrize("sde", [brownian(), brownian(vertical=Truncated()), vp()])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_structure_that_becomes_nan_is_frozen_while_the_others_continue(make_slab, sde, bad):
    graph = make_slab([C2X8, P4X4, C2X8])

    def model(graph, t):
        breaks = (graph.batch == 1) & graph.mobile & (t[graph.batch] < 0.5)
        return torch.where(breaks[:, None], bad, smooth_score(graph, t))

    grid = times(20, power=1.0)
    broken = list(sample(model, graph, sde, grid, generators(0, range(3))))
    intact = list(sample(smooth_score, graph, sde, grid, generators(0, range(3))))
    others = graph.batch != 1
    for state, reference in zip(broken, intact, strict=True):
        assert torch.equal(state.graph.positions[others], reference.graph.positions[others])
        assert state.graph.positions.isfinite().all()
        assert state.finite.tolist() == [True, state.t > 0.44, True]
    frozen = [s.graph.positions[~others] for s in broken if not s.finite[1]]
    (before,) = [s.graph.positions[~others] for s in broken if abs(s.t - 0.45) < 1e-9]
    assert all(torch.equal(x, before) for x in frozen)


def test_time_grids():
    torch.testing.assert_close(
        torch.tensor(times(4, power=1.0)), torch.tensor([1, 0.75, 0.5, 0.25, 0])
    )
    refined = times(100, power=2.0)
    assert len(refined) == 101
    assert refined[0] == 1
    assert refined[-1] == 0
    assert refined[-2] == pytest.approx(1e-4)
    with pytest.raises(ValueError, match="steps >= 1"):
        times(0)


def test_ancestral_noise_is_that_of_the_bridge():
    # Brownian motion known at 0 and t has at s the variance σ_s² (σ_t² - σ_s²) / σ_t².
    sde = brownian()
    integral = sde.schedule.integral
    expected = integral(0.3) * (integral(0.5) - integral(0.3)) / integral(0.5)
    assert noise_level(sde, 0.5, 0.3, "ancestral") ** 2 == pytest.approx(expected, rel=1e-12)
    assert noise_level(sde, 0.5, 0.3, "euler") ** 2 == pytest.approx(integral(0.5) - integral(0.3))
    assert noise_level(sde, 0.5, 0.0, "ancestral") == 0
