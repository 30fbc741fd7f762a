"""The numbers of an evaluation: shares, energies from a common zero, hits, beside a reference."""

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from sdedata import StructureSet
from sdedata.similarity import same

if TYPE_CHECKING:
    import pandas as pd

BELOW = 0.05
"""eV under the reference minimum from which a structure counts as lower, not the same."""


def summarise(
    found: "pd.DataFrame",
    reference: StructureSet | None,
    tolerance: float,
    target: Atoms | None = None,
) -> dict[str, Any]:
    """Return the metrics of a table that are no statistics of energies; shares are of all rows."""
    n = len(found)
    done = found[found["energy"].notna()]
    surfaces = done[done["adsorbed"]]
    metrics: dict[str, Any] = {
        "gen/n": n,
        "gen/frac_finite": float(found["finite"].mean()),
        "gen/frac_valid": float(found["valid"].mean()),
        "gen/frac_unique": surfaces["surface"].nunique() / n,
        "gen/failed": int(found["finite"].sum()) - len(done),
    }
    if len(done):
        metrics["gen/relax_steps_mean"] = float(done["steps"].mean())
        metrics["gen_relaxed/frac_converged"] = int(done["converged"].sum()) / n
        metrics["gen_relaxed/frac_adsorbed"] = len(surfaces) / n
    if reference is not None:
        minimum = float(reference.energy.min())
        metrics["gen/hit_rate"] = int(found["hit"].sum()) / n
        metrics["gen/frac_below_reference"] = int((surfaces["energy"] < minimum - BELOW).sum()) / n
        metrics |= _of_reference(reference, tolerance)
    if target is not None:
        metrics |= _of_target(found, reference, tolerance, target)
    return metrics


def _of_target(
    found: "pd.DataFrame", reference: StructureSet | None, tolerance: float, target: Atoms
) -> dict[str, Any]:
    """Return how often the target was found, how closely, and how many surfaces lie lower."""
    energy, distances = float(target.get_potential_energy()), found["target_distance"].dropna()
    lower = found[found["adsorbed"] & (found["energy"] < energy - BELOW)]
    metrics = {
        "target/n": len(found),
        "target/hits": int((distances <= tolerance).sum()),
        "target/energy": energy - zero_of(found["energy"], reference),
        "target/lower": lower["surface"].nunique(),
    }
    if len(distances):
        metrics["target/closest"] = float(distances.min())
    if reference is not None:
        near = (same(atoms, target, tolerance) for atoms in reference.to_atoms())
        metrics["rss/target_hits"] = sum(near)
    return metrics


def _of_reference(reference: StructureSet, tolerance: float) -> dict[str, Any]:
    """Return the metrics of random search."""
    lowest, known = lowest_of(reference), reference.relative_energy
    # The minimum was taken from this set: it does not count as a hit of its own.
    found = sum(same(atoms, lowest, tolerance) for atoms in reference.to_atoms()) - 1
    metrics = {"rss/hit_rate": found / max(1, len(reference) - 1), "rss/n": len(reference)}
    if "relax_steps" in reference.info:
        metrics["rss/relax_steps_mean"] = float(np.mean(reference.info["relax_steps"]))
    median = float(np.median(known))
    return metrics | {"rss/energy_mean": float(known.mean()), "rss/energy_median": median}


def lowest_of(reference: StructureSet) -> Atoms:
    return reference.atoms(int(np.argmin(reference.energy)))


def zero_of(energies: Any, reference: StructureSet | None) -> float:
    """Return the energy (eV) that others are above: the reference's lowest, or their own."""
    if reference is not None:
        return float(reference.energy.min())
    lowest = np.nanmin([*energies, np.inf])
    return float(lowest) if np.isfinite(lowest) else 0.0


def relative_energies(
    evaluated: list[Atoms], relaxed: list[Atoms], reference: StructureSet | None
) -> dict[str, Any]:
    """Energies (eV) before and after relaxation and of random search, from a common zero.

    The zero is the minimum of random search; where there is none, of what was relaxed here.
    """
    before = [float(atoms.get_potential_energy()) for atoms in evaluated]
    after = [float(atoms.get_potential_energy()) for atoms in relaxed]
    rss = reference.energy.tolist() if reference is not None else []
    zero = zero_of(after or before, reference)
    return {
        "gen": [e - zero for e in before],
        "gen_relaxed": [e - zero for e in after],
        "rss": [e - zero for e in rss],
        "zero": zero,
    }
