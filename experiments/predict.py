"""Energies and forces of structures with a trained force field."""

import argparse
import sys
from pathlib import Path

import numpy as np


def predict(run: Path, source: Path, output: Path) -> list[float]:
    """Write `source` with predicted labels (forces on fixed atoms too) to `output`; returns energies.

    ValueError for a model or file that cannot be used, or an element that the model does not know.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.data import chemical_symbols
    from ase.io import write
    from sdedata import Graph
    from sdedata.frames import read_frames

    from experiments.checkpoint import load_model

    model = load_model(run, "forcefield")
    frames = read_frames(source)
    energies = []
    for k, atoms in enumerate(frames):
        unknown = {chemical_symbols[z] for z in atoms.numbers} - {
            chemical_symbols[z] for z in model.elements
        }
        if unknown:
            raise ValueError(
                f"{source}, frame {k}: the model does not know {', '.join(sorted(unknown))}"
            )
        if not np.isfinite(atoms.positions).all():
            raise ValueError(f"{source}, frame {k}: positions not finite")
        energy, forces = model.network(Graph.from_atoms(atoms, model.network.cutoff))
        energies.append(float(energy[0]))
        atoms.calc = SinglePointCalculator(
            atoms, energy=energies[-1], forces=forces.double().numpy()
        )
    write(output, frames)
    return energies


def main() -> None:
    parser = argparse.ArgumentParser(prog="experiments.predict", description=__doc__)
    parser.add_argument(
        "run", type=Path, help="folder of a force field's training run, or model file"
    )
    parser.add_argument("structures", type=Path, help="any file that ASE reads")
    parser.add_argument("--output", type=Path, help="default: <structures>_predicted.extxyz")
    arguments = parser.parse_args()
    output = arguments.output or arguments.structures.with_name(
        f"{arguments.structures.stem}_predicted.extxyz"
    )
    try:
        energies = predict(arguments.run, arguments.structures, output)
    except ValueError as error:
        print(f"predict: {error}", file=sys.stderr)
        sys.exit(2)
    for k, energy in enumerate(energies):
        print(f"frame {k}: {energy:.4f} eV")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
