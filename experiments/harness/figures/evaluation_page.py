"""The page of an evaluation: how good the generated surfaces are, and what they look like."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure

from experiments.harness.config.instantiate import calculator_name
from experiments.harness.figures.histogram import energy_histogram
from experiments.harness.figures.page import (
    Figures,
    Folded,
    Gallery,
    Lead,
    Responsive,
    Surfaces,
    Table,
    write_page,
)
from experiments.harness.figures.viewer import overlayer_formula
from experiments.harness.runs.config_keys import flattened
from experiments.harness.runs.energies import finite
from experiments.harness.runs.metrics import NO_SURFACE, SHARE, count, metric, target_text
from sdedata.similarity import same

BEST = 4
WIDE, NARROW = (9.6, 3.7), (3.7, 3.5)  # inches of the histogram
OWN, SEARCH = "the lowest of this run", "the lowest of random search"


@dataclass(frozen=True)
class Evaluated:
    """What the page is made of.

    metrics   as in summary.json
    energies  eV above a common zero: gen (as generated), gen_relaxed, and rss (random search),
              which is empty where there is none
    relaxed   structures, in the order of energies["gen_relaxed"]
    adsorbed  which of them are surfaces (see `sdedata.adsorption`)
    path      one structure at several times of the reverse process, may be empty
    settings  the run's config
    """

    metrics: Mapping[str, Any]
    energies: Mapping[str, Any]
    relaxed: Sequence[Atoms]
    adsorbed: Sequence[bool]
    path: Sequence[Atoms]
    settings: Mapping[str, Any]

    @property
    def compared(self) -> bool:
        return bool(self.energies["rss"])

    @property
    def zero(self) -> str:
        """What energies are relative to, in words."""
        return SEARCH if self.compared else OWN

    @property
    def order(self) -> list[int]:
        """Indices of ``relaxed``, the lowest energy first."""
        return [int(k) for k in np.argsort(self.energies["gen_relaxed"], kind="stable")]

    @property
    def surfaces(self) -> list[int]:
        """Likewise, of the adsorbed ones alone."""
        return [k for k in self.order if self.adsorbed[k]]

    def count(self, share: str) -> str:
        """A share in the metrics as "1 of 32"."""
        return "{} of {}".format(*count(self.metrics, share))


def write_evaluation(path: Path, run: Evaluated) -> Path:
    """Write the page and return its path."""
    drawn = Responsive(histogram(run, WIDE), histogram(run, NARROW))
    settings = {key: _listed(value) for key, value in flattened(run.settings).items()}
    return write_page(
        path,
        f"{_formula(run)}{_substrate(run)}",
        Lead(sentence(run), numbers(run)),
        Figures("Energies", {_caption(run): drawn}),
        *_best(run),
        *_folded(run),
        Folded(Table("All results", _results(run))),
        Folded(Table("Settings", settings)),
    )


def histogram(run: Evaluated, size: tuple[float, float] = (5.0, 3.2)) -> Figure:
    """Draw the energies as generated, relaxed, and of random search."""
    named = {"generated": run.energies["gen"], "generated, relaxed": run.energies["gen_relaxed"]}
    if run.compared:
        named = {"random search, relaxed": run.energies["rss"], **named}
    return energy_histogram(named, zero=run.zero, size=size)


def sentence(run: Evaluated) -> str:
    """Return what was generated, on what, and how good it is."""
    metrics, n = run.metrics, run.metrics["gen/n"]
    what = f"{n} surfaces of {_formula(run)}{_substrate(run)} were generated"
    if not run.relaxed:
        return f"{what}; none could be relaxed."
    what += f" and relaxed with {calculator_name(run.settings.get('calculator'))}"
    failed = n - len(run.relaxed)
    what += f" ({failed} of them failed)" if failed else ""
    lost = len(run.relaxed) - sum(run.adsorbed)
    what += f" ({lost} of them {NO_SURFACE})" if lost else ""
    median = eV(metrics["gen_relaxed/energy_median"])
    if not run.compared:
        return f"{what}; half of them lie within {median} of the lowest of this run."
    low, searched = metrics["gen_relaxed/energy_min"], f"{metrics['rss/n']} from random search"
    side = "above" if low >= 0 else "below"
    return f"{what}; the lowest lies {eV(abs(low))} {side} the lowest of {searched}."


def numbers(run: Evaluated) -> list[tuple[str, str, str]]:
    """Return four numbers with units or counts, what they are, what to compare them with."""
    metrics = run.metrics
    median, lowest = (metrics.get(f"gen_relaxed/energy_{k}") for k in ("median", "min"))
    valid = (
        run.count("gen/frac_valid"), "valid as generated",
        "no atoms overlap, all in the allowed heights",
    )  # fmt: skip
    distinct = run.count("gen/frac_unique")
    if "target/n" in metrics:
        hits = f"{metrics['target/hits']} of {metrics['target/n']}"
        valid = (hits, "relax to the target", target_text(metrics).partition(", ")[2])
    if not run.compared:
        return [
            (eV(median), "median after relaxation", f"above {run.zero}; no random search known"),
            (eV(metrics.get("gen_relaxed/energy_min_abs")), "lowest total energy", "relaxed"),
            valid,
            (distinct, "distinct structures", "after relaxation, on the surface"),
        ]
    found, others = count(metrics, "rss/hit_rate")
    return [
        (eV(median), "median after relaxation",
         f"above {run.zero}, whose own median is {eV(metrics['rss/energy_median'])}"),
        (eV(lowest), "lowest after relaxation", f"relative to {run.zero}"),
        valid,
        (run.count("gen/hit_rate"), "relax to the lowest structure of random search",
         f"random search itself: {found} of its other {others}"),
    ]  # fmt: skip


def eV(energy: float | None) -> str:  # noqa: N802
    """Return an energy as people read it, an en dash for none."""
    if energy is None or not math.isfinite(energy):
        return "\N{EN DASH}"
    digits = 0 if abs(energy) >= 1000 else 2
    return f"{energy:.{digits}f} eV".replace("-", "\N{MINUS SIGN}")


def _formula(run: Evaluated) -> str:
    """The composition of the overlayers with subscripts, of several ones how many there are."""
    formulas = {overlayer_formula(atoms) for atoms in run.relaxed}
    formula = run.metrics.get("gen/composition") or "/".join(sorted(formulas)) or "no atoms"
    if len(formulas) > 3:
        return f"{len(formulas)} compositions"
    return re.sub(r"\d", lambda digit: chr(0x2080 + int(digit[0])), formula)


def _substrate(run: Evaluated) -> str:
    slab = ((run.settings.get("sampled") or {}).get("template") or {}).get("slab")
    return f" on {Path(slab).stem}" if slab else ""


def _caption(run: Evaluated) -> str:
    named = {"generated structures": "gen", "relaxed": "gen_relaxed", "from random search": "rss"}
    sets = [
        f"{len(energies)} {name} (median {eV(float(np.median(energies)))})"
        for name, key in named.items()
        if len(energies := finite(run.energies[key]))
    ]
    return f"{', '.join(sets)}. Zero is {run.zero}; dashed lines are the medians."


def _best(run: Evaluated) -> list[Surfaces]:
    """The lowest structures on the surface that differ from each other."""
    tolerance = {"tolerance": run.settings["tolerance"]} if "tolerance" in run.settings else {}
    found: list[int] = []
    for k in run.surfaces or run.order:
        if len(found) == BEST:
            break
        if not any(same(run.relaxed[k], run.relaxed[other], **tolerance) for other in found):
            found.append(k)
    if not found:
        return []
    captions = [
        (f"{run.energies['gen_relaxed'][k]:+.2f} eV".replace("-", "\N{MINUS SIGN}"),
         f"structure {run.relaxed[k].info['index']}")
        for k in found
    ]  # fmt: skip
    many = ("", "", "two ", "three ", "four ")[len(found)]
    heading = f"The {many}lowest distinct structure{'s' if many else ''}"
    text = (
        f"2 × 2 cells from above, and from the side, all at one scale. Energies after relaxation, "
        f"relative to {run.zero}."
    )
    structures = [run.relaxed[k] for k in found]
    return [Surfaces(heading, structures, captions, text)]


def _folded(run: Evaluated) -> list[Folded]:
    """All structures to be turned, and the path of one through the reverse process."""
    facts = [
        {
            "energy (eV)": round(run.energies["gen_relaxed"][k], 3),
            "index": int(run.relaxed[k].info["index"]),
            "seed": run.relaxed[k].info["seed"],
            "relaxation steps": int(run.relaxed[k].info["relax_steps"]),
        }
        for k in run.order
    ]
    structures = [run.relaxed[k] for k in run.order]
    heading = f"All {len(structures)} relaxed structures, lowest first, to be turned"
    folded = (
        [Folded(Gallery(heading, structures, facts, f"Energies above {run.zero}."))]
        if structures
        else []
    )
    if run.path:
        times = [(f"t = {atoms.info['t']:g}", "") for atoms in run.path]
        heading = "How one structure came about: the reverse process from noise to a surface"
        folded.append(Folded(Surfaces(heading, run.path, times, cells=1)))
    return folded


def _results(run: Evaluated) -> dict[str, Any]:
    """All metrics by their titles; shares as counts."""
    return {
        metric(key).label: run.count(key) if metric(key).unit == SHARE else _listed(value)
        for key, value in run.metrics.items()
    }


def _listed(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or None
    return None if value == {} else value
