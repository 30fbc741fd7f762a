"""Padded neighbour lists: their length does not depend on the positions."""

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


def within_cutoff(graph: Graph) -> set[tuple[int, ...]]:
    """Sender, receiver and offset of every edge that is shorter than the cutoff."""
    near = graph.vectors.norm(dim=-1) < CUTOFF
    rows = torch.column_stack([graph.senders, graph.receivers, graph.offsets]).round().long()
    found = [tuple(row) for row in rows[near].tolist()]
    assert len(set(found)) == len(found), "an edge occurs twice"
    return set(found)


def moved(graph: Graph, seed: int) -> torch.Tensor:
    positions = graph.positions.clone()
    step = torch.randn(len(graph.mobile_indices), 3, generator=torch.Generator().manual_seed(seed))
    positions[graph.mobile_indices] += 0.5 * step.double()
    return positions


def test_padded_edges_within_the_cutoff_are_those_of_the_plain_list_and_their_number_is_fixed():
    graph = surfaces()
    padded, lengths = graph.padded(), set()
    for seed in range(5):
        positions = moved(graph, seed)
        there, plain = padded.at(positions), graph.at(positions)
        assert within_cutoff(there) == within_cutoff(plain)
        lengths.add(len(there.senders))
    assert len(lengths) == 1


def test_padding_is_beyond_the_cutoff_in_cells_of_any_shape():
    for cells in (["p3x3"], ["c2x8"], ["p4x4"]):
        graph = surfaces(1, cells).padded(3.0)
        padding = graph.vectors.norm(dim=-1) >= CUTOFF
        assert padding.any()
        assert (graph.senders[padding] == graph.receivers[padding]).all()


def test_only_a_structure_with_more_edges_than_max_edges_becomes_nan():
    """All atoms of one structure at one point have more neighbours than max_edges."""
    graph = surfaces().padded(1.2)
    positions = graph.positions.clone()
    crowd = graph.mobile_indices[graph.batch[graph.mobile_indices] == 1]
    positions[crowd] = positions[graph.batch == 1].mean(0)
    crowded = graph.at(positions)
    broken = crowded.vectors.isnan().any(-1)
    assert broken.any()
    assert set(graph.batch[crowded.receivers[broken]].tolist()) == {1}
    (to_crowd,) = torch.nonzero(torch.isin(crowded.receivers, crowd), as_tuple=True)
    others = to_crowd[~broken[to_crowd]]
    assert (crowded.senders[others] == crowded.receivers[others]).all()  # padding
    of_others = {edge for edge in within_cutoff(crowded) if graph.batch[edge[1]] != 1}
    assert of_others == {edge for edge in within_cutoff(graph) if graph.batch[edge[1]] != 1}


def test_a_batch_has_the_largest_max_edges_if_all_graphs_are_padded():
    one, other = surfaces(1).padded(2.0), surfaces(2).padded(1.5)
    assert collate([one, other]).max_edges == max(one.max_edges, other.max_edges)
    assert collate([one, surfaces(1)]).max_edges is None


def test_an_isolated_atom_has_padding_for_a_neighbour_that_comes_near():
    atoms = Atoms("Ag2", [[0, 0, 0], [0, 0, 9]], cell=[20, 20, 20], pbc=[True, True, False])
    graph = Graph.from_atoms(atoms, CUTOFF, dtype=torch.float64).padded()
    assert within_cutoff(graph) == set()
    met = graph.at(graph.positions * 0.5)
    assert len(within_cutoff(met)) == 2 or met.vectors.isnan().any()


def test_graphs_that_cannot_be_padded_raise():
    cluster = Graph.from_atoms(Atoms("Ag2", [[0, 0, 0], [0, 0, 2]]), CUTOFF)
    with pytest.raises(ValueError, match="a first cell vector"):
        len(cluster.padded().senders)
    frozen = surfaces(1)
    with pytest.raises(ValueError, match="no atom is mobile"):
        replace(frozen, mobile=torch.zeros_like(frozen.mobile)).padded()


def test_repeated_cells_multiply_max_edges():
    graph = surfaces(1, ["p3x3"]).padded(1.2)
    assert within_cutoff(repeat(graph, (2, 1))) == within_cutoff(
        repeat(replace(graph, max_edges=None), (2, 1))
    )


def test_max_edges_is_the_factor_times_the_most_edges_of_a_structure():
    graph = surfaces()
    assert graph.padded().padded(1.5).max_edges == graph.padded(1.5).max_edges
    to_mobile = graph.mobile[graph.receivers]
    most = torch.bincount(graph.batch[graph.receivers[to_mobile]]).max()
    assert graph.padded(1.5).max_edges == -(-3 * int(most) // 2)
