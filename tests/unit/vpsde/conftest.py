"""Slabs for the tests: the few attributes that vpsde needs of a graph, and no neighbour list."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

C2X8 = [[5.869, 0.0], [-2.934, 10.165]]
P4X4 = [[11.738, 0.0], [5.869, 10.165]]
SKEWED = [[3.1, 0.4], [5.0, 3.5]]


@dataclass(frozen=True)
class Slab:
    positions: Tensor
    batch: Tensor
    mobile: Tensor
    cell: Tensor
    pbc: Tensor
    window: Tensor

    @property
    def n_structures(self) -> int:
        return len(self.cell)

    @property
    def mobile_indices(self) -> Tensor:
        return torch.nonzero(self.mobile)[:, 0]

    def at(self, positions: Tensor) -> "Slab":
        return replace(self, positions=positions)


def _make_slab(cells, mobile=4, frozen=3, window=(2.0, 6.0), dtype=torch.float64, seed=0):
    """One structure per in-plane cell: `frozen` atoms at z = 0, `mobile` ones anywhere allowed."""
    n_structures, n = len(cells), frozen + mobile
    cell = torch.zeros(n_structures, 3, 3, dtype=torch.float64)
    cell[:, :2, :2] = torch.tensor(cells, dtype=torch.float64)
    cell[:, 2, 2] = 20.0
    # A seed of its own: numbers of one seed, uniform here and normal there, are correlated.
    generator = torch.Generator().manual_seed(10_000 + seed)
    share = torch.rand(n_structures, n, 3, generator=generator, dtype=torch.float64)
    positions = share @ cell
    positions[..., 2] = window[0] + share[..., 2] * (window[1] - window[0])
    positions[:, :frozen, 2] = 0.0
    return Slab(
        positions.reshape(-1, 3).to(dtype),
        torch.arange(n_structures).repeat_interleave(n),
        (torch.arange(n) >= frozen).repeat(n_structures),
        cell.to(dtype),
        torch.tensor([[True, True, False]] * n_structures),
        torch.tensor([window] * n_structures, dtype=dtype),
    )


@pytest.fixture(scope="session")
def make_slab():
    return _make_slab


@pytest.fixture(params=["c2x8", "p4x4", "skewed"])
def cell(request):
    return torch.tensor(
        {"c2x8": C2X8, "p4x4": P4X4, "skewed": SKEWED}[request.param], dtype=torch.float64
    )


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
