"""How well calculators rank structures: their energies beside those of one that is right.

Energies of a calculator have a zero of their own, so that only differences between structures of
the same atoms (composition, cell) are compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from ase import Atoms
from scipy.stats import bootstrap, spearmanr

from sdedata.frozen import frozen_mask
from sdedata.structures import same_atoms

RESAMPLES = 2000


def tabulate(labels: Mapping[str, Sequence[Atoms]]) -> pd.DataFrame:
    """One row for each structure that all calculators have labelled.

    Args:
        labels: the structures by calculator, with energies (eV) in `.calc` and their number in
            `.info["index"]`.

    Returns:
        Columns index, name, atoms (as `same_atoms` names them) and, by calculator, energies in eV.

    Raises:
        ValueError: if no two structures of the same atoms are labelled by all.
    """
    found = {key: {int(a.info["index"]): a for a in frames} for key, frames in labels.items()}
    common = sorted(set.intersection(*(set(frames) for frames in found.values())))
    first = next(iter(found.values()))
    rows = [
        {
            "index": index,
            "name": str(first[index].info.get("name", index)),
            "atoms": atoms,
            **{key: float(frames[index].get_potential_energy()) for key, frames in found.items()},
        }
        for index, atoms in zip(common, same_atoms([first[k] for k in common]), strict=True)
    ]
    if len(rows) == len({row["atoms"] for row in rows}):
        raise ValueError(
            f"{len(common)} structures are labelled by all, no two of them of the same atoms; "
            "energies of others do not compare"
        )
    return pd.DataFrame(rows)


def above_lowest(energies: pd.DataFrame, reference: str, names: Sequence[str]) -> pd.DataFrame:
    """Return the table of `tabulate` with energies above those of what the reference puts lowest.

    Each calculator's (`names`) by itself, for structures of the same atoms.
    """
    found = energies.copy()
    for _, group in energies.groupby("atoms"):
        found.loc[group.index, names] -= energies.loc[group[reference].idxmin(), names]
    return found


def above_own_lowest(energies: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return each calculator's energies (eV) above its own lowest of the same atoms."""
    return energies[names] - energies.groupby("atoms")[names].transform("min")


def energies_of(name: str, energies: pd.DataFrame, calculators: Sequence[str]) -> dict[str, float]:
    """Return where each calculator puts the structure of that name, above its own lowest (eV).

    Keys are calculator/atoms. Raises ValueError if no structure is called so.
    """
    called = energies["name"] == name
    if not called.any():
        raise ValueError(f"structure={name} is the name of none that all have labelled")
    above = above_own_lowest(energies, calculators)[called]
    lowest = above.groupby(energies["atoms"][called]).min()
    return {
        f"{key}/{atoms}": float(lowest.loc[atoms, key])
        for atoms in lowest.index
        for key in calculators
    }


def rank(
    energies: pd.DataFrame, reference: str, calculators: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Compare each calculator with the reference, over structures of the same atoms.

    Args:
        energies: as of `tabulate`.
        reference: the column that is right.
        calculators: the other columns.
        seed: of the bootstrap.

    Returns:
        One row for each calculator and kind of atoms with two structures or more: n; spearman,
        the rank correlation, with low and high of its 95 % interval (bootstrap over structures),
        NaN for two;
        mae, the mean error (eV) of the energy differences of all pairs; lowest, the name of the
        structure that it puts lowest, and lowest_true, by how much (eV) that lies above the lowest
        by the reference; truth, where (eV) it puts the structure that the reference puts lowest,
        above its own lowest.
    """
    return pd.DataFrame([
        {"calculator": calculator, "atoms": atoms, **_compared(group, reference, calculator, seed)}
        for atoms, group in energies.groupby("atoms")
        if len(group) >= 2
        for calculator in calculators
    ])  # fmt: skip


def _compared(group: pd.DataFrame, reference: str, calculator: str, seed: int) -> dict[str, object]:
    true, energy = group[reference].to_numpy(), group[calculator].to_numpy()
    low, high = interval(true, energy, seed)
    return {
        "n": len(group),
        "spearman": correlation(true, energy),
        "low": low,
        "high": high,
        "mae": mean_error(true, energy),
        "lowest": str(group["name"].iloc[int(energy.argmin())]),
        "lowest_true": float(true[energy.argmin()] - true.min()),
        "truth": float(energy[true.argmin()] - energy.min()),
    }


def correlation(true: np.ndarray, energy: np.ndarray) -> float:
    """Spearman's rank correlation; NaN for two structures, and where one of them is constant."""
    if len(true) < 3 or np.ptp(true) == 0 or np.ptp(energy) == 0:
        return float("nan")
    return float(spearmanr(true, energy).statistic)


def interval(true: np.ndarray, energy: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % interval of the rank correlation: percentiles of resampled structures.

    Resamples that have none, of one structure alone, are left out.
    """
    if len(true) < 3:
        return float("nan"), float("nan")
    found = bootstrap(
        (true, energy), lambda a, b: correlation(a, b), paired=True, vectorized=False,
        n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed),
    ).bootstrap_distribution  # fmt: skip
    low, high = np.nanpercentile(found, [2.5, 97.5]) if np.isfinite(found).any() else [np.nan] * 2
    return float(low), float(high)


def mean_error(true: np.ndarray, energy: np.ndarray) -> float:
    """Mean absolute error (eV) of the energy difference of two structures, over all pairs."""
    error = energy - true
    return float(np.mean([abs(a - b) for a, b in combinations(error, 2)]))


def force_errors(
    labels: Mapping[str, Sequence[Atoms]], reference: str
) -> Iterator[tuple[str, float]]:
    """Mean absolute error (eV/Å) of the force components on mobile atoms, by calculator."""
    right = {int(a.info["index"]): a for a in labels[reference]}
    for key, frames in labels.items():
        errors = [
            np.abs(
                (a.get_forces(apply_constraint=False) - b.get_forces(apply_constraint=False))[
                    ~frozen_mask(a)
                ]
            )
            for a in frames
            if (b := right.get(int(a.info["index"]))) is not None
        ]
        if key != reference and errors:
            yield key, float(np.concatenate(errors).mean())
