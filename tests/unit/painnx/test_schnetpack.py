"""Same parameters, same numbers as SchNetPack 2 (see make_schnetpack_reference.py)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from painnx import ForceField
from tests.unit.painnx.systems import assert_close, graph

REFERENCE = np.load(Path(__file__).with_name("schnetpack_reference.npz"), allow_pickle=False)
FEATURES, BLOCKS, RADIAL, CUTOFF = 8, 3, 20, 6.0
ELEMENTS = (8, 47)


def parameters_of_schnetpack() -> dict[str, torch.Tensor]:
    """SchNetPack's parameters under our names."""

    def of(name: str) -> torch.Tensor:
        return torch.tensor(REFERENCE[f"parameter/{name}"])

    state = {"painn.embedding.weight": of("representation.embedding.weight")[list(ELEMENTS)]}
    # one filter net for all blocks, features x radial; its bias is our last radial function
    weight, bias = (of(f"representation.filter_net.{x}") for x in ("weight", "bias"))
    filters = torch.cat([weight.T, bias[None]]).view(RADIAL + 1, BLOCKS, 3, FEATURES)
    for k in range(BLOCKS):
        state[f"painn.message.{k}.filters"] = filters[:, k]
        interaction, mixing = f"representation.interactions.{k}", f"representation.mixing.{k}"
        state[f"painn.update.{k}.mix.weight"] = of(f"{mixing}.mu_channel_mix.weight")
        for theirs, ours in ((0, 0), (1, 2)):  # our activation is a module of its own
            for x in ("weight", "bias"):
                state[f"painn.message.{k}.context.{ours}.{x}"] = of(
                    f"{interaction}.interatomic_context_net.{theirs}.{x}"
                )
                state[f"painn.update.{k}.context.{ours}.{x}"] = of(
                    f"{mixing}.intraatomic_context_net.{theirs}.{x}"
                )
    for theirs, ours in ((0, 0), (1, 2)):
        for x in ("weight", "bias"):
            state[f"readout.{ours}.{x}"] = of(f"output_modules.0.outnet.{theirs}.{x}")
    return state | {"shift": torch.zeros(2), "scale": torch.ones(())}


@pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])
@pytest.mark.parametrize("name", ["slab", "cluster"])
def test_energies_and_forces_are_schnetpacks(name: str, backend: str) -> None:
    field = ForceField(ELEMENTS, FEATURES, BLOCKS, RADIAL, CUTOFF, backend).double().eval()
    field.load_state_dict(parameters_of_schnetpack())
    atoms = Atoms(**{k: REFERENCE[f"{name}/{k}"] for k in ("numbers", "positions", "cell", "pbc")})
    energy, forces = field(graph(atoms, CUTOFF))
    # SchNetPack keeps its radial constants in float32
    assert_close(energy, torch.tensor(REFERENCE[f"{name}/energy"])[None], 1e-6)
    assert_close(forces, torch.tensor(REFERENCE[f"{name}/forces"]), 1e-6)
