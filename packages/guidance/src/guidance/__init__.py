"""Uses of a learned force field in a generator of surfaces.

It guides the reverse process (`Guide`, Eq. 3 of the paper), relaxes generated structures
(`descend`, the paper's short relaxation; `relax`, to convergence), is the surrogate of relaxations
on an expensive reference (`refine`), and an ASE calculator (`ForceFieldCalculator`).
"""

from typing import TYPE_CHECKING, Any

from guidance.calculator import ForceFieldCalculator
from guidance.guide import Guide, eta_from_step
from guidance.relax import Relaxation, descend, relax
from guidance.surrogate import refine

if TYPE_CHECKING:
    from guidance.optimizer import LBFGS

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


def __getattr__(name: str) -> Any:
    """Import `LBFGS` when it is used: ASE's optimizers bring all of scipy.optimize."""
    if name == "LBFGS":
        from guidance.optimizer import LBFGS

        return LBFGS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
