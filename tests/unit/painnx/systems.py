"""Small structures and networks that the tests share, all in float64."""

import numpy as np
import torch
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms
from torch import nn

from painnx import ForceField, ScoreNetwork
from sdedata import Graph

ELEMENTS = (8, 47)
CUTOFF = 6.0


def slab(seed: int = 0, n_oxygen: int = 2) -> Atoms:
    """Two frozen Ag layers in an oblique cell smaller than the cutoff, under Ag2 and oxygen."""
    rng = np.random.default_rng(seed)
    atoms = fcc111("Ag", (2, 2, 2), a=4.15, vacuum=8.0, orthogonal=False)
    substrate, top = len(atoms), atoms.positions[:, 2].max()
    atoms += Atoms("Ag2", [[0.3, 0.2, top + 2.4], [3.1, 1.4, top + 2.5]])
    atoms += Atoms("O4", [[1.6, 2.9, top + 1.5], [4.4, 3.6, top + 1.8],
                          [2.0, 0.4, top + 3.1], [4.9, 1.9, top + 3.3]])[:n_oxygen]  # fmt: skip
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.set_constraint(FixAtoms(range(substrate)))
    return atoms


def cluster() -> Atoms:
    return Atoms("Ag3O2", [[0, 0, 0], [2.7, 0.1, 0.2], [1.2, 2.5, -0.3],
                           [1.4, 0.8, 1.7], [-1.3, 1.1, 0.9]])  # fmt: skip


def graph(atoms: Atoms, cutoff: float = CUTOFF) -> Graph:
    return Graph.from_atoms(atoms, cutoff, dtype=torch.float64)


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter anew, biases too, so that none hides behind zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.double().parameters():
            fan_in = p.shape[1] if p.ndim == 2 else p.shape[0]
            p.normal_(0, 0.7 * fan_in**-0.5, generator=generator)
    return network.eval()


def score_network(backend: str = "auto", seed: int = 0, **sizes: int) -> ScoreNetwork:
    sizes = {"features": 8, "blocks": 3, "n_radial": 10} | sizes
    return randomise(ScoreNetwork(ELEMENTS, cutoff=CUTOFF, backend=backend, **sizes), seed)


def force_field(backend: str = "auto", seed: int = 0, **sizes: int) -> ForceField:
    sizes = {"features": 8, "blocks": 3, "n_radial": 10} | sizes
    field = randomise(ForceField(ELEMENTS, cutoff=CUTOFF, backend=backend, **sizes), seed)
    shift, scale = torch.tensor([-1.5, -2.5]), torch.tensor(1.5)
    field.set_shift_and_scale(shift.double(), scale.double())
    return field


def time(n: int = 1) -> torch.Tensor:
    return torch.linspace(0.2, 0.9, n, dtype=torch.float64)


def assert_close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
