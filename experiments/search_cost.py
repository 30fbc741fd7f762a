"""What a surrogate saves a random structure search, and whether it finds the same minima.

The same random starts are relaxed in three ways, task by task in turns, in one process: planned
by the search's force field, by the same optimiser on the calculator alone, and by ASE's BFGS. When
repeated, the command goes on. It ends with a table, and search_cost.json in the search's folder.
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
from experiments.search import Task, calculator_of, read, search, write
from experiments.workers import workers
from sdedata import StructureSet
from sdedata.dataset import concatenate
from sdedata.rss import random_surface, relax
from sdedata.similarity import same, unique
from sdedata.template import Template

WAYS = {
    "planned": "planned by the force field",
    "alone": "the same optimiser, calculator alone",
    "ase": "ASE's BFGS, calculator alone",
}
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(prog="experiments.search_cost", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a search with a surrogate")
    parser.add_argument("--candidates", type=int, default=120, help="starts (default 120)")
    arguments = parser.parse_args()
    try:
        report = compare(RunFolder.existing(arguments.run), arguments.candidates)
    except (ValueError, OSError) as error:
        cli.refuse("search_cost", error)
    print(table(report))


def compare(run: RunFolder, n: int) -> dict[str, Any]:
    """Relax n starts that the last surrogate has not seen in all ways; returns the report."""
    starts = sorted(int(p.parents[2].name) for p in run.path.glob("surrogate/*/train/*/model.pt"))
    if not starts or n < 2:
        raise ValueError(f"{run.path} has no surrogate, or --candidates={n} is less than 2")
    config = OmegaConf.create(run.config)
    model = str(run.path / f"surrogate/{starts[-1]}/train/forcefield/model.pt")
    template = Template.load(config.template.slab, tuple(config.template.window))
    home = run.path / "search_cost"
    indices = range(starts[-1], starts[-1] + n)
    tasks = {
        way: plan(config, template, home / way, indices, model if way == "planned" else None)
        for way in WAYS
    }
    turns = [(way, tasks[way][k]) for k in range(len(tasks["ase"])) for way in WAYS]
    missing = [(way, task) for way, task in turns if not task.path.is_file()]
    # In a process of its own, as the tasks of a search, for numpy to keep to one thread.
    with workers(cli.load("generate_data", ["executor.max_workers=1"]).executor) as worker:
        for way, task in progress(missing, "search_cost", len(turns), len(turns) - len(missing)):
            worker.submit(one_by_one if way == "ase" else search, task).result()
    known = StructureSet.read(run.path / "minima.npz")
    known = known.select(known.info["index"] < starts[-1])
    report = judge({way: found(tasks[way]) for way in WAYS}, known)
    report["candidates"], report["surrogate"] = n, f"trained on {starts[-1]} candidates"
    run.write_json("search_cost.json", report)
    say(f"written: {run.path}/search_cost.json")
    return report


def one_by_one(task: Task) -> None:
    """What `search` does, as a plain loop over ASE."""
    calculator = calculator_of(task.calculator)
    minima, rows = [], []
    for index, composition in task.candidates:
        rng = np.random.default_rng([task.seed, index])
        atoms = random_surface(task.template, composition, rng, task.min_distances)
        started = time.process_time()
        path = relax(atoms, calculator, **task.relaxation)
        rows.append({
            "index": index,
            "relax_steps": path.steps,
            "converged": path.converged,
            "cpu_seconds": time.process_time() - started,
        })  # fmt: skip
        atoms.info["index"] = index
        minima.append(path.frame(-1, atoms))
    write(task.path, [StructureSet.from_atoms(minima)], rows)


def found(tasks: Sequence[Task]) -> tuple[StructureSet, list[dict[str, Any]]]:
    """Where each candidate ended, in their order, and the rows."""
    ends, rows = [], []
    for task in tasks:
        frames, own = read(task.path)
        for row in own:
            mine = np.flatnonzero(frames.info["index"] == row["index"])
            ends.append(frames.select(mine[-1:]))
        rows += own
    return concatenate(ends), rows


def judge(
    ways: dict[str, tuple[StructureSet, list[dict[str, Any]]]], known: StructureSet
) -> dict[str, Any]:
    """Cost of each way, how what it finds differs from what planning finds, and whether it was
    `known` from the candidates before.
    """
    before = known.to_atoms()
    together = concatenate([ends for ends, _ in ways.values()])
    energies = dict(zip(ways, np.split(together.relative_energy, len(ways)), strict=True))
    images = {way: ends.to_atoms() for way, (ends, _) in ways.items()}
    converged = {
        way: np.array([row["converged"] for row in rows]) for way, (_, rows) in ways.items()
    }
    calls = {
        way: np.array([row["relax_steps"] + 1 for row in rows]) for way, (_, rows) in ways.items()
    }
    labels = unique([*before, *(atoms for ends in images.values() for atoms in ends)])
    found_again = np.array(labels[len(before) :]) < len(before)
    new = dict(zip(ways, np.split(~found_again, len(ways)), strict=True))
    report: dict[str, Any] = {}
    for way, (_, rows) in ways.items():
        seconds = np.array([row["cpu_seconds"] for row in rows])
        both = converged[way] & converged["planned"]
        report[way] = {
            "converged": int(converged[way].sum()),
            "calls_per_minimum": float(calls[way].sum() / converged[way].sum()),
            "minima_per_cpu_hour": float(3600 * converged[way].sum() / seconds.sum()),
            "median_energy": float(np.median(energies[way][converged[way]])),
            "distinct": float(np.mean([b == i for i, b in enumerate(unique(images[way]))])),
            "new": float(new[way].mean()),
        }
        if way != "planned":
            a, b = energies["planned"][converged["planned"]], energies[way][converged[way]]
            report[way] |= {
                "calls_ratio": _ratio(calls[way], calls["planned"]),
                "kolmogorov_smirnov_p": float(ks_2samp(a, b).pvalue),
                "mann_whitney_p": float(mannwhitneyu(a, b).pvalue),
                "new_p": float(fisher_exact([_split(new["planned"]), _split(new[way])]).pvalue),
                "same_surface_from_same_start": float(
                    np.mean(
                        [same(images["planned"][i], images[way][i]) for i in np.flatnonzero(both)]
                    )
                ),
            }
    return report


def _split(mask: np.ndarray) -> list[int]:
    return [int(mask.sum()), int((~mask).sum())]


def _ratio(theirs: np.ndarray, ours: np.ndarray) -> list[float]:
    """Of their calls to ours: what was found, and the 95 % bootstrap interval over the starts."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(RESAMPLES, len(ours)))
    low, high = np.quantile(theirs[drawn].sum(1) / ours[drawn].sum(1), [0.025, 0.975])
    return [float(theirs.sum() / ours.sum()), float(low), float(high)]


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    header = (
        "way", "converged", "calls per minimum", "against planned", "minima per CPU-hour",
        "median energy (eV)", "new", "same energies as planned (KS, MW: p)", "same surface",
    )  # fmt: skip
    lines: list[Sequence[str]] = [header, ["---"] * len(header)]
    for way, name in WAYS.items():
        one = report[way]
        ratio = p = surface = "–"
        if "calls_ratio" in one:
            ratio = "{:.1f}× ({:.1f} to {:.1f})".format(*one["calls_ratio"])
            p = f"{one['kolmogorov_smirnov_p']:.3f}, {one['mann_whitney_p']:.3f}"
            surface = f"{one['same_surface_from_same_start']:.0%}"
        lines.append([
            name, str(one["converged"]), f"{one['calls_per_minimum']:.1f}", ratio,
            f"{one['minima_per_cpu_hour']:.0f}", f"{one['median_energy']:.2f}",
            f"{one['new']:.0%}", p, surface,
        ])  # fmt: skip
    return markdown(lines)


if __name__ == "__main__":
    main()
