"""Force fields in closed form, and structures to try them on."""

import numpy as np
import torch
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms
from torch import Tensor

from sdedata import Graph, collate

EPSILON, SIGMA, CUTOFF = 0.35, 2.55, 6.0  # eV, Å, Å


def harmonic(stiffness: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)):
    """Every atom on a spring (eV/Å^2) to one point."""

    def force_field(graph: Graph) -> tuple[Tensor, Tensor]:
        away = graph.positions - torch.tensor(centre, dtype=graph.positions.dtype)
        energies = 0.5 * stiffness * (away**2).sum(1)
        total = energies.new_zeros(graph.n_structures).index_add(0, graph.batch, energies)
        return total, -stiffness * away

    return force_field


def lennard_jones(graph: Graph) -> tuple[Tensor, Tensor]:
    """Truncated at the graph's cutoff and shifted to zero there, as ASE's LennardJones."""
    with torch.enable_grad():
        positions = graph.positions.detach().requires_grad_()
        moved = graph.at(positions)
        powers = (SIGMA / moved.vectors.norm(dim=1)) ** 6
        edge = (SIGMA / graph.cutoff) ** 6
        pairs = 4 * EPSILON * (powers**2 - powers - edge**2 + edge)
        structure = graph.batch[moved.receivers]
        energy = pairs.new_zeros(graph.n_structures).index_add(0, structure, pairs / 2)
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
    return energy.detach(), -gradient


def overlayer(seed: int, adatoms: int = 4) -> Atoms:
    """Adatoms at random places, none closer than 2 Å to another, on two frozen layers."""
    rng = np.random.default_rng(seed)
    atoms = fcc111("Ag", (3, 3, 2), a=4.15, vacuum=10.0)
    frozen = len(atoms)
    top = atoms.positions[:, 2].max()
    while len(atoms) < frozen + adatoms:
        planar = rng.random(2) @ atoms.cell.array[:2, :2]
        trial = atoms + Atoms("Ag", [[*planar, top + rng.uniform(1.5, 4.0)]])
        if trial.get_distances(-1, range(len(atoms)), mic=True).min() > 2.0:
            atoms = trial
    atoms.set_constraint(FixAtoms(range(frozen)))
    return atoms


def graph_of(*structures: Atoms, dtype: torch.dtype = torch.float64) -> Graph:
    return collate([Graph.from_atoms(atoms, CUTOFF, dtype=dtype) for atoms in structures])


def free(*positions: tuple[float, float, float], dtype: torch.dtype = torch.float64) -> Graph:
    """Atoms in a large box, all mobile."""
    return graph_of(Atoms("Ag" * len(positions), positions, cell=[30, 30, 30]), dtype=dtype)


def select(graph: Graph, kept: Tensor) -> Graph:
    return collate([g for g, keep in zip(graph.split(), kept.tolist(), strict=True) if keep])
