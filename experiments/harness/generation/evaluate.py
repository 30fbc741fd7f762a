"""How good are generated surfaces? Energies, validity, uniqueness and hits, beside random search.

Every structure is relaxed with the calculator that the networks learned from, or the one that is
given, written as it is done, and compared with the shipped random structure search of the same
template and composition. Draws the energy histogram
and the best structures, and writes one self-contained page.
"""

import logging
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from experiments.harness.config.instantiate import calculator_for, frozen_key
from experiments.harness.config.settings import Evaluate
from experiments.harness.execution.progress import progress
from experiments.harness.execution.workers import outcomes, workers
from experiments.harness.generation.evaluation import (
    relative_energies,
    summarise,
    table,
)
from experiments.harness.generation.reference import reference_set, with_calculator
from experiments.harness.generation.relaxation import assess
from experiments.harness.generation.sample import GENERATED, PATH
from experiments.harness.generation.sample import MAY_CHANGE as SAMPLE_MAY_CHANGE
from experiments.harness.runs.metrics import count
from experiments.harness.runs.run_folder import Observe, RunFolder
from sdedata import StructureSet

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MAY_CHANGE = ("tracking", "output", "executor", "sample")
PICTURES = 16
"""Structures that the table in W&B shows."""
SHOWN = ("formula", "energy_before", "energy", "valid", "surface", "steps", "converged", "hit")
"""Columns of that table."""
BATCH = 8
"""Structures that a worker relaxes side by side; a kill costs so many at most."""
EVALUATED, RELAXED = "evaluated", "relaxed"
"""Files: what was generated with its reference energy, and the same relaxed, lowest first."""


def run(config: Evaluate, observe: Observe | None = None) -> dict[str, Any]:
    """Evaluate a sampling run; returns the summary."""
    from experiments.harness.tracking.artifacts import of_file
    from experiments.harness.tracking.tracker import Tracker

    if config.sample is None:
        raise ValueError("nothing to evaluate: give sample=FOLDER of a sampling run")
    source = RunFolder.existing(config.sample)
    generated = source.structures(GENERATED)
    if not generated:
        raise ValueError(f"{config.sample} holds no generated structures: has sampling finished?")
    if len(generated) < (source.config.get("n") or 0):
        log.info(
            f"{config.sample} is not finished: {len(generated)} of {source.config['n']} structures"
        )
    overrides, config = config.overrides, with_calculator(config, source)
    assert config.calculator is not None  # the line above sets it
    plain = config.plain()
    reference = reference_set(
        config.reference, generated[0], plain["calculator"], plain["relaxation"]
    )
    # a calculator that cannot be used is refused before any worker starts
    calculator_for(config.calculator, {int(z) for atoms in generated for z in atoms.numbers})
    name = config.name or source.name
    folder = RunFolder(Path(config.output) / "evaluate" / name)
    made_by = {k: v for k, v in source.config.items() if k not in SAMPLE_MAY_CHANGE}
    recorded = plain | {"name": name, "sampled": made_by}
    about = plain["tracking"] | {"job_type": "evaluate", "name": name}
    with (
        folder.recording(recorded, MAY_CHANGE, overrides),
        Tracker(folder, **about, observe=observe, follows=source.path) as tracker,
    ):
        made = of_file("structures", source.path / f"structures/{GENERATED}.extxyz")
        tracker.artifact(made, uses=True)
        _relax_all(config, generated, folder, tracker)
        evaluated, relaxed = folder.tidy(EVALUATED), folder.tidy(RELAXED)
        z_range = source.config.get("window")
        found = _table(generated, evaluated, relaxed, reference, z_range, config.tolerance)
        metrics = summarise(found, reference, config.tolerance)
        energies = relative_energies(evaluated, relaxed, reference)
        for name in ("gen", "gen_relaxed"):
            metrics |= tracker.energies(name, energies[name])
            for key in ("mean", "min", "p10", "median"):
                relative = metrics[f"{name}/energy_{key}"]
                metrics[f"{name}/energy_{key}_abs"] = relative + energies["zero"]
        for key in ("gen/structures_per_second", "gen/composition"):
            if key in source.summary:
                metrics[key] = source.summary[key]
        _present(folder, tracker, source, energies, relaxed, metrics)
        tracker.table("structures", *_rows(folder, found, relaxed, config.seed))
        tracker.summary(metrics)
    _log_outcome(metrics, folder)
    return folder.summary


