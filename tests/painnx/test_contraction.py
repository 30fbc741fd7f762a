"""The product of pairs, senders and filters, and its derivatives, against plain torch."""

import pytest
import torch

from painnx.contraction import contract
from tests.painnx.systems import assert_close

STRUCTURES, RECEIVERS, SENDERS, RADIAL, CHANNELS = 5, 2, 3, 4, 2


def plain(pairs, x, w, step):
    return torch.einsum("bijr,bjc,rc->bic", pairs.unflatten(2, (-1, len(w))), x, w)


def arguments():
    generator = torch.Generator().manual_seed(0)
    shapes = (
        (STRUCTURES, RECEIVERS, SENDERS * RADIAL),
        (STRUCTURES, SENDERS, CHANNELS),
        (RADIAL, CHANNELS),
    )
    return [
        torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes
    ]


steps = pytest.mark.parametrize("step", [1, 2, 5, 9])


@steps
def test_it_is_the_sum_that_it_says(step):
    assert_close(contract(*arguments(), step), plain(*arguments(), step), 1e-14)


@steps
def test_first_and_second_derivatives_are_finite_differences(step):
    assert torch.autograd.gradcheck(lambda *a: contract(*a, step), arguments())
    assert torch.autograd.gradgradcheck(lambda *a: contract(*a, step), arguments())


@steps
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_derivatives_by_some_of_the_arguments_only(step, wanted):
    """As in use: forces ask for pairs and senders, training for senders and filters."""
    results = []
    for product in (contract, plain):
        given = [a if k in wanted else a.detach() for k, a in enumerate(arguments())]
        chosen = [given[k] for k in wanted]
        first = torch.autograd.grad(product(*given, step).sin().sum(), chosen, create_graph=True)
        loss = sum((k + 1) * a.cos().sum() for k, a in enumerate(first))
        results.append((*first, *torch.autograd.grad(loss, chosen)))
    for ours, torchs in zip(*results, strict=True):
        assert_close(ours, torchs, 1e-12)


@steps
def test_symmetric_pairs_may_be_told_of(step):
    """As in use by forces: filters are constant."""
    raw = torch.randn(STRUCTURES, SENDERS, SENDERS, RADIAL, dtype=torch.float64).requires_grad_()
    _, x, w = arguments()

    def symmetric(raw):
        return (raw + raw.transpose(1, 2)).flatten(2)

    def ours(raw, x):
        return contract(symmetric(raw), x, w.detach(), step, symmetric=True)

    assert_close(ours(raw, x), plain(symmetric(raw), x, w, step), 1e-14)
    assert torch.autograd.gradcheck(ours, (raw, x))
    assert torch.autograd.gradgradcheck(ours, (raw, x))
