"""Energies by several calculators against those of one that is right."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from experiments.harness.figures.style import COLOURS, styled


@styled
def scatter(energies: pd.DataFrame, reference: str, calculators: Sequence[str]) -> Figure:
    """One panel for each kind of atoms.

    Args:
        energies: in eV, as of `comparison.ranking.above_lowest`.
        reference: the column on the horizontal axis.
        calculators: the columns that are drawn, a colour each.
    """
    groups = [(atoms, group) for atoms, group in energies.groupby("atoms") if len(group) >= 2]
    figure = Figure(figsize=(3.6 * len(groups) + 0.4, 3.6), layout="constrained")
    for axes, (atoms, group) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups,
                                    strict=True):  # fmt: skip
        right = group[reference]
        for k, name in enumerate(calculators):
            axes.plot(
                right, group[name], "o", color=COLOURS[k], markersize=4, alpha=0.8, label=name
            )
        limit = float(right.max()) * 1.05
        axes.plot([0, limit], [0, limit], color="0.6", linewidth=0.8, zorder=0)
        axes.set_xlabel(f"{reference} (eV)")
        axes.set_ylabel("calculator (eV)")
        axes.set_title(f"{atoms}, above the lowest by {reference}")
        axes.legend(frameon=False)
    return figure
