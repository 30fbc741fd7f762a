"""Reference calculators that need a word of set-up; any other of ASE's is one `_target_` away."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

BATCH = 4  # structures in one pass of CHGNet; more are no quicker on a CPU and need gigabytes


def chgnet(model: str = "0.3.0", device: str = "cpu") -> Calculator:
    """CHGNet with the weights that its wheel carries (no download); energies and forces only.

    Leaving out stress and magnetic moments saves a quarter of the time. Raises ValueError for a
    model that the installed wheel does not hold.
    """
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator
    from pymatgen.io.ase import AseAtomsAdaptor

    class EnergyForces(CHGNetCalculator):
        implemented_properties: Any = ("energy", "forces", "free_energy")

        def calculate(
            self,
            atoms: Any = None,
            properties: Any = None,
            system_changes: Any = None,
            task: Any = "ef",
        ) -> None:
            super().calculate(atoms, properties, system_changes, task="ef")

        def batch(self, images: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
            """Energy and forces of each, in passes of several structures."""
            structures = [AseAtomsAdaptor.get_structure(atoms) for atoms in images]
            graphs = [self.model.graph_converter(structure) for structure in structures]
            predictions: Any = self.model.predict_graph(graphs, task="ef", batch_size=BATCH)
            atoms = [len(s) if self.model.is_intensive else 1 for s in structures]
            return [
                (float(one["e"]) * n, np.asarray(one["f"], dtype=float))
                for one, n in zip(predictions, atoms, strict=True)
            ]

    warnings.filterwarnings("ignore", category=UserWarning, module="chgnet")
    with contextlib.redirect_stdout(io.StringIO()):  # both announce themselves on standard output
        weights = CHGNet.load(model_name=model, use_device=device, verbose=False)
        return EnergyForces(weights, use_device=device, on_isolated_atoms="ignore")
