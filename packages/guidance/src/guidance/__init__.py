"""Uses of a learned force field in a generator of surfaces.

It guides the reverse process (`Guide`, Eq. 3 of the paper), relaxes generated structures
(`descend`, the paper's short relaxation; `relax`, to convergence), is the surrogate of relaxations
on an expensive reference (`refine`), and an ASE calculator (`ForceFieldCalculator`).
"""

from guidance.calculator import ForceFieldCalculator
from guidance.guide import Guide, eta_from_step
from guidance.optimizer import LBFGS
from guidance.relax import Relaxation, descend, relax
from guidance.surrogate import refine

__all__ = [
    "ForceFieldCalculator",
    "Guide",
    "LBFGS",
    "Relaxation",
    "descend",
    "eta_from_step",
    "refine",
    "relax",
]
