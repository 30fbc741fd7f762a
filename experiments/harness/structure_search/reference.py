"""The calculator of a worker: built once, timed in CPU seconds, computing batches."""

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from torch import Tensor

from experiments.harness.config.instantiate import from_key
from experiments.harness.execution.torch_setup import prepare_torch
from experiments.harness.training.checkpoint import load_model
from painnx import ForceField
from sdedata import Graph
from sdedata.surface import with_third_vector

_mine = threading.local()  # calculators keep state: each thread of each process has its own


def calculator_of(config: str) -> Calculator:
    """This thread's own."""
    if getattr(_mine, "config", None) != config:
        prepare_torch(threads=1)  # one process per core with one thread each is the quickest split
        _mine.calculator, _mine.config = from_key(config), config
    return _mine.calculator


def surrogate_of(path: str) -> ForceField:
    if getattr(_mine, "path", None) != path:
        _mine.surrogate, _mine.path = load_model(path, "forcefield").network, path
    return _mine.surrogate


def cpu_seconds() -> float:
    """Of this process, with all its threads, and of those that it has started and that ended."""
    return sum(os.times()[:4])


class Reference:
    """A calculator as a force field on batches; what it refuses is NaN, with its `reasons`."""

    def __init__(self, calculator: Calculator) -> None:
        self.calculator = calculator
        self.reasons: list[str] = []
        """Of the structures it refused, in their order, since the list was last cleared."""

    def __call__(self, graph: Graph) -> tuple[Tensor, Tensor]:
        images = [with_third_vector(image) for image in graph.to_atoms()]
        found = [self._checked(one) for one in labels_of(self.calculator, images)]
        energies, forces = [], []
        for image, one in zip(images, found, strict=True):
            if isinstance(one, str):
                self.reasons.append(one)
                one = np.nan, np.full((len(image), 3), np.nan)
            energies.append(one[0])
            forces.append(one[1])
        like = graph.positions
        return torch.tensor(energies, dtype=torch.float64), like.new_tensor(np.concatenate(forces))

    @staticmethod
    def _checked(one: Any) -> Any:
        if isinstance(one, Exception):
            return f"{type(one).__name__}: {one}"
        if not (np.isfinite(one[0]) and np.isfinite(one[1]).all()):
            return "FloatingPointError: energy or forces not finite"
        return one


def labels_of(
    calculator: Calculator, images: Sequence[Atoms]
) -> list[tuple[float, np.ndarray] | Exception]:
    """Energy and forces on all atoms of each, or what the calculator raised.

    A calculator with a method `batch`, from images to energies and forces, is called once for all.
    """
    if hasattr(calculator, "batch"):
        try:
            return list(calculator.batch(images))
        except Exception:  # because of one of them: which one it is shows below
            pass
    return [_labels(calculator, image) for image in images]


def _labels(calculator: Calculator, image: Atoms) -> tuple[float, np.ndarray] | Exception:
    image.calc = calculator
    try:
        return float(image.get_potential_energy()), image.get_forces(apply_constraint=False)
    except Exception as error:  # calculators raise anything
        return error
