"""Which share of known structures comes back from which level of noise."""

import pandas as pd
from matplotlib.figure import Figure

from experiments.harness.figures.style import COLOURS, styled


@styled
def recall(shares: pd.DataFrame, tolerance: float) -> Figure:
    """Draw the share that comes back with its interval, and the median displacement.

    Args:
        shares: columns sigma (Å), share, low, high, displacement (Å).
        tolerance: Å, below which a structure has come back.
    """
    figure = Figure(figsize=(6.6, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    errors = [shares["share"] - shares["low"], shares["high"] - shares["share"]]
    left.errorbar(
        shares["sigma"], shares["share"], yerr=errors, fmt="o-", color=COLOURS[0], capsize=3
    )
    left.set_ylim(-0.02, 1.02)
    left.set_ylabel("share that comes back (95 %)")
    right.plot(shares["sigma"], shares["displacement"], "o-", color=COLOURS[1])
    right.axhline(tolerance, color="0.6", linestyle="--", linewidth=0.8)
    right.set_ylim(0, None)
    right.set_ylabel("median displacement (Å)")
    for axes in (left, right):
        axes.set_xlabel("noise, sigma (Å)")
        axes.set_xlim(0, None)
    return figure
