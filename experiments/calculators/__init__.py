"""Reference calculators by name, as `calculator=NAME` builds them; any other of ASE's works too.

A calculator whose package or weights are missing is refused with the line that installs it. The
names of these functions are stored with data sets and models: they stay.
"""

from experiments.calculators.packages import gpaw, mace, mattersim, orb, uma
from experiments.calculators.potentials import chgnet, sevennet
from experiments.calculators.requirements import require_elements

__all__ = [
    "chgnet", "gpaw", "mace", "mattersim", "orb", "require_elements", "sevennet", "uma"
]  # fmt: skip
