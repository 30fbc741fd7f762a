"""The update block's kernels: the same numbers and derivatives as by torch alone."""

from inspect import unwrap

import pytest
import torch

from painnx.blocks import TORCH_UPDATE, Update, UpdateKernels, norm
from painnx.update_numba import invariants, update
from tests.unit.painnx.systems import assert_close

KERNELS = UpdateKernels(invariants, update)


def numbers(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def variables(*shapes):
    return [x.requires_grad_() for x in numbers(*shapes)]


def test_derivatives_are_finite_differences() -> None:
    n, f = 2, 3
    given = variables((n, f), (n, 3, 2 * f))
    assert torch.autograd.gradcheck(invariants, given)
    assert torch.autograd.gradgradcheck(invariants, given)
    given = variables((n, f), (n, 3, f), (n, 3, f), (n, f), (n, 3, f))
    assert torch.autograd.gradcheck(update, given)
    assert torch.autograd.gradgradcheck(update, given)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("n", "f"), [(0, 4), (1, 5), (7, 64)])
def test_the_block_and_its_derivatives_are_those_by_torch(n, f, threads) -> None:
    block = Update(f).double()
    results = []
    try:
        torch.set_num_threads(threads)
        for update_kernels in (TORCH_UPDATE, KERNELS):
            given = variables((n, f), (n, 3, f))
            out = block(*given, update_kernels)
            loss = sum((k * a).sin().sum() for k, a in enumerate(out, 1))
            first = torch.autograd.grad(loss, given, create_graph=True)
            loss = sum((k * a).cos().sum() for k, a in enumerate(first, 1))
            second = torch.autograd.grad(loss, [*given, *block.parameters()])
            results.append((*out, *first, *second))
    finally:
        torch.set_num_threads(1)
    for by_torch, numba in zip(*results, strict=True):
        assert_close(numba, by_torch, 1e-10)


def test_vectors_of_length_zero_have_a_slope() -> None:
    s, m = torch.zeros(1, 2), torch.zeros(1, 3, 4, requires_grad=True)
    x, _, _ = invariants(s, m)
    assert_close(x[:, 2:], norm(m[..., :2]), 1e-7)
    (slope,) = torch.autograd.grad(x.sum(), m)
    assert (slope == 0).all()


def test_third_derivatives_are_refused() -> None:
    given = variables((2, 3), (2, 3, 3))
    block = Update(3).double()
    out = sum(a.sin().sum() for a in block(*given, KERNELS))
    for _ in range(2):
        first = torch.autograd.grad(out, given, create_graph=True)
        out = sum(a.sin().sum() for a in first)
    for x in (*given, block.mix.weight):
        with pytest.raises(RuntimeError, match="no third derivatives"):
            torch.autograd.grad(out, x, retain_graph=True)


def test_tensors_that_do_not_fit_together_are_refused() -> None:
    """The kernels would access memory beyond their arrays."""
    with pytest.raises(ValueError, match=r"\(2, 3, 8\) must be \(5, 3, 8\)"):
        unwrap(invariants)(*numbers((5, 4), (2, 3, 8)))  # without the tests' own check of types
    shapes = [(5, 4), (5, 3, 4), (5, 3, 4), (5, 4), (5, 3, 4)]
    for k in range(1, 5):
        bad = [(2, *s[1:]) if k == i else s for i, s in enumerate(shapes)]
        with pytest.raises(ValueError, match="must be"):
            unwrap(update)(*numbers(*bad))


def test_single_precision_stays_so() -> None:
    exact = Update(64).double()
    rough = Update(64)
    rough.load_state_dict(exact.state_dict())
    s, v = numbers((9, 64), (9, 3, 64))
    for a, b in zip(exact(s, v), rough(s.float(), v.float(), KERNELS), strict=True):
        assert b.dtype == torch.float32
        assert (a - b).abs().max() < 1e-5 * a.abs().max()
