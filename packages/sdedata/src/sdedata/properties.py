"""What a score can be asked for: properties that do not change when a cell is repeated."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sdedata.graph import Graph

Property = Literal["energy", "composition"]
NAMES: tuple[Property, ...] = get_args(Property)
ENERGY = 0.1  # eV per overlayer atom
COVERAGE = 0.1  # overlayer atoms per Å², about one per atom of a close-packed metal


def columns(names: Sequence[Property], elements: Sequence[int]) -> int:
    """Count the numbers that describe a structure: one for the energy, one for each element."""
    width = {"energy": 1, "composition": len(elements)}
    return sum(width[name] for name in NAMES if name in names)


def properties(
    graph: Graph,
    names: Sequence[Property],
    elements: Sequence[int],
    energy: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, "b p"]:
    """Describe each structure by numbers of order one, `columns` of them, in the order of `NAMES`.

    Args:
        names: which properties.
        elements: atomic numbers of the network.
        energy: eV per overlayer atom above the lowest structure of the same composition; None: not
            known, which is a NaN. The composition is that of the overlayer, in atoms per Å².
    """
    mobile = graph.mobile_indices
    structure, numbers = graph.batch[mobile], graph.numbers[mobile]
    found = []
    if "energy" in names:
        unknown = graph.cell.new_full((graph.n_structures,), math.nan)
        found.append(unknown if energy is None else energy.to(graph.cell) / ENERGY)
    if "composition" in names:
        area = torch.linalg.cross(graph.cell[:, 0], graph.cell[:, 1]).norm(dim=1)
        for element in elements:
            counts = torch.bincount(structure[numbers == element], minlength=graph.n_structures)
            found.append(counts / area / COVERAGE)
    return torch.stack(found, dim=1) if found else graph.cell.new_zeros(graph.n_structures, 0)


def energy_per_mobile_atom(graph: Graph) -> Float[Tensor, " b"]:
    """Divide the graph's energies by the numbers of overlayer atoms; ValueError without any."""
    if graph.energy is None:
        raise ValueError("the structures have no energies: a score cannot learn by them")
    counts = torch.bincount(graph.batch[graph.mobile_indices], minlength=graph.n_structures)
    return graph.energy / counts
