"""Write schnetpack_reference.npz: parameters, energies and forces of SchNetPack's own PaiNN.

Run once, in an environment of its own (Python 3.12, `pip install schnetpack==2.2.0`):

    python tests/painnx/make_schnetpack_reference.py

The file holds the network's parameters under SchNetPack's names, and per structure its atoms,
cell, energy (eV) and forces (eV/Å), all in float64. Every parameter is drawn at random, biases
too, so that a wrong one cannot hide behind zero.
"""

from pathlib import Path

import numpy as np
import schnetpack as spk
import torch
from ase import Atoms
from ase.build import fcc111
from ase.neighborlist import neighbor_list
from schnetpack import properties

FEATURES, BLOCKS, RADIAL, CUTOFF = 8, 3, 20, 6.0
OUT = Path(__file__).with_name("schnetpack_reference.npz")


def structures() -> dict[str, Atoms]:
    rng = np.random.default_rng(7)
    slab = fcc111("Ag", (2, 2, 2), a=4.15, vacuum=8.0)  # periodic in x and y only
    top = slab.positions[:, 2].max()
    slab += Atoms("Ag2O2", [[0.3, 0.2, top + 2.4], [3.1, 1.4, top + 2.5],
                            [1.6, 2.9, top + 1.5], [4.4, 3.6, top + 1.8]])  # fmt: skip
    cluster = Atoms("Ag3O2", [[0, 0, 0], [2.7, 0.1, 0.2], [1.2, 2.5, -0.3],
                              [1.4, 0.8, 1.7], [-1.3, 1.1, 0.9]])  # fmt: skip
    for atoms in (slab, cluster):
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    return {"slab": slab, "cluster": cluster}


def network() -> spk.model.NeuralNetworkPotential:
    torch.manual_seed(7)
    painn = spk.representation.PaiNN(
        n_atom_basis=FEATURES,
        n_interactions=BLOCKS,
        radial_basis=spk.nn.GaussianRBF(RADIAL, CUTOFF),
        cutoff_fn=spk.nn.CosineCutoff(CUTOFF),
    )
    model = spk.model.NeuralNetworkPotential(
        representation=painn,
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[
            spk.atomistic.Atomwise(n_in=FEATURES, output_key="energy"),
            spk.atomistic.Forces(energy_key="energy", force_key="forces"),
        ],
    )
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim > 1 else 4
            parameter.normal_(0, 0.7 * fan_in**-0.5)
    return model.double()


def evaluate(model: spk.model.NeuralNetworkPotential, atoms: Atoms) -> tuple[float, np.ndarray]:
    i, j, shift = neighbor_list("ijS", atoms, CUTOFF)
    out = model({
        properties.Z: torch.tensor(atoms.numbers, dtype=torch.long),
        properties.R: torch.tensor(atoms.positions),
        properties.cell: torch.tensor(np.asarray(atoms.cell)[None]),
        properties.offsets: torch.tensor(shift @ np.asarray(atoms.cell)),
        properties.idx_i: torch.tensor(i),
        properties.idx_j: torch.tensor(j),
        properties.idx_m: torch.zeros(len(atoms), dtype=torch.long),
        properties.n_atoms: torch.tensor([len(atoms)]),
    })  # fmt: skip
    return float(out["energy"].detach()), out["forces"].detach().numpy()


def main() -> None:
    model = network()  # holds radial constants in float32, which float64 inherits
    torch.set_default_dtype(torch.float64)
    arrays = {f"parameter/{k}": v.detach().numpy() for k, v in model.named_parameters()}
    for name, atoms in structures().items():
        energy, forces = evaluate(model, atoms)
        arrays |= {
            f"{name}/numbers": atoms.numbers,
            f"{name}/positions": atoms.positions,
            f"{name}/cell": np.asarray(atoms.cell),
            f"{name}/pbc": atoms.pbc,
            f"{name}/energy": np.array(energy),
            f"{name}/forces": forces,
        }
        print(name, len(atoms), "atoms", energy, "eV, largest force", np.abs(forces).max())
    np.savez_compressed(OUT, **arrays)
    print(OUT.name, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
