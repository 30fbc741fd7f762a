"""Lists of neighbours whose length does not depend on where atoms are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

from sdedata import Graph, Template, collate, repeat

CUTOFF = 5.0


def surfaces(n=3, cells=("p3x3", "c2x8"), seed=0) -> Graph:
    """n random overlayers of each cell, in one batch."""
    rng, graphs = np.random.default_rng(seed), []
    for cell in cells:
        template = Template.ag111(cell)
        for _ in range(n):
            fractions = np.column_stack([rng.uniform(-1, 2, (5, 2)), np.zeros(5)])
            places = fractions @ template.slab.cell.array
            places[:, 2] = rng.uniform(*template.window, 5)
            atoms = template.surface("Ag3O2", places)
            graphs.append(Graph.from_atoms(atoms, CUTOFF, template.window, dtype=torch.float64))
    return collate(graphs)


def heard(graph: Graph) -> set[tuple[int, ...]]:
    """Sender, receiver and offset of every edge that is shorter than the cutoff."""
    near = graph.vectors.norm(dim=-1) < CUTOFF
    rows = torch.column_stack([graph.senders, graph.receivers, graph.offsets]).round().long()
    found = [tuple(row) for row in rows[near].tolist()]
    assert len(set(found)) == len(found), "an edge occurs twice"
    return set(found)


def moved(graph: Graph, seed: int) -> torch.Tensor:
    positions = graph.positions.clone()
    step = torch.randn(len(graph.movers), 3, generator=torch.Generator().manual_seed(seed))
    positions[graph.movers] += 0.5 * step.double()
    return positions


def test_edges_are_the_same_wherever_atoms_move_and_as_many():
    graph = surfaces()
    roomy, lengths = graph.with_room(), set()
    for seed in range(5):
        positions = moved(graph, seed)
        there, plain = roomy.at(positions), graph.at(positions)
        assert heard(there) == heard(plain)
        lengths.add(len(there.senders))
    assert len(lengths) == 1


def test_silent_edges_are_beyond_the_cutoff_in_cells_of_any_shape():
    for cells in (["p3x3"], ["c2x8"], ["p4x4"]):
        graph = surfaces(1, cells).with_room(3.0)
        silent = graph.vectors.norm(dim=-1) >= CUTOFF
        assert silent.any()
        assert (graph.senders[silent] == graph.receivers[silent]).all()


def test_a_structure_with_more_neighbours_than_room_is_no_number_and_alone_so():
    """All atoms of one structure in one place see more than there was room for."""
    graph = surfaces().with_room(1.2)
    positions = graph.positions.clone()
    crowd = graph.movers[graph.batch[graph.movers] == 1]
    positions[crowd] = positions[graph.batch == 1].mean(0)
    crowded = graph.at(positions)
    broken = crowded.vectors.isnan().any(-1)
    assert broken.any()
    assert set(graph.batch[crowded.receivers[broken]].tolist()) == {1}
    (to_crowd,) = torch.nonzero(torch.isin(crowded.receivers, crowd), as_tuple=True)
    others = to_crowd[~broken[to_crowd]]
    assert (crowded.senders[others] == crowded.receivers[others]).all()  # silent
    of_others = {edge for edge in heard(crowded) if graph.batch[edge[1]] != 1}
    assert of_others == {edge for edge in heard(graph) if graph.batch[edge[1]] != 1}


def test_a_batch_has_the_largest_room_if_all_have_some():
    one, other = surfaces(1).with_room(2.0), surfaces(2).with_room(1.5)
    assert collate([one, other]).room == max(one.room, other.room)
    assert collate([one, surfaces(1)]).room is None


def test_a_lonely_atom_has_room_for_a_neighbour_that_comes():
    atoms = Atoms("Ag2", [[0, 0, 0], [0, 0, 9]], cell=[20, 20, 20], pbc=[True, True, False])
    graph = Graph.from_atoms(atoms, CUTOFF, dtype=torch.float64).with_room()
    assert heard(graph) == set()
    met = graph.at(graph.positions * 0.5)
    assert len(heard(met)) == 2 or met.vectors.isnan().any()


def test_what_there_is_no_room_for_is_told():
    cluster = Graph.from_atoms(Atoms("Ag2", [[0, 0, 0], [0, 0, 2]]), CUTOFF)
    with pytest.raises(ValueError, match="a first cell vector"):
        len(cluster.with_room().senders)
    frozen = surfaces(1)
    with pytest.raises(ValueError, match="no atom is mobile"):
        replace(frozen, mobile=torch.zeros_like(frozen.mobile)).with_room()


def test_repeated_cells_have_room_for_all_their_atoms():
    graph = surfaces(1, ["p3x3"]).with_room(1.2)
    assert heard(repeat(graph, (2, 1))) == heard(repeat(replace(graph, room=None), (2, 1)))


def test_room_is_for_the_fullest_structure_and_some():
    graph = surfaces()
    assert graph.with_room().with_room(1.5).room == graph.with_room(1.5).room
    to_mobile = graph.mobile[graph.receivers]
    most = torch.bincount(graph.batch[graph.receivers[to_mobile]]).max()
    assert graph.with_room(1.5).room == -(-3 * int(most) // 2)
