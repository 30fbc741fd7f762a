"""How the time of a score evaluation grows with atoms, batch and cutoff; its neighbour list counts.

All of Ag6O3 on p(3x3): in larger and larger repeats and with longer cutoffs, four at a time; and in
larger and larger batches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from experiments.harness.benchmarks.machine import clock
from experiments.harness.config.settings import Benchmark
from experiments.harness.figures.style import COLOURS, styled
from painnx import ScoreNetwork
from sdedata import Graph, collate, repeat, shipped

TRIES, FEW = 3, 4
AXES = {
    "atoms": "Atoms in the cell",
    "batch": "Structures in a batch",
    "cutoff": "Cutoff (Å)",
}


def measure(config: Benchmark, device: torch.device) -> dict[str, list[dict[str, float]]]:
    """Per axis, points with x, seconds per structure, atoms and edges per structure."""
    settings, cutoff = config.growth, config.cutoff
    network = _network(config, cutoff, device)
    one = _structure(cutoff)
    found: dict[str, list[dict[str, float]]] = {axis: [] for axis in AXES}
    for a, b in settings.repeats:
        graph = collate([repeat(one, (a, b))] * FEW)
        found["atoms"].append(_point(len(graph.numbers) // FEW, network, graph, device))
    for n in settings.batches:
        found["batch"].append(_point(n, network, collate([one] * n), device))
    for value in settings.cutoffs:
        graph = collate([_structure(value)] * FEW)
        found["cutoff"].append(_point(value, _network(config, value, device), graph, device))
    return found


def _network(config: Benchmark, cutoff: float, device: torch.device) -> ScoreNetwork:
    return ScoreNetwork([8, 47], cutoff=cutoff, **config.network.plain()).to(device).eval()


def _structure(cutoff: float) -> Graph:
    return Graph.from_atoms(shipped.load("rss_ag6o3_p3x3").atoms(0), cutoff)


def _point(x: float, network: ScoreNetwork, graph: Graph, device: torch.device) -> dict[str, float]:
    graph = graph.to(device)
    t = torch.full((graph.n_structures,), 0.5, device=device)
    times = []
    with torch.no_grad():
        for _ in range(TRIES + 1):
            moved = graph.at(graph.positions)  # a graph keeps its edges: every try needs a new one
            started = clock(device)
            network(moved, t)
            times.append(clock(device) - started)
    n = graph.n_structures
    return {
        "x": x, "seconds": min(times[1:]) / n, "atoms": len(graph.numbers) / n,
        "edges": len(moved.senders) / n,
    }  # fmt: skip


@styled
def figure(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Milliseconds per structure against atoms, batch and cutoff; both axes logarithmic."""
    sheet = Figure(figsize=(8.4, 2.8), layout="constrained")
    panels = sheet.subplots(1, len(AXES), sharey=True)
    for axes, (axis, label), colour in zip(panels, AXES.items(), COLOURS, strict=False):
        x = [point["x"] for point in found[axis]]
        y = [1000 * point["seconds"] for point in found[axis]]
        axes.plot(x, y, "o-", color=colour, markersize=4)
        axes.set(xscale="log", yscale="log", xlabel=label)
        if axis == "atoms":  # what a time per atom that stays the same would be
            same = [y[0] * atoms / x[0] for atoms in x]
            axes.plot(x, same, color="0.6", linestyle=(0, (4, 2)), linewidth=1, zorder=1,
                      label="proportional to atoms")  # fmt: skip
            axes.legend(loc="upper left")
        axes.xaxis.set_major_locator(FixedLocator(x))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        for one in (axes.xaxis, axes.yaxis):
            one.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            one.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(FixedLocator([]))
    every = [1000 * point["seconds"] for points in found.values() for point in points]
    panels[0].set_ylim(min(every) / 1.6, max(every) * 1.6)
    panels[0].set_ylabel("Time per structure (ms)")
    return sheet
