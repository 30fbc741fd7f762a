from dataclasses import replace

import pytest
import torch

from vpsde import (
    ExactScore,
    MinimumImage,
    Truncated,
    brownian,
    denoising_errors,
    draw_times,
    generators,
    score_matching_loss,
    vp,
)

C2X8 = [[5.869, 0.0], [-2.934, 10.165]]
SDES = {
    "brownian": brownian(),
    "brownian, truncated": brownian(vertical=Truncated()),
    "brownian, nearest image": brownian(plane=MinimumImage()),
    "vp": vp(),
}
every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
WEIGHTS = torch.tensor([0.6, 0.4], dtype=torch.float64)


def zero(graph, t):
    return torch.zeros_like(graph.positions)


def data_set(make_slab, n, frozen=2):
    """n slabs of two atoms, drawn from two structures; and these structures."""
    structures = make_slab([C2X8] * 2, mobile=2, frozen=0, seed=5).positions.view(2, 2, 3)
    graph = make_slab([C2X8] * n, mobile=2, frozen=frozen)
    which = torch.multinomial(
        WEIGHTS, n, replacement=True, generator=torch.Generator().manual_seed(1)
    )
    positions = graph.positions.clone()
    positions[graph.mobile] = structures[which].view(-1, 3)
    return graph.at(positions), structures


@every_sde
def test_exact_score_is_where_the_loss_is_stationary(make_slab, sde):
    graph, structures = data_set(make_slab, 4_000)
    exact = ExactScore(sde, structures, WEIGHTS)
    t = draw_times(graph.n_structures, torch.Generator().manual_seed(2))
    noisy = graph.at(sde.perturb(graph, t, torch.Generator().manual_seed(3)))
    to_unit = sde.scale(graph, t, power=-1)[graph.batch]
    score = sde.conditional_score(noisy, graph.positions, t)
    target = (to_unit @ score[..., None])[..., 0]
    output = exact(noisy, t)

    def slope(output, direction):
        """d loss / d epsilon along the direction, in standard errors."""
        slopes = (2 * (output - target) * direction)[graph.mobile].view(-1, 6).sum(-1)
        return float(slopes.mean() / slopes.std() * len(slopes) ** 0.5)

    x = noisy.positions
    time = t[graph.batch, None]
    directions = [output, torch.sin(x), torch.cos(2 * x) * time, x[:, [2, 0, 1]] * (time < 0.1)]
    assert max(abs(slope(output, direction)) for direction in directions) < 4
    # The check can fail: an output that is 10 % off is noticed.
    assert abs(slope(0.9 * output, output)) > 8


@every_sde
def test_loss_is_the_mean_square_over_mobile_atoms_and_one_for_zero_output(make_slab, sde):
    graph = make_slab([C2X8] * 500, mobile=20)
    t = draw_times(500, torch.Generator().manual_seed(0)) * 0.6
    errors = denoising_errors(zero, graph, sde, t, torch.Generator().manual_seed(1))
    loss = score_matching_loss(zero, graph, sde, t, torch.Generator().manual_seed(1))
    assert errors.shape == (10_000,)
    torch.testing.assert_close(loss, errors.mean())
    assert abs(loss - 1) < 4.5 * errors.std() / 100
    weighted = score_matching_loss(
        zero, graph, sde, t, torch.Generator().manual_seed(1), weight=lambda t: t**2
    )
    owner = graph.batch[graph.mobile]
    torch.testing.assert_close(weighted, (errors * t[owner] ** 2).mean())


@every_sde
def test_frozen_layers_do_not_change_the_loss(make_slab, sde):
    losses = []
    for frozen in (0, 2, 9):
        graph, structures = data_set(make_slab, 20, frozen)
        exact = ExactScore(sde, structures, WEIGHTS)
        t = torch.linspace(0.05, 0.9, 20, dtype=torch.float64)
        losses.append(score_matching_loss(exact, graph, sde, t, generators(0, range(20))))
    torch.testing.assert_close(torch.stack(losses), losses[0].expand(3), rtol=1e-12, atol=0)


@every_sde
def test_loss_does_not_depend_on_the_images_in_the_data(make_slab, sde):
    graph, structures = data_set(make_slab, 20)
    exact = ExactScore(sde, structures, WEIGHTS)
    t = torch.linspace(0.05, 0.9, 20, dtype=torch.float64)
    cells = torch.randint(-3, 4, (len(graph.batch), 3), generator=torch.Generator().manual_seed(4))
    cells[:, 2] = 0
    shift = (cells.double()[:, None] @ graph.cell[graph.batch])[:, 0] * graph.mobile[:, None]
    other = replace(graph, positions=graph.positions + shift)
    losses = [
        score_matching_loss(exact, g, sde, t, generators(0, range(20))) for g in (graph, other)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=0)


def test_gradients_reach_the_model(make_slab):
    graph = make_slab([C2X8] * 4)
    size = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)

    def model(graph, t):
        return size * (graph.positions - 4) * graph.mobile[:, None]

    t = torch.full((4,), 0.2, dtype=torch.float64)
    loss = score_matching_loss(model, graph, brownian(), t, torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad(loss, size)
    step = 1e-5
    losses = []
    for value in (step, -step):
        with torch.no_grad():
            size.fill_(value)
        losses.append(
            score_matching_loss(model, graph, brownian(), t, torch.Generator().manual_seed(0))
        )
    torch.testing.assert_close(
        slope, (losses[0] - losses[1]).detach() / (2 * step), rtol=1e-7, atol=0
    )


def test_times_are_those_of_the_generator():
    first, second = (draw_times(8, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, draw_times(8, torch.Generator().manual_seed(4)))


def test_times_are_stratified():
    generator = torch.Generator().manual_seed(0)
    t = draw_times(64, generator, t_min=1e-3)
    strata = ((t - 1e-3) / (1 - 1e-3) * 64).floor()
    assert torch.equal(strata.sort().values, torch.arange(64).double())
    assert not torch.equal(strata, strata.sort().values)
    refined = draw_times(64, generator, power=3.0, t_min=1e-3)
    assert refined.min() >= 1e-3
    torch.testing.assert_close(refined.median(), torch.tensor(0.125).double(), atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="power > 0"):
        draw_times(4, generator, power=0.0)
