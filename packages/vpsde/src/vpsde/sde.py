"""The diffusion of a surface: Eq. 1 of the paper, its kernels p(x_t | x_0), and its prior.

Only mobile atoms take part; frozen ones keep their positions bit for bit and have score zero.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vpsde import plane
from vpsde.linalg import exp_symmetric, rows_times
from vpsde.plane import MinimumImage, Wrapped
from vpsde.protocols import Graph
from vpsde.randomness import Generators, draw
from vpsde.schedule import LinearBeta
from vpsde.vertical import Reflected, Truncated


class _Overlayer(NamedTuple):
    """The mobile atoms in float64, each with its structure, in-plane cell and window."""

    positions: Float[Tensor, "m 3"]
    batch: Int[Tensor, " m"]
    cell: Float[Tensor, "m 2 2"]
    window: Float[Tensor, "m 2"]

    def centred(self) -> Float[Tensor, "m 3"]:
        """M of Eq. 1: from the corner of the cell, inside it, and from the window's middle."""
        xy = plane.wrap(self.positions[:, :2], self.cell)
        z = self.positions[:, 2] - self.window.mean(-1)
        return torch.cat([xy, z.unsqueeze(-1)], -1)


def _overlayer(graph: Graph) -> _Overlayer:
    batch = graph.batch[graph.mobile_indices]
    return _Overlayer(
        graph.positions[graph.mobile_indices].double(),
        batch,
        graph.cell[batch, :2, :2].double(),
        graph.window[batch].double(),
    )


