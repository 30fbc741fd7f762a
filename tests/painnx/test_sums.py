"""Sums of radial functions over edges, and their derivatives, against plain torch."""

import pytest
import torch

from painnx.radial import radial_basis
from painnx.sums import LastSums, Table, sum_edges
from tests.painnx.systems import CUTOFF, assert_close

EDGES, RECEIVERS, N_RADIAL = 7, 3, 4


def plain(vectors, tables):
    d = vectors.norm(dim=1, keepdim=True)
    basis = radial_basis(d[:, 0], N_RADIAL, CUTOFF)
    out = []
    for table in tables:
        scalar = basis.new_zeros(RECEIVERS, table.m, N_RADIAL + 1)
        vector = basis.new_zeros(RECEIVERS, 3, table.m, N_RADIAL + 1)
        for e, (i, j) in enumerate(zip(table.receivers, table.senders, strict=True)):
            scalar[i, j] = scalar[i, j] + basis[e]
            for k in range(3):
                vector[i, k, j] = vector[i, k, j] + basis[e] * vectors[e, k] / d[e]
        out.append((scalar.flatten(0, 1), vector.flatten(0, 2)))
    return out


def tables():
    receivers = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    senders = torch.tensor([1, 1, 2, 0, 2, 0, 0])
    return [Table(receivers, s, m, RECEIVERS * m) for s, m in ((senders, 3), (senders % 2, 2))]


def vectors():
    """Between 1.5 and 5.5 Å, and one just inside the cutoff."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(EDGES, 3, dtype=torch.float64, generator=generator)
    d = torch.linspace(1.5, 5.99, EDGES, dtype=torch.float64)
    return (u / u.norm(dim=1, keepdim=True) * d[:, None]).requires_grad_()


@pytest.fixture(params=[1, 3, 7, 2**11], autouse=True)
def _at_a_time(request, monkeypatch) -> None:
    monkeypatch.setattr("painnx.sums.EDGES", request.param)


def flat(pairs):
    return [x for pair in pairs for x in pair]


def test_they_are_the_sums_that_they_say():
    ours, by_hand = sum_edges(vectors(), tables(), N_RADIAL, CUTOFF), plain(vectors(), tables())
    for a, b in zip(flat(ours), flat(by_hand), strict=True):
        assert_close(a, b, 1e-14)


def test_first_and_second_derivatives_are_finite_differences():
    def function(x):
        return tuple(flat(sum_edges(x, tables(), N_RADIAL, CUTOFF)))

    assert torch.autograd.gradcheck(function, (vectors(),))
    assert torch.autograd.gradgradcheck(function, (vectors(),))


def test_derivatives_are_those_of_automatic_differentiation():
    results = []
    for sums in (lambda x: sum_edges(x, tables(), N_RADIAL, CUTOFF), lambda x: plain(x, tables())):
        x = vectors()
        loss = sum((k + x).sin().sum() for k, x in enumerate(flat(sums(x))))
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        results += [(first, *torch.autograd.grad(first.cos().sum(), x))]
    for ours, torchs in zip(*results, strict=True):
        assert_close(ours, torchs, 1e-12)


def test_they_add_to_the_sums_over_other_edges():
    whole = sum_edges(vectors(), tables(), N_RADIAL, CUTOFF)
    some, rest = torch.tensor([5, 0, 2]), torch.tensor([1, 3, 4, 6])
    others = sum_edges(vectors()[some], [t.of(some) for t in tables()], N_RADIAL, CUTOFF)
    before = [x.clone() for x in flat(others)]
    all_ = sum_edges(vectors()[rest], [t.of(rest) for t in tables()], N_RADIAL, CUTOFF, others)
    for a, b in zip(flat(all_), flat(whole), strict=True):
        assert_close(a, b, 1e-14)
    assert all(map(torch.equal, flat(others), before))


def test_last_sums_are_kept_for_the_same_edges_alone():
    last, x = LastSums(), vectors().detach()
    first = last(x, tables(), N_RADIAL, CUTOFF)
    assert last(x.clone(), tables(), N_RADIAL, CUTOFF) is first
    for changed in (
        (x + 1e-6, tables(), N_RADIAL, CUTOFF),
        (x, tables()[:1], N_RADIAL, CUTOFF),
        (x, [t._replace(senders=t.senders % 2) for t in tables()], N_RADIAL, CUTOFF),
        (x, tables(), N_RADIAL + 1, CUTOFF),
        (x, tables(), N_RADIAL, CUTOFF + 1),
        (x.float(), tables(), N_RADIAL, CUTOFF),
    ):
        now, anew = last(*changed), sum_edges(*changed)
        assert all(map(torch.equal, flat(now), flat(anew)))
        assert now[0][0].dtype == anew[0][0].dtype


def test_without_edges_all_is_zero():
    none = [Table(t.receivers[:0], t.senders[:0], t.m, t.size) for t in tables()]
    x = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    sums = flat(sum_edges(x, none, N_RADIAL, CUTOFF))
    assert all((s == 0).all() for s in sums)
    (gradient,) = torch.autograd.grad(sum(s.sum() for s in sums), x)
    assert gradient.shape == (0, 3)
