"""What a surrogate saves a random structure search, and whether it finds the same minima.

The same random starts are relaxed in four ways, task by task in turns, in one process: planned by
the search's force field, after a relaxation on it or from the start in short leaps; and by the
calculator alone, with the same optimiser and with ASE's BFGS. When repeated, the command goes on.
It ends with a table that compares each way with ASE's, and search_cost.json in the search's folder.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from scipy.stats import fisher_exact, ks_2samp, mannwhitneyu

from experiments import cli
from experiments.generate_data import plan
from experiments.progress import progress, say
from experiments.report import markdown
from experiments.runfolder import RunFolder
from experiments.search import Surrogate, Task, calculator_of, read, search, write
from experiments.workers import workers
from sdedata import StructureSet
from sdedata.dataset import concatenate
from sdedata.rss import random_surface, relax
from sdedata.similarity import same, unique
from sdedata.template import Template

WAYS = {
    "planned": "planned, on the force field first",
    "leaps": "planned, in leaps of {leap:g} Å",
    "alone": "the same optimiser, calculator alone",
    "ase": "ASE's BFGS, calculator alone",
}
LEAP = 0.3  # Å
PLAIN = "ase"
"""The way that the others are compared with."""
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(prog="experiments.search_cost", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a search with a surrogate")
    parser.add_argument("--candidates", type=int, default=120, help="starts (default 120)")
    parser.add_argument(
        "--fmax", type=float, nargs="+", help="where to stop, eV/Å (default: as the search did)"
    )
    parser.add_argument(
        "--max-steps", type=int, help="moves of a relaxation (default: as in the search)"
    )
    parser.add_argument(
        "--leap", type=float, default=LEAP, help=f"how long leaps may be, Å (default {LEAP})"
    )
    arguments = parser.parse_args()
    try:
        run = RunFolder.existing(arguments.run)
        report = compare(
            run, arguments.candidates, arguments.fmax, arguments.max_steps, arguments.leap
        )
    except (ValueError, OSError) as error:
        cli.refuse("search_cost", error)
    print(table(report))


def compare(
    run: RunFolder,
    n: int,
    fmax: Sequence[float] | None = None,
    max_steps: int | None = None,
    leap: float = LEAP,
) -> dict[str, Any]:
    """Relax n starts that the last surrogate has not seen in all ways, to each `fmax` (eV/Å);
    returns the report.
    """
    starts = sorted(int(p.parents[2].name) for p in run.path.glob("surrogate/*/train/*/model.pt"))
    if not starts or n < 2:
        raise ValueError(f"{run.path} has no surrogate, or --candidates={n} is less than 2")
    model = str(run.path / f"surrogate/{starts[-1]}/train/forcefield/model.pt")
    known = StructureSet.read(run.path / "minima.npz")
    known = known.select(known.info["index"] < starts[-1])
    indices = range(starts[-1], starts[-1] + n)
    own = run.config["relaxation"]
    max_steps = own["max_steps"] if max_steps is None else max_steps
    tolerances = [own["fmax"]] if fmax is None else fmax
    if not (min(tolerances) > 0 and max_steps > 0 and leap > 0):
        raise ValueError("--fmax, --max-steps and --leap must be positive")
    config = OmegaConf.create(run.config)
    template = Template.load(config.template.slab, tuple(config.template.window))
    planners = {"planned": Surrogate(model), "leaps": Surrogate(model, leap)}
    folders = {way: f"leap_{leap:g}" if way == "leaps" else way for way in WAYS}
    results = []
    for force in tolerances:
        config.relaxation.fmax, config.relaxation.max_steps = force, max_steps
        home = run.path / f"search_cost/fmax_{force:g}_steps_{max_steps}"
        tasks = {
            way: plan(config, template, home / folder, indices, planners.get(way))
            for way, folder in folders.items()
        }
        _relax_all(tasks, f"fmax={force:g}")
        result = judge({way: found(tasks[way]) for way in WAYS}, known)
        results.append({"fmax": force, "max_steps": max_steps, "leap": leap, **result})
    training = run.config["surrogate"]["training"]
    surrogate = ", ".join([f"trained on {starts[-1]} candidates", *training])
    report = {"candidates": n, "surrogate": surrogate, "results": results}
    run.write_json("search_cost.json", report)
    say(f"written: {run.path}/search_cost.json")
    return report


def _relax_all(tasks: dict[str, list[Task]], label: str) -> None:
    turns = [(way, tasks[way][k]) for k in range(len(tasks[PLAIN])) for way in WAYS]
    missing = [(way, task) for way, task in turns if not task.path.is_file()]
    # In a process of its own, as the tasks of a search, for numpy to keep to one thread.
    with workers(cli.load("generate_data", ["executor.max_workers=1"]).executor) as worker:
        for way, task in progress(missing, label, len(turns), len(turns) - len(missing)):
            worker.submit(one_by_one if way == PLAIN else search, task).result()


def one_by_one(task: Task) -> None:
    """What `search` does, as a plain loop over ASE."""
    calculator = calculator_of(task.calculator)
    ends, rows = [], []
    for index, composition in task.candidates:
        rng = np.random.default_rng([task.seed, index])
        row: dict[str, Any] = {"index": index, "converged": False}
        rows.append(row)
        started = time.process_time()
        try:
            atoms = random_surface(task.template, composition, rng, task.min_distances)
            path = relax(atoms, calculator, **task.relaxation)
            row |= {"relax_steps": path.steps, "converged": path.converged}
            atoms.info["index"] = index
            ends.append(path.frame(-1, atoms))
        except Exception as error:  # calculators raise anything
            row["failed"] = f"{type(error).__name__}: {error}"
        row["cpu_seconds"] = time.process_time() - started
    write(task.path, [StructureSet.from_atoms(ends)] if ends else [], rows)


Found = dict[int, tuple[StructureSet, dict[str, Any]]]
"""By index: where a candidate ended, and its row."""


def found(tasks: Sequence[Task]) -> Found:
    """Of the candidates that came to an end, converged or not: none that the calculator refused."""
    ends = {}
    for task in tasks:
        frames, rows = read(task.path)
        for row in rows:
            if "failed" not in row or "energy" in row:
                (mine,) = np.nonzero(frames.info["index"] == row["index"])
                ends[row["index"]] = frames.select(mine[-1:]), row
    return ends


def judge(ways: dict[str, Found], known: StructureSet) -> dict[str, Any]:
    """Cost of each way, how what it finds differs from what the plain way finds, and whether it was
    `known` from the candidates before; of the candidates that came to an end in all ways.
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
    converged = {way: np.array([row["converged"] for row in rows[way]]) for way in ways}
    calls = {way: np.array([row["relax_steps"] + 1 for row in rows[way]]) for way in ways}
    labels = unique([*before, *(atoms for one in images.values() for atoms in one)])
    found_again = np.array(labels[len(before) :]) < len(before)
    new = dict(zip(ways, np.split(~found_again, len(ways)), strict=True))
    report: dict[str, Any] = {}
    for way in ways:
        seconds = np.array([row["cpu_seconds"] for row in rows[way]])
        both = converged[way] & converged[PLAIN]
        report[way] = {
            "converged": int(converged[way].sum()),
            "calls_per_minimum": float(calls[way].sum() / converged[way].sum()),
            "minima_per_cpu_hour": float(3600 * converged[way].sum() / seconds.sum()),
            "median_energy": float(np.median(energies[way][converged[way]])),
            "distinct": float(np.mean([b == i for i, b in enumerate(unique(images[way]))])),
            "new": float(new[way].mean()),
        }
        if way != PLAIN:
            a, b = energies[way][converged[way]], energies[PLAIN][converged[PLAIN]]
            report[way] |= {
                "calls_saved": _interval(np.divide, calls[PLAIN], calls[way]),
                "energy_below": _interval(np.subtract, energies[PLAIN][both], energies[way][both]),
                "kolmogorov_smirnov_p": float(ks_2samp(a, b).pvalue),
                "mann_whitney_p": float(mannwhitneyu(a, b).pvalue),
                "new_p": float(fisher_exact([_split(new[way]), _split(new[PLAIN])]).pvalue),
                "same_surface_from_same_start": float(
                    np.mean([same(images[way][i], images[PLAIN][i]) for i in np.flatnonzero(both)])
                ),
            }
    return report


