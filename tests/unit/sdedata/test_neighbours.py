"""Neighbour lists against ASE's, edge by edge, for every backend that is installed."""

from importlib.util import find_spec
from inspect import unwrap

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from sdedata import neighbour_list
from sdedata.neighbours import Edges, Search, edge_vectors
from sdedata.template import Template

cluster = pytest.param(
    "cluster",
    marks=pytest.mark.skipif(
        find_spec("torch_cluster") is None, reason="torch-cluster is not installed: make cluster"
    ),
)
backends = pytest.mark.parametrize("backend", ["auto", "torch", cluster])


def edges(frames, cutoff, backend="auto", is_receiver=None):
    """Our list for a batch of ASE structures: (senders, receivers, offsets) and its inputs."""
    counts = [len(atoms) for atoms in frames]
    positions = torch.tensor(np.concatenate([atoms.positions for atoms in frames]))
    cell = torch.tensor(np.array([atoms.cell.array for atoms in frames]))
    pbc = torch.tensor(np.array([atoms.pbc for atoms in frames]))
    batch = torch.repeat_interleave(torch.arange(len(frames)), torch.tensor(counts))
    found = neighbour_list(positions, cell, pbc, batch, cutoff, backend, is_receiver)
    return found, edge_vectors(positions, cell, batch, found)


def as_set(senders, receivers, offsets):
    rows = np.column_stack([receivers, senders, np.round(offsets)]).astype(int)
    return set(map(tuple, rows.tolist()))


def ase_set(frames, cutoff):
    """(receiver, sender, offset) of every edge according to ASE, atoms numbered over the batch."""
    found, start = set(), 0
    for atoms in frames:
        i, j, shift = primitive_neighbor_list(
            "ijS", atoms.pbc, atoms.cell.array, atoms.positions, cutoff
        )
        found |= as_set(j + start, i + start, shift)
        start += len(atoms)
    return found


def assert_as_ase(frames, cutoff, backend):
    found, vectors = edges(frames, cutoff, backend)
    ours = as_set(*found)
    assert len(ours) == len(found.senders), "an edge occurs twice"
    assert ours == ase_set(frames, cutoff)
    assert (found.receivers.diff() >= 0).all(), "edges are not sorted by receiver"
    distances = primitive_distances(frames, cutoff)
    assert np.allclose(np.sort(vectors.norm(dim=-1).numpy()), np.sort(distances), atol=1e-10)


def primitive_distances(frames, cutoff):
    return np.concatenate(
        [primitive_neighbor_list("d", a.pbc, a.cell.array, a.positions, cutoff) for a in frames]
    )


def unwrapped(atoms, seed=0):
    """The same crystal, each atom moved by some lattice vectors along periodic directions."""
    moved = atoms.copy()
    shifts = np.random.default_rng(seed).integers(-3, 4, (len(atoms), 3)) * atoms.pbc
    moved.positions += shifts @ atoms.cell.array
    return moved


@backends
@pytest.mark.parametrize("cell", ["c2x8", "p3x3", "p4x4"])
def test_silver_slabs_have_all_their_neighbours(cell, backend):
    template = Template.ag111(cell)
    rng = np.random.default_rng(1)
    fractions = np.column_stack([rng.random((6, 2)), np.zeros(6)])
    places = fractions @ template.slab.cell.array
    places[:, 2] = rng.uniform(*template.window, 6)
    atoms = template.surface("Ag4O2", places)
    assert_as_ase([atoms], 6.0, backend)
    (found, _), n = edges([atoms], 6.0, backend), len(atoms)
    assert torch.bincount(found.receivers, minlength=n).max() > 32  # the default cap elsewhere


@backends
@pytest.mark.parametrize("pbc", list(np.ndindex(2, 2, 2)))
def test_mixed_periodicity_in_a_triclinic_cell_smaller_than_the_cutoff(pbc, backend):
    cell = [[2.1, 0.3, -0.2], [-1.2, 2.6, 0.4], [0.5, -0.9, 1.9]]
    fractions = np.random.default_rng(2).random((3, 3))
    atoms = Atoms("AgOAg", cell=cell, scaled_positions=fractions, pbc=pbc)
    assert_as_ase([atoms], 5.0, backend)
    assert_as_ase([unwrapped(atoms)], 5.0, backend)


@backends
def test_one_atom_is_a_neighbour_of_its_own_images(backend):
    atoms = bulk("Ag", a=4.15)
    assert_as_ase([atoms], 6.0, backend)
    found, vectors = edges([atoms], 3.0, backend)
    assert len(found.senders) == 12  # the coordination of fcc
    assert torch.allclose(vectors.norm(dim=-1), torch.tensor(4.15 / 2**0.5, dtype=torch.float64))


