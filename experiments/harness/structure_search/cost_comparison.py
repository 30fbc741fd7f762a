"""How ways to relax the same starts compare: calls, CPU time, energies, and surfaces found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest, ks_2samp, mannwhitneyu, wilcoxon

from experiments.harness.runs.markdown import table as markdown
from experiments.harness.structure_search.search import is_minimum
from sdedata import StructureSet
from sdedata.dataset import concatenate
from sdedata.similarity import same, unique

WAYS = {
    "prerelaxed": "surrogate pre-relaxation",
    "trust_region": "surrogate, trust radius {trust_radius:g} Å",
    "alone": "our optimiser, calculator alone",
    "ase": "ASE's BFGS, calculator alone",
}
PLAIN = "ase"
"""The way that the others are compared with."""
OWN = "alone"
"""What a search with the surrogate would be without it."""
RESAMPLES = 2000

Found = dict[int, tuple[StructureSet, dict[str, Any]]]
"""By index: where a candidate ended, and its row."""


def compare_ways(
    ways: dict[str, Found], known: StructureSet
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Cost of each way, how what it finds differs from what the plain way finds, and whether it was
    `known` from the candidates before; of the candidates that came to an end in all ways. With it
    the energies of each way's minima, in eV above the lowest of their stoichiometry in any way.
    """
    common = sorted(set.intersection(*(set(one) for one in ways.values())))
    if not common:
        raise ValueError("no candidate came to an end in all ways")
    rows = {way: [one[i][1] for i in common] for way, one in ways.items()}
    ends = {way: concatenate([one[i][0] for i in common]) for way, one in ways.items()}
    together = concatenate(list(ends.values()))
    energies = dict(zip(ways, np.split(together.relative_energy, len(ways)), strict=True))
    before = known.to_atoms()
    images = {way: one.to_atoms() for way, one in ends.items()}
    converged = {way: np.array([is_minimum(row) for row in rows[way]]) for way in ways}
    everywhere = np.logical_and.reduce(list(converged.values()))
    if not everywhere.any():
        raise ValueError(f"none of {len(common)} candidates converged in all ways: raise max_steps")
    calls = {way: np.array([row["relax_steps"] + 1 for row in rows[way]]) for way in ways}
    labels = unique([*before, *(atoms for one in images.values() for atoms in one)])
    found_again = np.array(labels[len(before) :]) < len(before)
    new = dict(zip(ways, np.split(~found_again, len(ways)), strict=True))

    def below(ours: str, theirs: str) -> list[float]:
        both = converged[ours] & converged[theirs]
        return _interval(np.subtract, energies[theirs][both], energies[ours][both])

    report: dict[str, Any] = {"compared": len(common)}
    for way in ways:
        seconds = np.array([row["cpu_seconds"] for row in rows[way]])
        minima = [images[way][i] for i in np.flatnonzero(converged[way])]
        report[way] = {
            "converged": len(minima),
            "calls_per_minimum": float(calls[way].sum() / len(minima)),
            "minima_per_cpu_hour": float(3600 * len(minima) / seconds.sum()),
            "median_energy": float(np.median(energies[way][converged[way]])),
            "distinct": float(np.mean([b == i for i, b in enumerate(unique(minima))])),
            "new": float(new[way][converged[way]].mean()),
        }
        if way != PLAIN:
            both = converged[way] & converged[PLAIN]
            a, b = energies[way][both], energies[PLAIN][both]
            report[way] |= {
                "calls_saved": _interval(np.divide, calls[PLAIN], calls[way]),
                "energy_below": below(way, PLAIN),
                "kolmogorov_smirnov_p": float(ks_2samp(a, b).pvalue),
                "mann_whitney_p": float(mannwhitneyu(a, b).pvalue),
                "wilcoxon_p": float(wilcoxon(a, b, zero_method="zsplit").pvalue),
                "new_p": _mcnemar(new[way][both], new[PLAIN][both]),
                "same_surface_from_same_start": float(
                    np.mean([same(images[way][i], images[PLAIN][i]) for i in np.flatnonzero(both)])
                ),
            }
        if way not in (PLAIN, OWN):
            report[way] |= {
                "calls_saved_by_surrogate": _interval(np.divide, calls[OWN], calls[way]),
                "energy_below_alone": below(way, OWN),
            }
    return report, {way: energies[way][converged[way]] for way in ways}


def _mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Of two properties of the same starts: the exact p of their being equally common."""
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def _interval(compared: np.ufunc, theirs: np.ndarray, ours: np.ndarray) -> list[float]:
    """Of their mean to ours: what was found, and the 95 % bootstrap interval over the starts."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(RESAMPLES, len(ours)))
    means = compared(theirs[drawn].mean(1), ours[drawn].mean(1))
    low, high = np.quantile(means, [0.025, 0.975])
    return [float(compared(theirs.mean(), ours.mean())), float(low), float(high)]


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    header = (
        "fmax (eV/Å)", "method", "converged", "calls per minimum", "fewer calls",
        "minima per CPU-hour", "median energy (eV)", "lower by (eV)", "p (KS, MW, paired)", "new",
        "same surface",
    )  # fmt: skip
    lines: list[Sequence[str]] = []
    for result in report["results"]:
        for way, name in WAYS.items():
            one = result[way]
            saved = below = p = surface = "–"
            if way != PLAIN:
                saved = "{:.1f}× ({:.1f} to {:.1f})".format(*one["calls_saved"])
                below = "{:.2f} ({:.2f} to {:.2f})".format(*one["energy_below"])
                keys = ("kolmogorov_smirnov_p", "mann_whitney_p", "wilcoxon_p")
                p = ", ".join(f"{one[key]:.3f}" for key in keys)
                surface = f"{one['same_surface_from_same_start']:.0%}"
            lines.append([
                f"{result['fmax']:g}", name.format(**result),
                f"{one['converged']} of {result['compared']}",
                f"{one['calls_per_minimum']:.1f}", saved, f"{one['minima_per_cpu_hour']:.0f}",
                f"{one['median_energy']:.2f}", below, p, f"{one['new']:.0%}", surface,
            ])  # fmt: skip
    return markdown(header, lines)
