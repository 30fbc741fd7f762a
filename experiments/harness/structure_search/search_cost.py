"""What a force field saves a random structure search, and whether it finds the same minima.

The search that made a set continues from new random starts, each relaxed in four ways: with the
force field as surrogate, after a relaxation on it or within a trust radius from the start; and by
the calculator alone, with the same optimiser and with ASE's BFGS. The ways take turns, task by
task, on the same workers. At the end a table that compares each way with ASE's, energy histograms,
and search_cost.json. CPU time is that of a worker's process: of executor=threads take one worker.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.config import compose
from experiments.harness.config.settings import GenerateData, SearchCost
from experiments.harness.config.trust import require_known
from experiments.harness.execution.progress import progress
from experiments.harness.execution.workers import outcomes, workers
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.structure_search.batch_relaxation import Surrogate
from experiments.harness.structure_search.cost_comparison import (
    PLAIN,
    WAYS,
    Found,
    compare_ways,
    table,
)
from experiments.harness.structure_search.found_set import SAME, extended
from experiments.harness.structure_search.generate_data import given, plan, template_of
from experiments.harness.structure_search.reference import calculator_of, cpu_seconds
from experiments.harness.structure_search.search import Task, read, search, write
from experiments.harness.training.data import load_set
from sdedata import StructureSet
from sdedata.adsorption import is_adsorbed
from sdedata.dataset import distinct, inside_window
from sdedata.rss import random_surface, relax

log = logging.getLogger(__name__)

REPORT = "search_cost.json"
MAY_CHANGE = ("candidates", "skip", "fmax", "max_steps", "executor", "tracking", "output")


def run(config: SearchCost, observe: Observe | None = None) -> dict[str, Any]:
    """Relax the starts in all ways, compare, write the run folder; returns the report."""
    from experiments.harness.figures.plots import energy_histogram
    from experiments.harness.tracking.tracker import Tracker

    if config.surrogate.model is None:
        raise ValueError(
            "name the surrogate force field: surrogate.model=FOLDER, of "
            "surfdiff train task=forcefield"
        )
    settings = continued(config)
    base, template = extended(settings), template_of(settings)
    model = given(settings, template)
    assert base is not None  # both are named
    assert model is not None
    learned = base.frames.select(inside_window(base.frames, tuple(model.card["window"])))
    if model.card["digest"] != learned.digest:
        log.info(
            f"search_cost: {config.surrogate.model} was trained on other frames than those of "
            f"{config.extend}: make sure that it knows none of the starts"
        )
    first = 1 + int(base.frames.info["index"].max()) + config.skip
    indices = range(first, first + config.candidates)
    file, trust_radius = config.surrogate.model, config.surrogate.trust_radius
    surrogates = {"prerelaxed": Surrogate(file), "trust_region": Surrogate(file, trust_radius)}
    folder = RunFolder(Path(config.output) / "search_cost" / config.name)
    plain = config.plain()
    facts = {
        "surrogate_model": {"digest": model.digest, "trained_on": model.card["data"]},
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
                way: plan(settings, template, home / way, indices, surrogates.get(way))
                for way in WAYS
            }
            if any(not task.path.is_file() for way in WAYS for task in tasks[way]):
                folder.save_environment()  # of who relaxes, not of who only counts again
                _relax_all(config, tasks, f"fmax={fmax:g}")
            result, energies = compare_ways({way: found(tasks[way]) for way in WAYS}, known)
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
    """The config of `generate_data` that continues the search which made `config.extend`."""
    meta = load_set(config.extend).meta
    unknown = [key for key in SAME if key not in meta]
    if unknown:
        raise ValueError(
            f"extend={config.extend} does not record with which {unknown[0]} it was made: give a "
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
        for _ in progress(outcomes(executor, [calls], dict), label, total, done):
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
            atoms.info |= {"index": index, "relax_steps": path.steps}
            ends.append(path.frame(-1, atoms))
            row["adsorbed"] = is_adsorbed(ends[-1])
        except Exception as error:  # calculators raise anything
            row["failed"] = f"{type(error).__name__}: {error}"
        row["cpu_seconds"] = cpu_seconds() - started
    write(task.path, [StructureSet.from_atoms(ends)] if ends else [], rows)
    return rows


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
