"""A torch force field as an ASE calculator, for ASE's optimisers, dynamics and NEB."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from guidance.protocols import ForceField, G


class ForceFieldCalculator(Calculator):
    """Compute energy (eV) and forces on all atoms (eV/Å) by a force field, one structure at a time.

    `to_graph` converts `ase.Atoms` to a graph on the device and in the precision of the force
    field. ASE applies constraints: `atoms.get_forces()` sets forces on fixed atoms to zero,
    `atoms.get_forces(apply_constraint=False)` does not.

    Raises:
        CalculationFailed: if the energy or a force is not finite.
    """

    implemented_properties = ["energy", "free_energy", "forces"]

    def __init__(
        self, force_field: ForceField[G], to_graph: Callable[[Atoms], G], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.force_field: ForceField[Any] = force_field
        self.to_graph = to_graph

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None  # the line above sets it
        energies, forces = self.force_field(self.to_graph(self.atoms))
        energy = float(energies.detach().sum())
        array = forces.detach().cpu().double().numpy()
        if not (np.isfinite(energy) and np.isfinite(array).all()):
            raise CalculationFailed("The force field's energy or forces are not finite here.")
        self.results = {"energy": energy, "free_energy": energy, "forces": array}
