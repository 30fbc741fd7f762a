"""Discover surface structures with a diffusion model, from Python.

    from surfdiff import Generator, evaluate, relax, train

    generator = Generator.load("score.pt", forcefield="forcefield.pt")
    surfaces = generator.sample(slab, "Ag6O3", n=32, seed=0)
    relaxed = relax(surfaces, calculator)
    table = evaluate(surfaces, relaxed)

Structures are `ase.Atoms`; lengths in Å, energies in eV, forces in eV/Å.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.harness.generation.evaluation import evaluate
    from experiments.harness.generation.generator import Generator
    from experiments.harness.generation.relaxation import relax
    from experiments.harness.training.from_atoms import train

__all__ = ["Generator", "evaluate", "relax", "train"]

_HOMES = {
    "Generator": "experiments.harness.generation.generator",
    "relax": "experiments.harness.generation.relaxation",
    "evaluate": "experiments.harness.generation.evaluation",
    "train": "experiments.harness.training.from_atoms",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562): torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