@backends
def test_a_pair_at_the_cutoff_is_no_edge(backend):
    """Distances of a cubic crystal with a = 2 are exact in floating point."""
    atoms = Atoms("Po", cell=[2.0, 2.0, 2.0], pbc=True)
    assert_as_ase([atoms], 2.0, backend)
    assert len(edges([atoms], 2.0, backend)[0].senders) == 0
    assert len(edges([atoms], np.nextafter(2.0, 3.0), backend)[0].senders) == 6
    assert len(edges([atoms], 4.0, backend)[0].senders) == 26  # 27 images within ±2, less itself
    assert len(edges([atoms], np.nextafter(4.0, 5.0), backend)[0].senders) == 32  # and six at 4 Å


@backends
def test_missing_cell_vectors(backend):
    sheet = graphene(size=(1, 1, 1))  # a cell in the plane only
    chain = Atoms("AgO", positions=[[0, 0, 0], [0.3, 1.0, 0.5]], cell=[2.0, 0, 0], pbc=[1, 0, 0])
    free = molecule("C6H6")
    slab = fcc111("Ag", (1, 1, 2), a=4.15)
    for atoms in (sheet, chain, free, slab):
        assert atoms.cell.rank < 3
        assert_as_ase([atoms], 4.5, backend)


@backends
def test_batches_of_different_cells(backend):
    frames = [
        Template.ag111("p3x3").slab,
        molecule("C6H6"),
        unwrapped(bulk("Ag", a=4.15)),
        fcc111("Pt", (2, 1, 3)),
        Atoms("O"),
        unwrapped(Template.ag111("c2x8").slab),
    ]
    assert_as_ase(frames, 5.2, backend)