def _split(mask: np.ndarray) -> list[int]:
    return [int(mask.sum()), int((~mask).sum())]


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
        "fmax (eV/Å)", "way", "converged", "calls per minimum", "fewer calls",
        "minima per CPU-hour", "median energy (eV)", "lower by (eV)", "same energies (KS, MW: p)",
        "new", "same surface",
    )  # fmt: skip
    lines: list[Sequence[str]] = [header, ["---"] * len(header)]
    for result in report["results"]:
        for way, name in WAYS.items():
            one = result[way]
            saved = below = p = surface = "–"
            if way != PLAIN:
                saved = "{:.1f}× ({:.1f} to {:.1f})".format(*one["calls_saved"])
                below = "{:.2f} ({:.2f} to {:.2f})".format(*one["energy_below"])
                p = f"{one['kolmogorov_smirnov_p']:.3f}, {one['mann_whitney_p']:.3f}"
                surface = f"{one['same_surface_from_same_start']:.0%}"
            lines.append([
                f"{result['fmax']:g}", name.format(**result), str(one["converged"]),
                f"{one['calls_per_minimum']:.1f}", saved, f"{one['minima_per_cpu_hour']:.0f}",
                f"{one['median_energy']:.2f}", below, p, f"{one['new']:.0%}", surface,
            ])  # fmt: skip
    return markdown(lines)


if __name__ == "__main__":
    main()
