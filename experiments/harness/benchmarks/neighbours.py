"""Neighbour lists of one batch, by us and by others: all pairs with their lattice offsets."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch

from sdedata import Graph, neighbour_list

Lister = Callable[[], int]
"""Makes the lists of all structures; returns the number of edges."""


def listers(graph: Graph, threads: int) -> Iterator[tuple[str, Lister | None]]:
    """Each way with its name; None where it is not installed."""
    atoms = graph.to("cpu").to_atoms()

    def batched(backend: str) -> Lister:
        # fmt: off
        return lambda: len(neighbour_list(
            graph.positions, graph.cell, graph.pbc, graph.batch, graph.cutoff, backend
        ).senders)
        # fmt: on

    yield "ours", batched("auto")
    yield "torch-cluster", batched("cluster") if find_spec("torch_cluster") else None
    if find_spec("matscipy"):
        from matscipy.neighbours import neighbour_list as matscipy

        yield "matscipy", lambda: sum(len(matscipy("ijS", a, graph.cutoff)[0]) for a in atoms)
    else:
        yield "matscipy", None
    if find_spec("vesin"):
        from vesin import NeighborList

        search = NeighborList(cutoff=graph.cutoff, full_list=True, n_threads=threads)
        arrays = [(a.positions, a.cell.array, a.pbc) for a in atoms]
        yield "vesin", lambda: sum(len(search.compute(*x, quantities="ijS")[0]) for x in arrays)
    else:
        yield "vesin", None


def agreeing(graph: Graph, threads: int) -> tuple[dict[str, Lister], int, list[str]]:
    """The ways that find as many edges as we do, that number, and why others are left out."""
    found: dict[str, Lister] = {}
    notes: list[str] = []
    edges = 0
    with torch.no_grad():
        for name, lister in listers(graph, threads):
            if lister is None:
                notes.append(f"{name} is not installed: its neighbour lists are left out")
                continue
            n = lister()
            edges = edges or n
            if n == edges:
                found[name] = lister
            else:
                notes.append(f"{name} finds {n} edges instead of {edges}: it is left out")
    return found, edges, notes
