"""Settings compared structure by structure, where their structures began with the same noise.

Structure k of one seed starts from the same place and, in as many steps, draws the same noise,
whatever the guide is. The differences between two settings then scatter less than the energies.
Both have the same networks, so that the structure is the unit of replication here.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon
from statsmodels.stats.multitest import multipletests

from experiments.harness.pipeline.kinds import NETWORKS, stage_name
from experiments.harness.runs.metrics import metric_title
from sweeps.analysis.conclusions import LEVEL, signed
from sweeps.analysis.table import Trials, parameter_title, value_title

PAIRED = ("sample.guide.", "sample.sampler.")
"""Parameters that change neither where structures start nor what they consist of."""
SETS = ("gen", "gen_relaxed")
FEWEST = 6  # pairs below which the test cannot reach 5 %


@dataclass(frozen=True)
class Paired:
    """A setting's energies minus the first setting's: median (eV) over n pairs of structures.

    p: Wilcoxon's signed-rank test, after Holm for all settings and both sets of energies.
    """

    set: str
    first: str
    setting: str
    difference: float
    p: float
    n: int


def compare(trials: Trials, parameter: str) -> list[Paired]:
    """Compare every setting of `parameter` with the first one, structure by structure.

    Empty unless it is a parameter of sampling whose trials share seeds, of what they train, too.
    """
    seeded = all(
        f"{name}.seed" in trials.parameters or any(o.startswith("seed=") for o in overrides)
        for name, overrides in trials.definition["stages"].items()
        if name == "sample" or stage_name(name).kind in ("generate_data", *NETWORKS)
    )
    if not parameter.startswith(PAIRED) or not seeded:
        return []
    found = [one for name in SETS for one in _raw(trials, parameter, name)]
    p = multipletests([one.p for one in found], method="holm")[1] if found else []
    return [replace(one, p=float(corrected)) for one, corrected in zip(found, p, strict=True)]


def _raw(trials: Trials, parameter: str, name: str) -> list[Paired]:
    """Return the comparisons of one set of energies before Holm's correction."""
    table, found = _by_noise(trials, parameter, name), []
    for value in table.columns[1:]:
        gaps = (table[value] - table[table.columns[0]]).dropna().to_numpy(float)
        if len(gaps) >= FEWEST and np.any(gaps):
            first, p = value_title(table.columns[0]), float(wilcoxon(gaps).pvalue)
            median = float(np.median(gaps))
            found.append(Paired(name, first, value_title(value), median, p, len(gaps)))
    return found


def _by_noise(trials: Trials, parameter: str, name: str) -> pd.DataFrame:
    """Return energies with a column for each setting and a row for each initial noise.

    Of feasible trials; those with a structure that has no energy are left out: the indices of the
    others are not those of their noise.
    """
    energies = trials.energies[trials.energies["set"] == name].dropna()
    counts, rows = energies.groupby("slot").size(), trials.feasible
    rows = rows.loc[[s for s in rows.index if counts.get(s) == rows.loc[s].get("gen/n", None)]]
    others = [p for p in trials.parameters if p != parameter]
    noise = ["|".join(map(str, values)) for values in rows[others].to_numpy().tolist()]
    about = pd.DataFrame({"value": rows[parameter], "noise": noise}, index=rows.index)
    joined = energies.merge(about, left_on="slot", right_index=True)
    table = joined.pivot_table(index=["noise", "index"], columns="value", values="energy")
    return table[trials.ordered(parameter, table.columns)]


def sentences(parameter: str, found: list[Paired]) -> list[str]:
    """Return the comparisons as text, one sentence for each set of energies."""
    sets = {name: [one for one in found if one.set == name] for name in SETS}
    return [_sentence(parameter, name, some) for name, some in sets.items() if some]


def _sentence(parameter: str, name: str, found: list[Paired]) -> str:
    title = metric_title(f"{name}/energy_median").partition(" (")[0]
    n = " to ".join(map(str, sorted({min(o.n for o in found), max(o.n for o in found)})))
    same = "initial structure" if parameter.startswith("sample.sampler.") else "noise"
    far = [f"{o.setting} {signed(o.difference)} eV (p = {o.p:.2g})" for o in found if o.p < LEVEL]
    near = [o.setting for o in found if o.p >= LEVEL]
    text = f"{title}, structure by structure from the same {same} (n = {n}; Wilcoxon, Holm), "
    text += f"against {parameter_title(parameter)} = {found[0].first}: "
    text += ", ".join(far) if far else "no significant difference"
    return text + (f"; no significant difference: {', '.join(near)}." if far and near else ".")
