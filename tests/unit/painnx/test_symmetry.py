"""Equivariance of each block and of both networks; permutation; repetition; extensivity."""

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from sdedata import Graph, collate
from tests.unit.painnx.systems import (
    CUTOFF,
    assert_close,
    cluster,
    force_field,
    graph,
    score_network,
    slab,
    time,
)

ABOUT_Z = Rotation.from_euler("z", 0.7).as_matrix()
MIRROR_X, MIRROR_Z = np.diag([-1.0, 1, 1]), np.diag([1.0, 1, -1])
ANY = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix()
CASES = {
    "slab, rotation about z": (slab, ABOUT_Z),
    "slab, reflection that keeps z": (slab, ABOUT_Z @ MIRROR_X),
    "slab, reflection of z": (slab, MIRROR_Z),
    "cluster, rotation": (cluster, ANY),
    "cluster, improper rotation": (cluster, -ANY),
}
cases = pytest.mark.parametrize(("structure", "q"), CASES.values(), ids=CASES.keys())
backends = pytest.mark.parametrize("backend", ["eager", "numba", "inductor"])


def turned(atoms: Atoms, q: np.ndarray) -> Atoms:
    """The whole structure, cell included, rotated or reflected by the orthogonal matrix q."""
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ q.T)
    atoms.positions = atoms.positions @ q.T
    return atoms


@backends
@cases
def test_score_turns_with_the_structure(structure, q, backend) -> None:
    network, atoms = score_network(backend), structure()
    score = network(graph(atoms), time())
    assert score.abs().max() > 1e-3
    assert_close(network(graph(turned(atoms, q)), time()), score @ torch.tensor(q).T)


@backends
@cases
def test_forces_turn_and_energy_stays(structure, q, backend) -> None:
    field, atoms = force_field(backend), structure()
    energy, forces = field(graph(atoms))
    assert forces.abs().max() > 1e-2
    energy_turned, forces_turned = field(graph(turned(atoms, q)))
    assert_close(energy_turned, energy)
    assert_close(forces_turned, forces @ torch.tensor(q).T)


@backends
@cases
def test_each_block_is_equivariant(structure, q, backend) -> None:
    network, atoms = score_network(backend), structure()
    generator = torch.Generator().manual_seed(1)
    scalars = torch.randn(len(atoms), 8, generator=generator, dtype=torch.float64)
    vectors = torch.randn(len(atoms), 3, 8, generator=generator, dtype=torch.float64)
    turn = torch.tensor(q)

    def check(block, *geometry) -> None:
        s, v = block(scalars, vectors, *(g[0] for g in geometry))
        assert (v - vectors[..., : v.shape[2]]).abs().max() > 1e-2
        s_turned, v_turned = block(scalars, turn @ vectors, *(g[1] for g in geometry))
        assert_close(s_turned, s)
        assert_close(v_turned, turn @ v)

    both = [network.painn.messages_on(graph(a)) for a in (atoms, turned(atoms, q))]
    for message, update in zip(network.painn.message, network.painn.update, strict=True):
        check(message, both)
        check(update)
    check(network.readout[0])


@backends
@pytest.mark.parametrize("structure", [slab, cluster])
def test_translation_changes_nothing(structure, backend) -> None:
    atoms = structure()
    shift = np.array([3.3, -4.1, 0.0 if atoms.pbc.any() else 2.0])
    moved = atoms.copy()
    moved.positions += shift  # slab atoms leave the cell and are not wrapped
    network, field = score_network(backend), force_field(backend)
    assert_close(network(graph(moved), time()), network(graph(atoms), time()))
    for a, b in zip(field(graph(moved)), field(graph(atoms)), strict=True):
        assert_close(a, b)


@backends
def test_order_of_atoms_is_free(backend) -> None:
    atoms, network, field = slab(), score_network(backend), force_field(backend)
    order = np.random.default_rng(3).permutation(len(atoms))
    assert_close(network(graph(atoms[order]), time()), network(graph(atoms), time())[order])
    energy, forces = field(graph(atoms))
    energy_permuted, forces_permuted = field(graph(atoms[order]))
    assert_close(energy_permuted, energy)
    assert_close(forces_permuted, forces[order])


@backends
@pytest.mark.parametrize("repeats", [(2, 1, 1), (2, 3, 1)])
def test_repeated_cell_repeats_the_outputs(repeats, backend) -> None:
    atoms, network, field = slab(), score_network(backend), force_field(backend)
    k = int(np.prod(repeats))
    repeated = graph(atoms.repeat(repeats))
    assert_close(network(repeated, time()), network(graph(atoms), time()).repeat(k, 1))
    energy, forces = field(graph(atoms))
    energy_repeated, forces_repeated = field(repeated)
    assert_close(energy_repeated, k * energy)
    assert_close(forces_repeated, forces.repeat(k, 1))


@backends
def test_distant_parts_do_not_interact(backend) -> None:
    field, parts = force_field(backend), [cluster(), turned(cluster(), ANY)]
    parts[1].positions += [30.0, 0, 0]
    energy, forces = field(graph(parts[0] + parts[1]))
    alone = [field(graph(part)) for part in parts]
    assert_close(energy, alone[0][0] + alone[1][0])
    assert_close(forces, torch.cat([alone[0][1], alone[1][1]]))


@backends
def test_structures_of_a_batch_do_not_interact(backend) -> None:
    network, field = score_network(backend), force_field(backend)
    graphs = [graph(slab(0, 2)), graph(cluster()), graph(slab(1, 4))]
    t = time(3)
    alone = [network(g, t[k : k + 1]) for k, g in enumerate(graphs)]
    assert_close(network(collate(graphs), t), torch.cat(alone))
    energy, forces = field(collate(graphs))
    assert_close(energy, torch.cat([field(g)[0] for g in graphs]))
    assert_close(forces, torch.cat([field(g)[1] for g in graphs]))


@pytest.fixture(params=["MKL", "oneDNN"])
def library(request):
    """What multiplies matrices: torch takes oneDNN where products may be rounded."""
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    products.fp32_precision = {"MKL": "ieee", "oneDNN": "bf16"}[request.param]
    yield
    products.fp32_precision = before


@pytest.mark.parametrize("backend", ["eager", "numba"])
@pytest.mark.parametrize("features", [8, 64])
@pytest.mark.parametrize("size", [1, 2, 7, 20])
@pytest.mark.usefixtures("library")
def test_a_structure_is_the_same_to_the_last_bit_whatever_it_is_batched_with(
    backend, features, size
) -> None:
    """Else a relaxation, which magnifies rounding, would depend on the size of the batch."""
    many = [slab(k % 5, 1 + k % 3) for k in range(20)]
    graphs = [Graph.from_atoms(atoms, CUTOFF) for atoms in many]
    n = sum(len(atoms) for atoms in many[:size])
    score = score_network(backend, features=features).float()
    field = force_field(backend, features=features).float()
    field.shift = field.shift.double()
    some, all_of_them = collate(graphs[:size]), collate(graphs)
    t = torch.linspace(0.1, 1, 20)
    assert torch.equal(score(some, t[:size]), score(all_of_them, t)[:n])
    for found, expected in zip(field(some), field(all_of_them), strict=True):
        assert torch.equal(found, expected[: len(found)])
