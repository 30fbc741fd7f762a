"""Score-based diffusion of atoms on a surface: schedule, kernels, loss, reverse process.

t = 0 is data, t = 1 is noise, dt > 0; score = grad log p; Å; z is the surface normal.
"""

from vpsde.conditional import ClassifierFree
from vpsde.exact import ExactScore
from vpsde.loss import denoising_errors, draw_times, score_matching_loss
from vpsde.plane import MinimumImage, Wrapped
from vpsde.randomness import draw, generators
from vpsde.sampler import (
    State,
    corrector_step,
    denoise,
    noise_level,
    reverse_step,
    sample,
    times,
)
from vpsde.schedule import LinearBeta
from vpsde.sde import SDE, brownian, check, vp
from vpsde.solver import Solver, check_solver
from vpsde.vertical import Reflected, Truncated

__all__ = [
    "SDE",
    "ClassifierFree",
    "ExactScore",
    "LinearBeta",
    "MinimumImage",
    "Reflected",
    "Solver",
    "State",
    "Truncated",
    "Wrapped",
    "brownian",
    "check",
    "check_solver",
    "corrector_step",
    "denoise",
    "denoising_errors",
    "draw",
    "draw_times",
    "generators",
    "noise_level",
    "reverse_step",
    "sample",
    "score_matching_loss",
    "times",
    "vp",
]
