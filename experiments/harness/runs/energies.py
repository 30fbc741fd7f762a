"""Energies of a set of structures as numbers that runs can be compared by."""

from collections.abc import Iterable

import numpy as np

# The same for every run, so that counts can be compared and drawn over each other: eV above the
# reference minimum, whatever lies outside counted in "below" and "above".
EDGES = np.arange(-0.5, 5.01, 0.25)


def finite(energies: Iterable[float | None]) -> np.ndarray:
    """The finite ones of ``energies``, None counting as not finite."""
    values = np.array([np.nan if energy is None else float(energy) for energy in energies])
    return values[np.isfinite(values)]


def energy_statistics(name: str, energies: Iterable[float | None]) -> dict[str, float]:
    """Mean, standard deviation (of the set) and quantiles, over finite energies; NaN if none."""
    values = finite(energies)
    if not len(values):
        values = np.array([np.nan])
    p10, median, p90 = np.quantile(values, [0.1, 0.5, 0.9])
    numbers = {
        "mean": values.mean(),
        "min": values.min(),
        "p10": p10,
        "median": median,
        "p90": p90,
        "std": values.std(),
    }
    return {f"{name}/energy_{key}": float(number) for key, number in numbers.items()}


def bin_counts(name: str, energies: Iterable[float | None]) -> dict[str, int]:
    """Counts in the fixed bins, each named by its lower edge in meV; NaN in none of them."""
    values = finite(energies)
    padded = np.concatenate([[-np.inf], EDGES, [np.inf]])
    counts = np.histogram(values, padded)[0]
    labels = ["below", *(f"{round(1000 * edge):+05d}meV" for edge in EDGES[:-1]), "above"]
    return {
        f"{name}/energy_bins/{key}": int(count) for key, count in zip(labels, counts, strict=True)
    }
