"""What a force field saves a random structure search, and whether it finds the same minima.

The search that made a set goes on from new random starts, each relaxed in four ways: planned by the
force field, after a relaxation on it or from the start in short leaps; and by the calculator alone,
with the same optimiser and with ASE's BFGS. The ways take turns, task by task, on the same workers.
At the end a table that compares each way with ASE's, energy histograms, and search_cost.json. CPU
time is that of a worker's process: of executor=threads take one worker.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest, ks_2samp, mannwhitneyu, wilcoxon

from experiments.harness.config import compose
from experiments.harness.config.settings import GenerateData, SearchCost
from experiments.harness.config.trust import require_known
from experiments.harness.execution.progress import progress
from experiments.harness.execution.workers import outcomes, workers
from experiments.harness.runs.markdown import table as markdown
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.structure_search.generate_data import (
    SAME,
    extended,
    given,
    plan,
    template_of,
)
from experiments.harness.structure_search.search import (
    Surrogate,
    Task,
    calculator_of,
    cpu_seconds,
    is_minimum,
    read,
    search,
    write,
)
from experiments.harness.training.data import load_set
from sdedata import StructureSet
from sdedata.adsorption import is_adsorbed
from sdedata.dataset import concatenate, distinct
from sdedata.rss import random_surface, relax
from sdedata.similarity import same, unique

log = logging.getLogger(__name__)

WAYS = {
    "planned": "surrogate pre-relaxation",
    "leaps": "surrogate, trust radius {trust_radius:g} Å",
    "alone": "our optimiser, calculator alone",
    "ase": "ASE's BFGS, calculator alone",
}
PLAIN = "ase"
"""The way that the others are compared with."""
OWN = "alone"
"""What a planned search would be without its force field."""
RESAMPLES = 2000
REPORT = "search_cost.json"
MAY_CHANGE = ("candidates", "skip", "fmax", "max_steps", "executor", "tracking", "output")


def run(config: SearchCost, observe: Observe | None = None) -> dict[str, Any]:
    """Relax the starts in all ways, compare, write the run folder; returns the report."""
    from experiments.harness.figures.plots import energy_histogram
    from experiments.harness.tracking.tracker import Tracker

    if config.surrogate.model is None:
        raise ValueError(
            "name the force field that plans: surrogate.model=FOLDER, of "
            "surfdiff train task=forcefield"
        )
    settings = continued(config)
    base, template = extended(settings), template_of(settings)
    planner = given(settings, template)
    assert base is not None  # both are named
    assert planner is not None
    if planner.card["digest"] != base.frames.digest:
        log.info(
            f"search_cost: {config.surrogate.model} was trained on other frames than those of "
            f"{config.extend}: make sure that it knows none of the starts"
        )
    first = 1 + int(base.frames.info["index"].max()) + config.skip
    indices = range(first, first + config.candidates)
    model, trust_radius = config.surrogate.model, config.surrogate.trust_radius
    planners = {"planned": Surrogate(model), "leaps": Surrogate(model, trust_radius)}
    folder = RunFolder(Path(config.output) / "search_cost" / config.name)
    plain = config.plain()
    facts = {
        "planner": {"digest": planner.digest, "trained_on": planner.card["data"]},
        "search": {key: base.minima.meta[key] for key in SAME},
        "known": base.minima.digest,
    }
    known = distinct(base.minima)
    results = []
    with (
        folder.reserved(),
        Tracker(folder, **plain["tracking"], name=config.name, observe=observe) as tracker,
    ):
        folder.save_config(plain | facts, MAY_CHANGE, config.overrides)
        (folder.path / REPORT).unlink(missing_ok=True)  # it may be of other starts
        for fmax in config.fmax:
            relaxation = {"relaxation.fmax": fmax, "relaxation.max_steps": config.max_steps}
            settings = settings.changed(relaxation)
            home = folder.path / f"fmax_{fmax:g}_steps_{config.max_steps}"
            tasks = {
                way: plan(settings, template, home / way, indices, planners.get(way))
                for way in WAYS
            }
            if any(not task.path.is_file() for way in WAYS for task in tasks[way]):
                folder.save_environment()  # of who relaxes, not of who only counts again
                _relax_all(config, tasks, f"fmax={fmax:g}")
            result, energies = judge({way: found(tasks[way]) for way in WAYS}, known)
            drawn = energy_histogram(energies, zero="the lowest of the composition")
            tracker.figure(f"energies_fmax_{fmax:g}", drawn)
            for way, values in energies.items():
                tracker.energies(f"{way}_fmax_{fmax:g}", values.tolist())
                tracker.summary({
                    f"{way}_fmax_{fmax:g}/{key}": value
                    for key, value in result[way].items()
                    if not isinstance(value, list)
                })  # fmt: skip
            results.append({"fmax": fmax, "trust_radius": trust_radius, **result})
    report = {"first": first, "candidates": config.candidates, "results": results}
    folder.write_json(REPORT, report)
    print(table(report))
    log.info(f"search_cost: {folder.path}/{REPORT}, energies in {folder.path}/figures")
    return report


def continued(config: SearchCost) -> GenerateData:
    """The config of `generate_data` that goes on with the search which made `config.extend`."""
    meta = load_set(config.extend).meta
    unsaid = [key for key in SAME if key not in meta]
    if unsaid:
        raise ValueError(
            f"extend={config.extend} does not record with which {unsaid[0]} it was made: give a "
            "set of surfdiff generate_data"
        )
    require_known(meta["calculator"], f"extend={config.extend}", "make the set yourself")
    settings: GenerateData = compose.load("generate_data")
    return settings.changed({
        **{key: meta[key] for key in SAME},
        "extend": config.extend,
        "surrogate.model": config.surrogate.model,
        "task_size": config.task_size,
    })  # fmt: skip


def _relax_all(config: SearchCost, tasks: dict[str, list[Task]], label: str) -> None:
    turns = [(way, tasks[way][k]) for k in range(len(tasks[PLAIN])) for way in WAYS]
    missing = [(way, task) for way, task in turns if not task.path.is_file()]
    calls = [partial(one_by_one if way == PLAIN else search, task) for way, task in missing]
    total = len(WAYS) * config.candidates
    done = total - sum(len(task.candidates) for _, task in missing)
    with workers(config.executor) as executor:
        for _ in progress(outcomes(executor, calls, dict), label, total, done):
            pass


def one_by_one(task: Task) -> list[dict[str, Any]]:
    """What `search` does, as a plain loop over ASE."""
    calculator = calculator_of(task.calculator)
    ends, rows = [], []
    for index, composition in task.candidates:
        rng = np.random.default_rng([task.seed, index])
        row: dict[str, Any] = {"index": index, "converged": False}
        rows.append(row)
        started = cpu_seconds()
        try:
            atoms = random_surface(task.template, composition, rng, task.min_distances)
            path = relax(atoms, calculator, **task.relaxation)
            row |= {"relax_steps": path.steps, "converged": path.converged}
            atoms.info["index"] = index
            ends.append(path.frame(-1, atoms))
            row["adsorbed"] = is_adsorbed(ends[-1])
        except Exception as error:  # calculators raise anything
            row["failed"] = f"{type(error).__name__}: {error}"
        row["cpu_seconds"] = cpu_seconds() - started
    write(task.path, [StructureSet.from_atoms(ends)] if ends else [], rows)
    return rows


Found = dict[int, tuple[StructureSet, dict[str, Any]]]
"""By index: where a candidate ended, and its row."""


def found(tasks: Sequence[Task]) -> Found:
    """Of the candidates that came to an end, converged or not: none that raised an error."""
    ends = {}
    for task in tasks:
        frames, rows = read(task.path)
        for row in rows:
            if "failed" not in row or "energy" in row:
                (mine,) = np.nonzero(frames.info["index"] == row["index"])
                ends[row["index"]] = frames.select(mine[-1:]), row
    return ends


def judge(
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
                "calls_saved_by_planning": _interval(np.divide, calls[OWN], calls[way]),
                "energy_below_unplanned": below(way, OWN),
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
