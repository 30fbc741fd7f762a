"""One look for every figure."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct for the common kinds of colour blindness, and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "surfaces",
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let ``draw`` make its figure in this style, whatever the user's settings are."""

    @wraps(draw)
    def with_style(*arguments: Any, **keywords: Any) -> Figure:
        defaults: Any = dict(matplotlib.rcParamsDefault)
        with matplotlib.rc_context({**defaults, **STYLE, "backend": "agg"}):
            return draw(*arguments, **keywords)

    return with_style