@dataclass(frozen=True)
class SDE:
    """dM = -½ beta(t) M dt + sqrt(beta(t)) dw (Eq. 1), or the same without its drift.

    `drift=False` is Brownian motion: alpha = 1 and sigma² = ∫beta, whose limit on a periodic cell
    and between walls is the uniform prior. With the drift, M is taken relative to the corner of the
    cell and the middle of the window. `plane` and `vertical` are the two halves of the kernel.

    Raises ValueError for mirrors with a drift: the sum over images holds for Brownian motion only.
    """

    schedule: LinearBeta
    drift: bool
    plane: Wrapped | MinimumImage = field(default_factory=Wrapped)
    vertical: Reflected | Truncated = field(default_factory=Reflected)

    def __post_init__(self) -> None:
        if self.drift and isinstance(self.vertical, Reflected):
            raise ValueError(
                "reflection is exact for Brownian motion only; "
                "use the truncated vertical kernel together with a drift"
            )

    def alpha(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Compute the remaining share of x_0: exp(-½ ∫beta), or 1 without drift."""
        return torch.exp(-0.5 * self.schedule.integral(t)) if self.drift else torch.ones_like(t)

    def sigma(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """Compute the noise level, Å: sigma² = 1 - alpha², or ∫beta without drift."""
        integral = self.schedule.integral(t)
        return (-torch.expm1(-integral) if self.drift else integral).sqrt()

    def time_of(self, sigma: float) -> float:
        """Find the time at which the noise level is `sigma` (Å); ValueError if it is never."""
        most = float(self.sigma(torch.tensor(1.0, dtype=torch.float64)))
        if not 0 <= sigma <= most:
            raise ValueError(f"sigma={sigma:g} Å is not between 0 and sigma(1) = {most:.3g} Å")
        return self.schedule.time_of(-math.log1p(-(sigma**2)) if self.drift else sigma**2)

    def forward_drift(self, graph: Graph) -> Float[Tensor, "n 3"]:
        """Compute the factor of beta dt in Eq. 1: -M/2, or 0; Å."""
        drift = torch.zeros_like(graph.positions)
        if self.drift:
            overlayer = _overlayer(graph)
            drift[graph.mobile_indices] = (-0.5 * overlayer.centred()).to(drift)
        return drift

    def move(
        self,
        graph: Graph,
        mean: Float[Tensor, "n 3"],
        std: Float[Tensor, " b"],
        noise: Float[Tensor, "m 3"],
    ) -> Float[Tensor, "n 3"]:
        """Move mobile atoms to mean + std noise (Å), wrapped in the plane and confined in z.

        The only place of wrapping and confinement, for drawing the kernel and for sampler steps.
        """
        at = _overlayer(graph)
        target, sigma = mean[graph.mobile_indices].double(), std.double()[at.batch]
        xy = plane.wrap(target[:, :2] + sigma.unsqueeze(-1) * noise[:, :2], at.cell)
        z = self.vertical.sample(target[:, 2], sigma, at.window, noise[:, 2])
        positions = graph.positions.clone()
        positions[graph.mobile_indices] = torch.cat([xy, z.unsqueeze(-1)], -1).to(positions)
        return positions

    def difference(
        self, graph: Graph, one: Float[Tensor, "n 3"], other: Float[Tensor, "n 3"]
    ) -> Float[Tensor, "n 3"]:
        """Compute one - other (Å) of mobile atoms, by the nearest image; zero on frozen atoms."""
        at, d = _overlayer(graph), torch.zeros_like(one)
        moved = (one - other)[graph.mobile_indices].double()
        planar = plane.reduced(moved[:, :2], at.cell)
        d[graph.mobile_indices] = torch.cat([planar, moved[:, 2:]], -1).to(d)
        return d

    def perturb(
        self, graph: Graph, t: Float[Tensor, " b"], generators: Generators
    ) -> Float[Tensor, "n 3"]:
        """Draw from p(x_t | x_0), x_0 the graph's positions, Å. ValueError as in `check`."""
        check(graph)
        mean = graph.positions.clone()
        mean[graph.mobile_indices] = self._mean(_overlayer(graph), t).to(mean)
        return self.move(graph, mean, self.sigma(t.double()), draw(torch.randn, graph, generators))

    def conditional_score(
        self, graph: Graph, positions_0: Float[Tensor, "n 3"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, "n 3"]:
        """Compute grad log p(x_t | x_0), 1/Å, x_t the graph's positions; zero on frozen atoms."""
        at, mean, sigma = self._transition(graph, positions_0, t)
        xy, z = at.positions[:, :2], at.positions[:, 2]
        in_plane = self.plane.score(xy - mean[:, :2], at.cell, sigma)
        vertical = self.vertical.score(z, mean[:, 2], sigma, at.window)
        score = torch.zeros_like(graph.positions)
        score[graph.mobile_indices] = torch.cat([in_plane, vertical.unsqueeze(-1)], -1).to(score)
        return score

    def log_density(
        self, graph: Graph, positions_0: Float[Tensor, "n 3"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Compute log p(x_t | x_0) of each structure, x_t the graph's positions; p in 1/Å^(3 m)."""
        at, mean, sigma = self._transition(graph, positions_0, t)
        xy, z = at.positions[:, :2], at.positions[:, 2]
        in_plane = plane.log_density(xy - mean[:, :2], at.cell, sigma)
        vertical = self.vertical.log_density(z, mean[:, 2], sigma, at.window)
        return sigma.new_zeros(graph.n_structures).index_add(0, at.batch, in_plane + vertical)

    def scale(self, graph: Graph, t: Float[Tensor, " b"], power: int = 1) -> Float[Tensor, "b 3 3"]:
        """Compute S(t)^power, S² = E[s sᵀ] of the conditional score s: the network's unit, 1/Å.

        Averages over x_t and, in z, over x_0 uniform in the window: S depends on the cell, the
        window and t only, so that it changes the weight of the loss but not its minimiser. At least
        0.001/sigma, where the kernel is flat and the score vanishes.
        """
        return self.scales(graph)(t, power)

    def scales(self, graph: Graph) -> Callable[..., Tensor]:
        """Return `scale` as a function of t and power; it does not depend on the positions."""
        in_plane = self.plane.log_information(graph.cell[:, :2, :2].double())
        vertical = self.vertical.log_information(graph.window.double())

        def scale(t: Tensor, power: int = 1) -> Tensor:
            alpha, sigma = self.alpha(t.double()), self.sigma(t.double())
            scale = sigma.new_zeros(len(sigma), 3, 3)
            scale[:, :2, :2] = exp_symmetric(0.5 * power * in_plane(sigma))
            scale[:, 2, 2] = torch.exp(0.5 * power * vertical(alpha, sigma))
            return (scale * sigma[:, None, None] ** -power).to(graph.positions)

        return scale

    def prior(self, graph: Graph, generators: Generators) -> Float[Tensor, "n 3"]:
        """Draw mobile atoms uniform in the cell and the window, Å. ValueError as in `check`."""
        check(graph, positions=False)
        at = _overlayer(graph)
        share = draw(torch.rand, graph, generators)
        low, high = at.window.unbind(-1)
        z = low + share[:, 2] * (high - low)
        positions = graph.positions.clone()
        xy = rows_times(share[:, :2], at.cell)
        positions[graph.mobile_indices] = torch.cat([xy, z.unsqueeze(-1)], -1).to(positions)
        return positions

    def _transition(
        self, graph: Graph, positions_0: Tensor, t: Tensor
    ) -> tuple[_Overlayer, Tensor, Tensor]:
        """Return the mobile atoms, and mean and noise level of p(x_t | x_0) for each of them."""
        at = _overlayer(graph)
        start = at._replace(positions=positions_0[graph.mobile_indices].double())
        return at, self._mean(start, t), self.sigma(t.double())[at.batch]

    def _mean(self, start: _Overlayer, t: Float[Tensor, " b"]) -> Float[Tensor, "m 3"]:
        """Compute alpha x_0 up to lattice vectors, such that alpha = 1 changes no bit."""
        if not self.drift:
            return start.positions
        shrink = (1 - self.alpha(t.double()))[start.batch].unsqueeze(-1)
        return start.positions - shrink * start.centred()


def vp(
    beta_min: float = 0.01,
    beta_max: float = 3.0,
    plane: Wrapped | MinimumImage | None = None,
) -> SDE:
    """Make the paper's Eq. 1 as written: with drift, truncated in z, nearest image."""
    return SDE(LinearBeta(beta_min, beta_max), True, plane or MinimumImage(), Truncated())


def brownian(
    beta_min: float = 0.01,
    beta_max: float = 40.0,
    plane: Wrapped | MinimumImage | None = None,
    vertical: Reflected | Truncated | None = None,
) -> SDE:
    """Make Eq. 1 without drift, with exact kernels; sigma(1) = 4.5 Å makes p(4x4) uniform.

    The commands take `Truncated` in z, the paper's, which is not the law of this process.
    """
    return SDE(LinearBeta(beta_min, beta_max), False, plane or Wrapped(), vertical or Reflected())


def check(graph: Graph, positions: bool = True) -> None:
    """Raise ValueError for a graph that cannot be diffused, with a remedy.

    The cell must be periodic and level in the plane, the window finite and open, there must be
    mobile atoms, and they must lie in the window (unless their positions are about to be drawn).
    """
    cell, window = graph.cell, graph.window
    if len(graph.mobile_indices) == 0:
        raise ValueError("no atom is mobile: nothing can be diffused; free some atoms")
    if not bool(graph.pbc[:, :2].all()):
        raise ValueError("the cell must be periodic along its first two vectors; set pbc")
    area = torch.linalg.det(cell[:, :2, :2]).abs()
    if bool(((cell[:, :2, 2].abs() > 1e-6).any(-1) | (area < 1e-6)).any()):
        raise ValueError("the first two cell vectors must span the xy plane and have no z part")
    if not bool((window.isfinite().all(-1) & (window[:, 0] < window[:, 1])).all()):
        raise ValueError("every structure needs a window z_lo < z_hi; give one")
    if positions:
        owner = graph.batch[graph.mobile_indices]
        z, (low, high) = graph.positions[graph.mobile_indices, 2], window[owner].unbind(-1)
        outside = ~((z >= low - 1e-3) & (z <= high + 1e-3))
        if bool(outside.any()):
            k = int(outside.nonzero()[0])
            raise ValueError(
                f"mobile atom {int(graph.mobile_indices[k])} of structure {int(owner[k])} lies at "
                f"z = {float(z[k]):.3f} Å, outside its window {float(low[k]):.3f} to "
                f"{float(high[k]):.3f} Å; widen the window or drop the structure"
            )
