"""Basin hopping: a walk from minimum to minimum, down in energy more often than up.

Wales and Doye, J. Phys. Chem. A 101, 5111 (1997): the minimum is displaced at random and relaxed,
and a Metropolis criterion on the energies of minima decides from which of the two the walk goes on.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from sdedata.frozen import frozen_mask


@dataclass(frozen=True)
class Hopping:
    """How walkers go on from minima.

    hops          candidates of a walker after its random start
    temperature   kT of the Metropolis criterion, eV
    displacement  Å, the largest move of a mobile atom along x, y and z
    """

    hops: int
    temperature: float
    displacement: float


class Walker:
    """A walker at a minimum, or nowhere yet."""

    def __init__(self, hopping: Hopping) -> None:
        self.hopping = hopping
        self.minimum: Atoms | None = None
        self.energy = np.inf

    def displaced(self, rng: np.random.Generator) -> Atoms | None:
        """Return its minimum with mobile atoms moved at random; None if it has none."""
        if self.minimum is None:
            return None
        atoms = self.minimum.copy()
        reach = self.hopping.displacement
        move = rng.uniform(-reach, reach, size=(len(atoms), 3))
        move[frozen_mask(atoms)] = 0
        atoms.positions += move
        return atoms

    def offer(self, minimum: Atoms, energy: float, rng: np.random.Generator) -> bool:
        """Go to another minimum, of this energy (eV), or stay; returns whether it went."""
        rise = energy - self.energy
        accepted = bool(rise <= 0 or rng.random() < np.exp(-rise / self.hopping.temperature))
        if accepted:
            self.minimum, self.energy = minimum, energy
        return accepted