def _relax_all(config: Evaluate, generated: list[Atoms], folder: RunFolder, tracker: Any) -> None:
    """Relax what is finite and not done yet; each result is written when it comes."""
    done = {int(a.info["index"]) for a in folder.structures(RELAXED)}
    done &= {int(a.info["index"]) for a in folder.structures(EVALUATED)}
    finite = [atoms for atoms in generated if atoms.info["finite"]]
    missing = [atoms for atoms in finite if int(atoms.info["index"]) not in done]
    if not missing:
        return
    assert config.calculator is not None
    calculator = frozen_key(config.calculator)
    relaxation = config.relaxation.plain()
    calls = [
        partial(assess, missing[k : k + BATCH], calculator, relaxation)
        for k in range(0, len(missing), BATCH)
    ]
    with workers(config.executor) as executor:
        results = outcomes(executor, calls, itemgetter(0), succeeded=len(done))
        for row, frames in progress(results, "relax", len(finite), len(done)):
            if frames:
                folder.append_structures(EVALUATED, frames[:1])
                folder.append_structures(RELAXED, frames[1:])
            tracker.log({"event": "relaxed", **row})


def _table(
    generated: list[Atoms],
    evaluated: list[Atoms],
    relaxed: list[Atoms],
    reference: StructureSet | None,
    z_range: list[float] | None,
    tolerance: float,
) -> "pd.DataFrame":
    """Tabulate what was generated; frames of one structure are found by their index."""
    before = {int(a.info["index"]): float(a.get_potential_energy()) for a in evaluated}
    after = {int(a.info["index"]): a for a in relaxed}
    indices = [int(atoms.info["index"]) for atoms in generated]
    return table(
        generated,
        [before.get(k, np.nan) for k in indices],
        [after.get(k) for k in indices],
        reference,
        z_range,
        tolerance,
    )


def _present(
    folder: RunFolder,
    tracker: Any,
    source: RunFolder,
    energies: dict[str, Any],
    relaxed: list[Atoms],
    metrics: dict[str, Any],
) -> None:
    """Draw the histogram and the best structures, order the relaxed ones, write the page."""
    from experiments.harness.figures.evaluation_page import Evaluated, histogram, write_evaluation

    path = source.structures(PATH)[:3]
    run = Evaluated(metrics, energies, relaxed, path, folder.config)
    tracker.figure("energies", histogram(run))
    ordered = [relaxed[k] for k in run.order]
    captions = [
        f"{energies['gen_relaxed'][k]:+.2f} eV, index {relaxed[k].info['index']}"
        for k in run.order[:4]
    ]
    tracker.structures(RELAXED, ordered, captions=captions)
    write_evaluation(folder / "report.html", run)
    tracker.page("report", folder / "report.html")


def _rows(
    folder: RunFolder, found: "pd.DataFrame", relaxed: list[Atoms], seed: int
) -> tuple[list[str], list[list[Any]]]:
    """One row for each structure, the lowest first, `PICTURES` of them with a picture."""
    from experiments.harness.figures.plots import save, structures

    after = {int(a.info["index"]): a for a in relaxed}
    ordered = found.sort_values("energy", kind="stable")
    rows: list[list[Any]] = []
    for number, row in enumerate(ordered.itertuples()):
        index = int(row.Index)
        picture = None
        if number < PICTURES and index in after:
            drawn = structures([after[index]], [f"index {index}"])
            picture = {"picture": save(drawn, folder / f"figures/structures/{index:06d}.png")}
        rows.append([picture, index, *(getattr(row, name) for name in SHOWN), seed])
    return ["picture", "index", *SHOWN, "seed"], rows


def _log_outcome(metrics: dict[str, Any], folder: RunFolder) -> None:
    """Log how many structures are valid, medians, and hits beside those of random search."""

    def share(name: str) -> str:
        return "{} of {}".format(*count(metrics, name))

    text = (
        f"{share('gen/frac_valid')} structures are valid; median "
        f"{metrics['gen/energy_median']:.2f} eV as generated and "
        f"{metrics['gen_relaxed/energy_median']:.2f} eV relaxed, above the lowest of "
    )
    if "rss/n" not in metrics:
        text += "these"
    else:
        text += (
            f"random search; its own median {metrics['rss/energy_median']:.2f} eV; relaxed to "
            f"its lowest minimum: {share('gen/hit_rate')}, of random search's own "
            f"{share('rss/hit_rate')}"
        )
    log.info(text)
    log.info(f"look at {folder.path}/report.html")
