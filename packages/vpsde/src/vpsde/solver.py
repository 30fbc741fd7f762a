"""Second order: which score Eq. 2 is given, so that its step is that of a better solver.

For Brownian motion with posterior mean D = x + sigma² s, a step of Eq. 2 with ancestral noise is
the exact solution for a D that does not change during the step (DPM-Solver++, Lu et al. 2022,
arXiv:2211.01095). Both solvers here let D change.
"""

from math import log
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vpsde.sde import SDE

Solver = Literal["euler", "multistep", "heun"]
"""Eq. 2 as it is; DPM-Solver++(2M) SDE, which extrapolates D from the step before; Heun's method on
the probability flow (Karras et al. 2022, arXiv:2206.00364, Alg. 1), two scores a step, no noise."""


def check_solver(sde: SDE, solver: Solver, noise: str, noisy_end: bool, compile: bool) -> None:
    """Raise ValueError for a solver that does not go with the process or the kind of noise."""
    if solver == "euler":
        return
    if sde.drift:
        raise ValueError(
            f"the solver {solver} is one of Brownian motion: for a score of sde=vp take the solver "
            "euler (sampler=ancestral or paper)"
        )
    if noise != "ancestral" or noisy_end:
        raise ValueError(
            f"the solver {solver} has no noise of Eq. 2: leave noise and noisy_end, or take the "
            "solver euler"
        )
    if solver == "heun" and compile:
        raise ValueError(
            "the solver heun cannot be compiled: its last step differs from the others"
        )


def weights(sde: SDE, grid: list[float]) -> list[float]:
    """Compute the weight of the change of D in each step of `multistep`: h / (2 h before).

    h is the step in log sigma. Zero in the first step, which knows no change, and in the last one,
    which ends on D.
    """
    sigma = [float(sde.sigma(torch.tensor(t, dtype=torch.float64))) for t in grid]
    found = [0.0] * (len(grid) - 1)
    for k in range(1, len(found)):
        if sigma[k + 1] > 0:
            found[k] = log(sigma[k] / sigma[k + 1]) / (2 * log(sigma[k - 1] / sigma[k]))
    return found


def heun_score(
    sigma: Tensor, next_sigma: Tensor, score: Float[Tensor, "n 3"], trial: Float[Tensor, "n 3"]
) -> Float[Tensor, "n 3"]:
    """Combine the scores at both ends of a step: dx = -sigma s d sigma, by the trapezoidal rule."""
    return (sigma * score + next_sigma * trial) / (2 * (sigma + next_sigma))
