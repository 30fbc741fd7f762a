"""The algebra that kernels share, against torch.linalg, the matrix exponential and np.interp."""

import numpy as np
import pytest
import torch

from vpsde.linalg import exp_symmetric, interpolate, inverse, rows_times


def test_rows_are_multiplied_each_by_its_matrix():
    torch.manual_seed(0)
    rows, matrices = torch.randn(5, 3), torch.randn(5, 3, 3)
    expected = torch.einsum("ni,nij->nj", rows, matrices)
    torch.testing.assert_close(rows_times(rows, matrices), expected)
    torch.testing.assert_close(rows_times(rows, matrices[0]), rows @ matrices[0])


def test_inverses_are_those_of_torch():
    torch.manual_seed(0)
    for shape in ((5,), (4, 3)):
        matrices = torch.randn(*shape, 2, 2, dtype=torch.float64)
        torch.testing.assert_close(inverse(matrices), torch.linalg.inv(matrices))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-9, 3e-5, 1e-3, 1.0, 3.0])
def test_exponentials_are_those_of_torch(dtype, scale):
    """Also where the traceless part nearly vanishes, and the series takes over."""
    torch.manual_seed(0)
    entries = torch.randn(6, 2, 2, dtype=torch.float64)
    matrices = scale * (entries + entries.mT) + 0.7 * torch.eye(2, dtype=torch.float64)
    found = exp_symmetric(matrices.to(dtype))
    assert found.dtype == dtype
    rtol = 1e-12 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(found.double(), torch.matrix_exp(matrices), rtol=rtol, atol=rtol)


def test_the_series_is_of_second_order():
    matrix = torch.tensor([[0.0, 9e-5], [9e-5, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(exp_symmetric(matrix)[0, 1], np.sinh(9e-5), rtol=1e-15)


def test_tables_are_interpolated_as_numpy_does():
    rng = np.random.default_rng(0)
    tables, row = rng.random((3, 5, 2)), rng.integers(0, 3, 40)
    position = np.concatenate([rng.uniform(0, 4, 33), [0, 1, 3.5, 4, 4.5, 5, 90]])
    found = interpolate(*map(torch.as_tensor, (tables, row, position)))
    for k in range(2):
        expected = [
            np.interp(x, range(5), tables[r, :, k]) for r, x in zip(row, position, strict=True)
        ]
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-12)
    flat = interpolate(*map(torch.as_tensor, (tables[..., 0], row, position)))
    np.testing.assert_array_equal(flat, found[:, 0])
