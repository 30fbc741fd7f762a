"""Augmentation by periodic repetition: the same surface, described by a larger cell."""

from dataclasses import replace

import torch

from sdedata.graph import Graph, collate


def repeat(graph: Graph, repeats: tuple[int, int]) -> Graph:
    """Repeat every structure of the batch along its two in-plane cell vectors.

    Energies are multiplied, forces repeated (`ase.Atoms.repeat` drops both). Atoms of one structure
    stay contiguous, ordered image by image, as ASE orders them. Raises ValueError for repeats below
    1.
    """
    if min(repeats) < 1:
        raise ValueError(f"repeats must be at least 1 in each direction, not {repeats}")
    if repeats == (1, 1):
        return graph
    if graph.n_structures > 1:
        return collate([repeat(single, repeats) for single in graph.split()])
    images = torch.cartesian_prod(*(torch.arange(r) for r in repeats)).to(graph.positions)
    shifts = images @ graph.cell[0, :2]
    count = len(shifts)
    scale = graph.cell.new_tensor([*repeats, 1.0])
    return replace(
        graph,
        positions=(graph.positions[None] + shifts[:, None]).reshape(-1, 3),
        numbers=graph.numbers.repeat(count),
        batch=graph.batch.repeat(count),
        mobile=graph.mobile.repeat(count),
        cell=graph.cell * scale[:, None],
        energy=graph.energy * count if graph.energy is not None else None,
        forces=graph.forces.repeat(count, 1) if graph.forces is not None else None,
        max_edges=graph.max_edges * count if graph.max_edges is not None else None,
    )


def draw_repeats(max_repeats: int, generator: torch.Generator) -> tuple[int, int]:
    """Draw a pair of repeats with product at most `max_repeats`, uniform over the possible pairs.

    The paper repeats cells at random, for every batch, so that a model trained on small cells
    applies to larger ones. Raises ValueError if `max_repeats` is below 1.
    """
    if max_repeats < 1:
        raise ValueError(f"max_repeats must be at least 1, not {max_repeats}")
    pairs = [
        (i, j)
        for i in range(1, max_repeats + 1)
        for j in range(1, max_repeats + 1)
        if i * j <= max_repeats
    ]
    return pairs[int(torch.randint(len(pairs), (), generator=generator))]
