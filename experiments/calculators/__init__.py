"""Reference calculators by name, as `calculator=NAME` builds them; any other of ASE's works too.

A calculator whose package or weights are missing is refused with the line that installs it. The
names of these functions are stored with data sets and models: they stay. What they need is imported
when one is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.calculators.packages import gpaw, mace, mattersim, orb, uma
    from experiments.calculators.potentials import chgnet, sevennet
    from experiments.calculators.requirements import require_elements

_HOMES = {
    "chgnet": "potentials", "sevennet": "potentials", "gpaw": "packages", "mace": "packages",
    "mattersim": "packages", "orb": "packages", "uma": "packages",
    "require_elements": "requirements",
}  # fmt: skip

__all__ = [
    "chgnet", "gpaw", "mace", "mattersim", "orb", "require_elements", "sevennet", "uma"
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
