"""Universal potentials whose weights come with their package: CHGNet and SevenNet."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from experiments.calculators.requirements import module, weights

FIDELITY = {"7net-mf-0": "PBE"}
"""Of models of several functionals, the one that is taken where none is named."""
BATCH = 4  # structures in one pass of CHGNet; more are no quicker on a CPU and need gigabytes


def chgnet(model: str = "0.3.0", device: str = "cpu") -> Calculator:
    """CHGNet with the weights that its wheel carries (no download); energies and forces only.

    Leaving out stress and magnetic moments saves a quarter of the time. Raises ImportError if the
    package is missing, ValueError for a model that the installed wheel does not hold.
    """
    module("chgnet")
    from chgnet.model import CHGNet
    from chgnet.model.dynamics import CHGNetCalculator
    from pymatgen.io.ase import AseAtomsAdaptor

    class EnergyForces(CHGNetCalculator):
        implemented_properties: Any = ("energy", "forces", "free_energy")
        elements = frozenset(range(1, 95))

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
        network = CHGNet.load(model_name=model, use_device=device, verbose=False)
        return EnergyForces(network, use_device=device, on_isolated_atoms="ignore")


def sevennet(model: str = "7net-0", fidelity: str | None = None, device: str = "cpu") -> Calculator:
    """SevenNet; the wheel of `sevenn` carries 7net-0, 7net-l3i5 and 7net-mf-0 (no download).

    `fidelity` chooses among the functionals of a model of several: PBE (the default) or R2SCAN of
    7net-mf-0.
    Raises ImportError if the package is missing, ValueError for a model without weights here.
    """
    calculator = module("sevenn.calculator")

    remedy = "the wheel of sevenn holds 7net-0, 7net-l3i5 and 7net-mf-0"
    with warnings.catch_warnings(), weights(f"SevenNet {model}", remedy):
        warnings.simplefilter("ignore")  # about accelerators for GPUs
        made = calculator.SevenNetCalculator(
            model, device=device, modal=fidelity or FIDELITY.get(model.lower())
        )
    made.elements = frozenset(int(z) for z in made.type_map)
    return made
