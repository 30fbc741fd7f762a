"""What keeps atoms apart where no data are: the screened repulsion of two nuclei."""

import torch
from ase.data import covalent_radii
from jaxtyping import Float
from torch import Tensor, nn

from painnx.protocols import Graph

REACH = 0.7
"""The repulsion ends at this many times the sum of the covalent radii (Ag-O 1.48 Å)."""
COULOMB = 14.399645
"""e²/(4 pi epsilon_0), eV Å."""
BOHR = 0.529177  # Å
SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))


class CoreRepulsion(nn.Module):
    """Compute the repulsion of nuclei closer than any atoms of a surface stand, eV for each atom.

    The universal potential of Ziegler, Biersack and Littmark (The Stopping and Range of Ions in
    Solids, 1985), shifted so that energy and force are zero at `REACH` and beyond, where data are.
    A trained network is free to be anything where its data end, deep holes included, and both a
    guide and a relaxation find those.
    """

    radius: Tensor
    screening: Tensor

    def __init__(self) -> None:
        super().__init__()
        z = torch.arange(len(covalent_radii), dtype=torch.float64)
        # constants, no weights: files of weights neither have nor need them
        self.register_buffer("radius", REACH * torch.from_numpy(covalent_radii), persistent=False)
        self.register_buffer("screening", z**0.23 / (0.88534 * BOHR), persistent=False)

    def forward(self, graph: Graph) -> Float[Tensor, " n"]:
        """Compute half of the energy of all pairs that an atom belongs to, eV, for each atom."""
        vectors, senders, receivers = graph.vectors, graph.senders, graph.receivers
        zero = vectors.new_zeros(len(graph.numbers))
        reach = self.radius[graph.numbers].to(vectors.dtype)
        reach = reach.index_select(0, senders) + reach.index_select(0, receivers)
        if vectors.is_cpu and not torch.compiler.is_compiling():
            # almost always none; elsewhere looking for them costs more than computing all
            x, y, z = vectors.detach().unbind(1)  # sums of rows of three would take thrice as long
            close = (x * x + y * y + z * z < reach.square()).nonzero()[:, 0]
            if len(close) == 0:
                return zero
            vectors, reach = vectors[close], reach[close]
            senders, receivers = senders[close], receivers[close]
        pair = graph.numbers[senders], graph.numbers[receivers]
        screening = (self.screening[pair[0]] + self.screening[pair[1]]).to(vectors.dtype)
        d = torch.linalg.norm(vectors, dim=1).minimum(reach)
        end, slope = _screened(reach, screening)
        energy = _screened(d, screening)[0] - end - slope * (d - reach)
        energy = COULOMB * pair[0] * pair[1] * energy
        return zero.index_add(0, receivers, energy / 2)  # a pair has two edges


def _screened(
    d: Float[Tensor, " e"], screening: Float[Tensor, " e"]
) -> tuple[Float[Tensor, " e"], Float[Tensor, " e"]]:
    """Compute phi(d) / d and its derivative, phi the universal screening function."""
    value, slope = torch.zeros_like(d), torch.zeros_like(d)
    for amplitude, rate in SCREENING:
        term = amplitude * torch.exp(-rate * screening * d) / d
        value = value + term
        slope = slope - term * (rate * screening + 1 / d)
    return value, slope