@st.composite
def crystals(draw):
    """Triclinic cells, thin ones included, with atoms anywhere, periodic in any directions."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(1.2, 7.0, 3)
    cell = rng.normal(size=(3, 3))
    cell *= (lengths / np.linalg.norm(cell, axis=1))[:, None]
    # Not flatter than what a cutoff of 4 Å makes of some thousand images.
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if heights.min() < 0.6:
        cell = np.diag(lengths)
    fractions = rng.uniform(-2, 3, (draw(st.integers(1, 6)), 3))
    pbc = [draw(st.booleans()) for _ in range(3)]
    return Atoms(["Ag"] * len(fractions), cell=cell, scaled_positions=fractions, pbc=pbc)


@backends
@settings(max_examples=40, deadline=None)
@given(frames=st.lists(crystals(), min_size=1, max_size=3), cutoff=st.floats(1.0, 4.0))
def test_any_cells(backend, frames, cutoff):
    assert_as_ase(frames, cutoff, backend)


@backends
def test_every_edge_has_its_reverse(backend):
    found, _ = edges([Template.ag111("p3x3").slab, bulk("Ag", a=4.15)], 6.0, backend)
    senders, receivers, offsets = found
    assert as_set(*found) == as_set(receivers, senders, -offsets)


@backends
def test_some_receivers_alone(backend):
    frames = [unwrapped(Template.ag111("p3x3").slab), molecule("C6H6"), bulk("Ag", a=4.15)]
    (whole, _), n = edges(frames, 5.0, backend), sum(map(len, frames))
    for some in (torch.arange(n) % 3 == 0, torch.arange(n) < 4, torch.arange(n) < 0):
        found, _ = edges(frames, 5.0, backend, some)
        assert all(map(torch.equal, found, (x[some[whole.receivers]] for x in whole)))


@backends
def test_single_precision_agrees_with_double(backend):
    atoms = Template.ag111("p4x4").slab
    double = ase_set([atoms], 6.0)  # no pair lies within 0.05 Å of 6 Å in this crystal
    found = neighbour_list(
        torch.tensor(atoms.positions, dtype=torch.float32),
        torch.tensor(atoms.cell.array[None], dtype=torch.float32),
        torch.tensor(atoms.pbc[None]),
        torch.zeros(len(atoms), dtype=torch.int64),
        6.0,
        backend,
    )
    assert as_set(*found) == double


@backends
@pytest.mark.parametrize("place", [np.nan, np.inf])
def test_an_atom_that_is_not_finite_has_no_edges_and_disturbs_no_other(place, backend):
    atoms = Template.ag111("p3x3").slab
    broken = atoms.copy()
    broken.positions[4] = place
    kept = {edge for edge in ase_set([atoms], 6.0) if 4 not in edge[:2]}
    assert as_set(*edges([broken], 6.0, backend)[0]) == kept


@pytest.mark.parametrize("cells", [1e3, 1e9, 1e15])
def test_an_atom_far_away_takes_no_longer_and_disturbs_no_other(cells):
    """All its images near another atom would be looked for among those that rounding allows."""
    atoms = Template.ag111("p3x3").slab
    kept = {edge for edge in ase_set([atoms], 6.0) if 4 not in edge[:2]}
    lost = atoms.copy()
    lost.positions[4] += cells * atoms.cell.array[0]
    found = as_set(*edges([lost], 6.0)[0])
    assert {edge for edge in found if 4 not in edge[:2]} == kept
    if cells < 1e6:
        assert len(found) == len(ase_set([atoms], 6.0))


def test_compiled_vectors_are_torchs_to_the_last_bit():
    atoms = unwrapped(Template.ag111("p4x4").slab)
    for dtype in (torch.float32, torch.float64):
        positions = torch.tensor(atoms.positions, dtype=dtype)
        cell = torch.tensor(atoms.cell.array[None], dtype=dtype)
        batch = torch.zeros(len(atoms), dtype=torch.int64)
        found = neighbour_list(positions, cell, torch.tensor(atoms.pbc[None]), batch, 6.0)
        compiled = edge_vectors(positions, cell, batch, found)
        by_torch = edge_vectors(positions.requires_grad_(), cell, batch, found)
        assert by_torch.requires_grad
        assert torch.equal(compiled, by_torch)


def test_vectors_are_differentiable_through_positions_only():
    atoms = Template.ag111("p3x3").slab
    positions = torch.tensor(atoms.positions, requires_grad=True)
    cell = torch.tensor(atoms.cell.array[None])
    batch = torch.zeros(len(atoms), dtype=torch.int64)
    found = neighbour_list(positions, cell, torch.tensor(atoms.pbc[None]), batch, 4.0)
    lengths = edge_vectors(positions, cell, batch, found).square().sum()
    (gradient,) = torch.autograd.grad(lengths, positions)
    # Both directions are there: a receiver's pull on its senders balances what they pull at it.
    expected = torch.zeros_like(positions)
    expected.index_add_(0, found.senders, 4 * edge_vectors(positions, cell, batch, found).detach())
    assert torch.allclose(gradient, expected, atol=1e-10)


def test_forward_mode_derivatives_are_not_dropped():
    positions, along = torch.rand(2, 3), torch.rand(2, 3)
    cell, batch = torch.eye(3)[None] * 9, torch.zeros(2, dtype=torch.int64)
    found = neighbour_list(positions, cell, torch.zeros(1, 3, dtype=torch.bool), batch, 4.0)
    with forward_ad.dual_level():
        vectors = edge_vectors(forward_ad.make_dual(positions, along), cell, batch, found)
        change = forward_ad.unpack_dual(vectors).tangent
    assert torch.allclose(change, along[found.senders] - along[found.receivers])


def test_bad_input_is_named():
    atoms = Template.ag111("p3x3").slab
    for batch in ([1, 0], [0, 2], [-1, 0]):
        given = torch.rand(2, 3), torch.eye(3).expand(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
        with pytest.raises(ValueError, match="in the order of their structures, 0 to 1"):
            neighbour_list(*given, torch.tensor(batch), 3.0)
    ones = torch.ones(1)
    with pytest.raises(ValueError, match="1 of `is_receiver`: give one for each atom"):
        # without the tests' own check of types
        unwrap(Search.of.__func__)(Search, *given[1:], torch.arange(2), 3.0, "auto", ones > 0)
    for cutoff in (np.nan, np.inf, 0.0):
        with pytest.raises(ValueError, match="the cutoff must be a length"):
            edges([atoms], cutoff)
    found, _ = edges([atoms], 6.0)
    beyond = Edges(found.senders + len(atoms), *found[1:])
    positions, cell = torch.tensor(atoms.positions), torch.eye(3).double()[None]
    zeros = torch.zeros(len(atoms), dtype=torch.int64)
    with pytest.raises(IndexError, match="are not those of the structures"):
        edge_vectors(positions, cell, zeros, beyond)
    with pytest.raises(ValueError, match="neighbour backend must be one of"):
        edges([atoms], 6.0, "fast")
    endless = Atoms("Ag", pbc=True)
    with pytest.raises(ValueError, match="periodic direction has a cell vector of zero length"):
        edges([endless], 6.0)
    flat = Atoms("Ag", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True)
    with pytest.raises(ValueError, match="structure 1 of the batch span no volume"):
        edges([atoms, flat], 6.0)


@pytest.mark.skipif(find_spec("torch_cluster") is not None, reason="torch-cluster is installed")
def test_the_error_of_a_missing_backend_names_its_installation():
    with pytest.raises(ValueError, match="make cluster"):
        edges([bulk("Ag")], 3.0, "cluster")
