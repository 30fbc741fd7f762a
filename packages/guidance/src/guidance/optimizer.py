"""The L-BFGS of the batched relaxation as an ASE optimizer."""

from typing import IO

import torch
from ase import Atoms
from ase.optimize.optimize import Optimizer

from guidance.relax import QuasiNewton


class LBFGS(Optimizer):
    """Relax `ase.Atoms` by the L-BFGS of `guidance.relax`: half the force calls of ASE's BFGS.

    ASE's forces on fixed atoms are zero, so that these stay. `maxstep`: largest displacement of an
    atom per step, Å.
    """

    def __init__(
        self, atoms: Atoms, maxstep: float = 0.2, logfile: IO[str] | str | None = None
    ) -> None:
        self.maxstep = maxstep
        super().__init__(atoms, logfile=logfile)

    def initialize(self) -> None:
        batch = torch.zeros(self.optimizable.ndofs() // 3, dtype=torch.int64)
        self.move = QuasiNewton(batch, 1, torch.float64, self.maxstep)

    def step(self) -> None:
        positions = torch.as_tensor(self.optimizable.get_x().reshape(-1, 3).copy())
        forces = -torch.as_tensor(self.optimizable.get_gradient().reshape(-1, 3).copy())
        moved = positions + self.move(positions, forces)
        self.optimizable.set_x(moved.numpy().ravel())
