"""What a learned force field does for a generator of surfaces.

It guides the reverse process (`Guide`, Eq. 3 of the paper), relaxes what was generated (`descend`,
the paper's short relaxation; `relax`, to convergence), plans relaxations on a reference that costs
more (`refine`), and serves ASE (`ForceFieldCalculator`).
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
