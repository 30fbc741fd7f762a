"""The in-plane half of the transition kernel: Gaussian noise on a periodic cell.

A Gaussian on a torus has the density p(d) = Σ_L N(d + L; 0, σ²), with d the displacement from the
mean and L all lattice vectors. Both kernels here *sample* it (a Gaussian step, then wrapping); they
differ in the target of the network: the gradient of log p, or that of the nearest image.

Shapes: m displacements or b structures, each with its own in-plane cell (rows, Å) and noise
level sigma (Å). Sums should run in float64.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vpsde.linalg import interpolate, inverse, rows_times

# Images are summed until their weight, relative to the nearest, falls under exp(-30) = 1e-13.
_NEGLIGIBLE = 30.0
# Where σ² E[s²] is below this, the kernel counts as flat: the value would be rounding error.
VANISHED = 1e-6
_NODES = 256


def wrap(positions: Float[Tensor, "m 2"], cell: Float[Tensor, "m 2 2"]) -> Float[Tensor, "m 2"]:
    """Move atoms to their image inside the cell (Å); positions inside it stay bit for bit."""
    return positions - rows_times(rows_times(positions, inverse(cell)).floor(), cell)


def reduced(d: Float[Tensor, "m 2"], cell: Float[Tensor, "m 2 2"]) -> Float[Tensor, "m 2"]:
    """Move displacements (Å) by lattice vectors into the cell around zero.

    That is the shortest image up to half the smallest height of the cell.
    """
    fractions = rows_times(d, inverse(cell))
    return rows_times(fractions - fractions.round(), cell)


def log_density(
    d: Float[Tensor, "m 2"], cell: Float[Tensor, "m 2 2"], sigma: Float[Tensor, " m"]
) -> Float[Tensor, " m"]:
    """Compute log p(d) of the wrapped Gaussian, normalised over one cell; p in 1/Å²."""
    x, y = _images(d, cell, sigma)
    return _exponents(x, y, sigma).logsumexp(-1) - 2 * sigma.log() - math.log(2 * math.pi)


@dataclass(frozen=True)
class Wrapped:
    """The exact score of the wrapped Gaussian (the sum over all lattice images)."""

    def score(
        self, d: Float[Tensor, "m 2"], cell: Float[Tensor, "m 2 2"], sigma: Float[Tensor, " m"]
    ) -> Float[Tensor, "m 2"]:
        """Compute grad log p(d), 1/Å."""
        x, y = _images(d, cell, sigma)
        weight = _exponents(x, y, sigma).softmax(-1)
        mean = torch.stack([(weight * x).sum(-1), (weight * y).sum(-1)], -1)
        return -mean / sigma.unsqueeze(-1) ** 2

    def log_information(self, cell: Float[Tensor, "b 2 2"]) -> "LogInformation":
        """Tabulate log(σ² E[s sᵀ]) of the kernel: 0 if narrow, bounded below if flat."""
        return LogInformation.of(cell, exact=True)


@dataclass(frozen=True)
class MinimumImage:
    """The score of the nearest image alone (the paper, after CDVAE)."""

    def score(
        self, d: Float[Tensor, "m 2"], cell: Float[Tensor, "m 2 2"], sigma: Float[Tensor, " m"]
    ) -> Float[Tensor, "m 2"]:
        """Compute -d/σ² of the shortest image of d, 1/Å; it jumps between equally near images."""
        return -_nearest(d, cell) / sigma.unsqueeze(-1) ** 2

    def log_information(self, cell: Float[Tensor, "b 2 2"]) -> "LogInformation":
        """Tabulate log(σ² E[s sᵀ]) of the kernel: 0 if narrow, falling as 1/σ² if wide."""
        return LogInformation.of(cell, exact=False)


def _images(
    d: Float[Tensor, "m 2"], cell: Float[Tensor, "m 2 2"], sigma: Float[Tensor, " m"]
) -> tuple[Float[Tensor, "m k"], Float[Tensor, "m k"]]:
    """Return x and y of d + L for every lattice vector L that is not negligible."""
    lengths = torch.linalg.vector_norm(cell, dim=-1)
    heights = torch.linalg.det(cell).abs().unsqueeze(-1) / lengths.flip(-1)
    # `reach`: the largest distance of the nearest image, plus that at which others are negligible.
    reach = ((lengths.sum(-1) / 2) ** 2 + 2 * _NEGLIGIBLE * sigma**2).sqrt()
    n_a, n_b = (reach.unsqueeze(-1) / heights + 0.5).ceil().amax(0).int().tolist()
    a, b = torch.cartesian_prod(torch.arange(-n_a, n_a + 1), torch.arange(-n_b, n_b + 1)).to(d).T
    x, y = reduced(d, cell).unsqueeze(-1).unbind(1)
    (ax, ay), (bx, by) = (vector.unsqueeze(-1).unbind(1) for vector in cell.unbind(1))
    return x + a * ax + b * bx, y + a * ay + b * by


def _exponents(
    x: Float[Tensor, "m k"], y: Float[Tensor, "m k"], sigma: Float[Tensor, " m"]
) -> Float[Tensor, "m k"]:
    return (x**2 + y**2) * (-0.5 / sigma**2).unsqueeze(-1)


def _nearest(d: Float[Tensor, "m 2"], cell: Float[Tensor, "m 2 2"]) -> Float[Tensor, "m 2"]:
    """The shortest image of d."""
    x, y = _images(d, cell, torch.zeros_like(d[:, 0]))
    index = (x**2 + y**2).argmin(-1, keepdim=True)
    return torch.cat([x.gather(1, index), y.gather(1, index)], -1)


@dataclass(frozen=True)
class LogInformation:
    """The unit of the network's output in each of b cells, as a function of sigma.

    A cell is (lower triangle)(rotation); tables depend on the triangle only, so that
    they are equivariant by construction and rotated cells share one.
    """

    tables: Float[Tensor, "u s 2 2"]
    row: Int[Tensor, " b"]
    """The table of each cell."""
    end: Float[Tensor, " b"]
    """The sigma of its last node."""
    rotation: Float[Tensor, "b 2 2"]
    exact: bool

    @classmethod
    def of(cls, cell: Float[Tensor, "b 2 2"], exact: bool) -> "LogInformation":
        triangle = torch.linalg.cholesky(cell @ cell.mT)
        rounded = triangle.cpu().double().round(decimals=6).tolist()
        shapes = [(a, b, d) for (a, _), (b, d) in rounded]
        distinct = sorted(set(shapes))
        tables, last = zip(*(_table(*shape, exact) for shape in distinct), strict=True)
        row = torch.tensor([distinct.index(shape) for shape in shapes])
        return cls(
            torch.stack(tables).to(cell),
            row.to(cell.device),
            torch.tensor(last)[row].to(cell),
            inverse(triangle) @ cell,
            exact,
        )

    def __call__(self, sigma: Float[Tensor, " b"]) -> Float[Tensor, "b 2 2"]:
        value = interpolate(self.tables, self.row, sigma / self.end * (_NODES - 1))
        if not self.exact:  # past the table E[d dᵀ] is constant
            beyond = 2 * (sigma / self.end).clamp_min(1).log()
            value = value - torch.diag_embed(beyond.unsqueeze(-1).expand(-1, 2))
        return self.rotation.mT @ value @ self.rotation


@lru_cache(maxsize=4096)
def _table(a: float, b: float, c: float, exact: bool) -> tuple[Float[Tensor, "s 2 2"], float]:
    """Tabulate log(σ² E[s sᵀ]) of the cell [[a, 0], [b, c]] from sigma = 0 to the returned one.

    The density and its gradient are Fourier series, which stay accurate where the kernel is flat;
    the average is a sum over a grid, which converges like the series.
    """
    cell = torch.tensor([[a, 0.0], [b, c]], dtype=torch.float64)
    lengths = torch.linalg.vector_norm(cell, dim=-1)
    narrow = 0.08 * float(a * c / lengths.max())  # images still overlap by less than 1e-8
    last = 5 / _shortest_wave(cell)
    n = [2 * math.ceil(8.5 * length / (2 * math.pi * narrow)) + 1 for length in lengths.tolist()]
    n_a, n_b = (torch.fft.fftfreq(k, 1 / k, dtype=torch.float64) for k in n)
    waves = _waves(n_a, n_b, cell)
    grid = torch.cartesian_prod(n_a / n[0], n_b / n[1]) @ cell
    residual = _nearest(grid, cell.expand(len(grid), 2, 2)).view(*n, 2)

    table = torch.zeros(_NODES, 2, 2, dtype=torch.float64)
    for node, sigma in enumerate(torch.linspace(0, last, _NODES).tolist()):
        if sigma < narrow:
            continue
        amplitude = torch.exp(-0.5 * sigma**2 * (waves**2).sum(-1))
        density = torch.fft.fft2(amplitude).real.clamp_min(1e-13)
        slope = torch.fft.fft2(waves * amplitude.unsqueeze(-1), dim=(0, 1)).imag
        score = sigma * slope / density.unsqueeze(-1) if exact else residual / sigma
        information = torch.einsum("xy,xyi,xyj->ij", density / density.sum(), score, score)
        variances, axes = torch.linalg.eigh(information)
        table[node] = axes * variances.clamp_min(VANISHED).log() @ axes.mT
    return table, last


def _waves(n_a: Tensor, n_b: Tensor, cell: Tensor) -> Float[Tensor, "p q 2"]:
    """Compute the reciprocal vectors 2π n A⁻ᵀ, 1/Å."""
    n = torch.stack(torch.meshgrid(n_a, n_b, indexing="ij"), -1)
    return 2 * math.pi * rows_times(n, inverse(cell).mT)


def _shortest_wave(cell: Tensor) -> float:
    """Return the length of the shortest non-zero reciprocal vector, 1/Å: it decays last."""
    n = torch.arange(-8.0, 9.0, dtype=torch.float64)
    return float((_waves(n, n, cell) ** 2).sum(-1).flatten().sort().values[1].sqrt())
