"""Classifier-free guidance against densities that are known: a mixture, and its components."""

import math

import pytest
import torch
from scipy import stats

from tests.unit.vpsde.test_sampler import P4X4, distances, last
from vpsde import ClassifierFree, ExactScore, brownian, generators, sample, times
from vpsde.linalg import rows_times

STRUCTURES = torch.tensor([[[2.0, 1.0, 3.0]], [[7.0, 5.0, 5.0]], [[7.0, 5.0, 4.0]]]).double()
SHARES = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
KINDS = {0.0: [0], 1.0: [1, 2]}
"""The structures with each value of a property."""


def score_of(sde):
    """The exact score of the mixture, and of its parts with a given property."""
    whole = ExactScore(sde, STRUCTURES, SHARES)
    parts = {kind: ExactScore(sde, STRUCTURES[k], SHARES[k]) for kind, k in KINDS.items()}

    def score(graph, t, properties):
        found = whole(graph, t)
        for kind, part in parts.items():
            asked = (properties[:, 0] == kind)[graph.batch, None]
            found = torch.where(asked, part(graph, t), found)
        return found

    return score


def log_density(sde, graph, t, members):
    logs = [
        SHARES[k].log() + sde.log_density(graph, STRUCTURES[k].repeat(graph.n_structures, 1), t)
        for k in members
    ]
    return torch.stack(logs).logsumexp(0) - SHARES[list(members)].sum().log()


@pytest.mark.parametrize("weight", [-1.0, 0.0, 1.0, 3.0])
def test_it_is_the_gradient_of_the_sharpened_density(make_slab, weight):
    sde, t = brownian(), torch.tensor([0.3, 0.6, 0.9]).double()
    graph = make_slab([P4X4] * 3, mobile=1, frozen=0)
    kind = torch.tensor([[0.0], [1.0], [1.0]]).double()
    guided = ClassifierFree(score_of(sde), kind, weight)(graph, t)
    score = rows_times(guided, sde.scale(graph, t)[graph.batch])

    def sharpened(positions):
        here = graph.at(positions)
        of_kind = torch.stack([log_density(sde, here, t, KINDS[k]) for k in (0.0, 1.0)])
        conditional = of_kind[kind[:, 0].long(), torch.arange(3)]
        return (1 + weight) * conditional - weight * log_density(sde, here, t, range(3))

    step = 1e-5
    for axis in range(3):
        shift = torch.zeros(3).double()
        shift[axis] = step
        slope = sharpened(graph.positions + shift) - sharpened(graph.positions - shift)
        torch.testing.assert_close(score[:, axis], slope / (2 * step), atol=1e-5, rtol=1e-5)


def test_structures_of_the_kind_that_is_asked_for_are_sampled_with_their_frequencies(make_slab):
    sde, n = brownian(), 200
    graph = make_slab([P4X4] * n, mobile=1, frozen=0)
    counts = {}
    for asked in (0.0, 1.0, math.nan):
        wanted = torch.full((n, 1), asked).double()
        model = ClassifierFree(score_of(sde), wanted, 0.0)
        end = last(sample(model, graph, sde, times(25), generators(0, range(n))))
        away = torch.stack([distances(end.graph, s).amax(-1) for s in STRUCTURES])
        assert away.amin(0).max() < 0.02
        counts[asked] = torch.bincount(away.argmin(0), minlength=3)
    assert counts[0.0].tolist() == [n, 0, 0]
    assert counts[1.0][0] == 0
    assert stats.binomtest(int(counts[1.0][2]), n, 0.25).pvalue > 1e-3
    assert stats.chisquare(counts[math.nan].numpy(), n * SHARES.numpy()).pvalue > 1e-3
