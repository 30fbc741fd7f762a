"""How good are generated surfaces? Energies, validity, uniqueness and hits, beside random search.

Every structure is relaxed with the reference calculator, written as it is done, and compared with
the shipped random structure search of the same template and composition. Draws the energy histogram
and the best structures, and writes one self-contained page.
"""

import logging
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from experiments.harness.config.instantiate import build, frozen_key
from experiments.harness.config.settings import Evaluate
from experiments.harness.execution.progress import progress
from experiments.harness.execution.workers import require_success, workers
from experiments.harness.generation.sample import GENERATED, PATH
from experiments.harness.generation.sample import MAY_CHANGE as SAMPLE_MAY_CHANGE
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.structure_search.search import assess
from experiments.harness.training.data import load_set
from sdedata import StructureSet, shipped
from sdedata.composition import formula
from sdedata.frames import frozen_mask
from sdedata.similarity import same, unique

log = logging.getLogger(__name__)

MAY_CHANGE = ("tracking", "output", "executor", "sample")
EVALUATED, RELAXED = "evaluated", "relaxed"
"""Files: what was generated with its reference energy, and the same relaxed."""
CLOSEST = 0.7
"""A pair under this share of the sum of its covalent radii makes a structure invalid."""
BELOW = 0.05
"""eV under the reference minimum from which a structure counts as lower, not the same."""


def run(config: Evaluate, observe: Observe | None = None) -> dict[str, Any]:
    """Evaluate a sampling run; returns the summary."""
    from experiments.harness.tracking.tracker import Tracker

    if config.sample is None:
        raise ValueError("nothing to evaluate: give sample=FOLDER of a sampling run")
    source = RunFolder.existing(config.sample)
    generated = source.structures(GENERATED)
    if not generated:
        raise ValueError(f"{config.sample} holds no generated structures: has sampling finished?")
    if len(generated) < source.config.get("n", 0):
        log.info(
            f"{config.sample} is not finished: {len(generated)} of {source.config['n']} structures"
        )
    plain = config.plain()
    reference = reference_set(
        config.reference, generated[0], plain["calculator"], plain["relaxation"]
    )
    trained_on = source.config.get("trained_on")
    if trained_on is not None and trained_on != plain["calculator"]:
        log.info(
            f"the networks learned from {trained_on}; energies here are of {plain['calculator']}"
        )
    build(config.calculator)  # a calculator that cannot be built is told before any worker starts
    name = config.name or source.name
    folder = RunFolder(Path(config.output) / "evaluate" / name)
    made_by = {k: v for k, v in source.config.items() if k not in SAMPLE_MAY_CHANGE}
    folder.save_config(plain | {"name": name, "sampled": made_by}, MAY_CHANGE, config.overrides)
    folder.save_environment()
    tracker = Tracker(folder, **plain["tracking"], job_type="evaluate", name=name, observe=observe)
    with tracker:
        _relax_all(config, generated, folder, tracker)
        evaluated, relaxed = _by_index(folder, EVALUATED), _by_index(folder, RELAXED)
        metrics = measure(generated, evaluated, relaxed, reference, source, config.tolerance)
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
        tracker.summary(metrics)
    _tell(metrics, folder)
    return folder.summary


def reference_set(
    path: str | None, example: Atoms, calculator: dict[str, Any], relaxation: dict[str, Any]
) -> StructureSet | None:
    """The set to compare with: `path`, or the shipped search of the same surface.

    Energies compare if calculator, relaxation, cell, substrate and overlayer are the same:
    ValueError for another `path`; of the shipped sets the first that fits, or None, with a word.
    """
    wanted = {"calculator": calculator, "relaxation": relaxation}
    candidates = [path] if path else shipped.searches()
    for name in candidates:
        data = load_set(name)
        match = _same_surface(data, example)
        differing = [key for key, value in wanted.items() if data.meta.get(key, value) != value]
        if path and differing:
            raise ValueError(f"{path} was made with another {' and '.join(differing)}")
        if path and match.any() and not data.meta:
            log.info(f"{path} does not say how it was made: taken to be made as here")
        if match.any() and not differing:
            return data.select(match)
    if path:
        raise ValueError(f"{path} holds no such overlayer on this substrate and cell")
    log.info(
        "no random search of this surface, calculator and relaxation is shipped: no comparison"
    )
    return None


def _same_surface(data: StructureSet, example: Atoms) -> np.ndarray:
    """Mask of the structures with the example's cell, frozen substrate and overlayer."""
    frozen = frozen_mask(example)
    same_cell = np.abs(data.cell - np.asarray(example.cell)).max(axis=(1, 2)) < 1e-2
    match = same_cell & (data.counts == len(example))
    match &= data.compositions == formula(example.numbers[~frozen])
    for i in np.flatnonzero(match):
        other = data.atoms(int(i))
        fixed = frozen_mask(other)
        match[i] = (
            np.array_equal(fixed, frozen)
            and np.array_equal(other.numbers[fixed], example.numbers[frozen])
            and np.abs(other.positions[fixed] - example.positions[frozen]).max() < 1e-2
        )
    return match


def measure(
    generated: list[Atoms],
    evaluated: list[Atoms],
    relaxed: list[Atoms],
    reference: StructureSet | None,
    source: RunFolder,
    tolerance: float,
) -> dict[str, Any]:
    """The metrics that are not statistics of energies; every share is of all that was generated."""
    n = len(generated)
    window = source.config.get("window")
    finite = [bool(atoms.info["finite"]) for atoms in generated]
    valid = [f and is_valid(atoms, window) for atoms, f in zip(generated, finite, strict=True)]
    labels = unique(relaxed, tolerance) if relaxed else []
    metrics: dict[str, Any] = {
        "gen/n": n,
        "gen/frac_finite": float(np.mean(finite)),
        "gen/frac_valid": float(np.mean(valid)),
        "gen/frac_unique": len(set(labels)) / n,
        "gen/failed": sum(finite) - len(relaxed),
    }
    if relaxed:
        steps = [int(atoms.info["relax_steps"]) for atoms in relaxed]
        metrics["gen/relax_steps_mean"] = float(np.mean(steps))
        metrics["gen_relaxed/frac_converged"] = sum(bool(a.info["converged"]) for a in relaxed) / n
    if reference is not None:
        lowest = reference.atoms(int(np.argmin(reference.energy)))
        metrics["gen/hit_rate"] = sum(same(atoms, lowest, tolerance) for atoms in relaxed) / n
        below = [a.get_potential_energy() < lowest.get_potential_energy() - BELOW for a in relaxed]
        metrics["gen/frac_below_reference"] = sum(below) / n
        # The minimum was taken from this set: it does not count as a hit of its own.
        found = sum(same(atoms, lowest, tolerance) for atoms in reference.to_atoms()) - 1
        metrics["rss/hit_rate"] = found / max(1, len(reference) - 1)
        metrics["rss/n"] = len(reference)
        if "relax_steps" in reference.info:
            metrics["rss/relax_steps_mean"] = float(np.mean(reference.info["relax_steps"]))
        known = reference.relative_energy
        metrics["rss/energy_mean"] = float(known.mean())
        metrics["rss/energy_median"] = float(np.median(known))
    return metrics


def is_valid(atoms: Atoms, window: list[float] | None) -> bool:
    """No overlayer atom closer to another than 0.7 of their covalent radii; all in the window."""
    frozen = frozen_mask(atoms)
    radii = covalent_radii[atoms.numbers]
    i, j, d = neighbor_list("ijd", atoms, 2 * CLOSEST * float(radii.max()))
    close = (d < CLOSEST * (radii[i] + radii[j])) & ~(frozen[i] & frozen[j])
    if close.any():
        return False
    if window is None:
        return True
    height = atoms.positions[~frozen, 2] - atoms.positions[frozen, 2].max()
    return bool(((height >= window[0] - 1e-3) & (height <= window[1] + 1e-3)).all())


def relative_energies(
    evaluated: list[Atoms], relaxed: list[Atoms], reference: StructureSet | None
) -> dict[str, Any]:
    """Energies (eV) before and after relaxation and of random search, from a common zero.

    The zero is the minimum of random search; where there is none, of what was relaxed here.
    """
    before = [float(atoms.get_potential_energy()) for atoms in evaluated]
    after = [float(atoms.get_potential_energy()) for atoms in relaxed]
    rss = reference.energy.tolist() if reference is not None else []
    zero = min(rss or after or before or [0.0])
    return {
        "gen": [e - zero for e in before],
        "gen_relaxed": [e - zero for e in after],
        "rss": [e - zero for e in rss],
        "zero": zero,
    }


def _relax_all(config: Evaluate, generated: list[Atoms], folder: RunFolder, tracker: Any) -> None:
    """Relax what is finite and not done yet; each result is written when it comes."""
    done = {int(a.info["index"]) for a in folder.structures(RELAXED)}
    finite = [atoms for atoms in generated if atoms.info["finite"]]
    missing = [atoms for atoms in finite if int(atoms.info["index"]) not in done]
    if not missing:
        return
    calculator = frozen_key(config.calculator)
    relaxation = config.relaxation.plain()
    failed, reason = 0, ""
    with workers(config.executor) as executor:
        futures = [executor.submit(assess, atoms, calculator, relaxation) for atoms in missing]
        finished = progress(as_completed(futures), "relax", len(finite), len(done))
        for n, future in enumerate(finished, start=1):
            row, frames = future.result()
            if frames:
                folder.append_structures(EVALUATED, frames[:1])
                folder.append_structures(RELAXED, frames[1:])
            tracker.log({"event": "relaxed", **row})
            if "failed" in row:
                failed, reason = failed + 1, row["failed"]
                require_success(failed, len(done) + n, reason)
    require_success(failed, len(finite), reason, last=True)


def _by_index(folder: RunFolder, name: str) -> list[Atoms]:
    frames = {int(atoms.info["index"]): atoms for atoms in folder.structures(name)}
    tidy = [frames[index] for index in sorted(frames)]
    if tidy:
        folder.save_structures(name, tidy)
    return tidy


def _present(
    folder: RunFolder,
    tracker: Any,
    source: RunFolder,
    energies: dict[str, Any],
    relaxed: list[Atoms],
    metrics: dict[str, Any],
) -> None:
    """Histogram, best structures and page."""
    from experiments.harness.figures.evaluation_page import Evaluated, histogram, write_evaluation

    path = source.structures(PATH)[:3]
    run = Evaluated(metrics, energies, relaxed, path, folder.config)
    tracker.figure("energies", histogram(run))
    best = [relaxed[k] for k in run.order]
    captions = [
        f"{energies['gen_relaxed'][k]:+.2f} eV, index {relaxed[k].info['index']}"
        for k in run.order[:4]
    ]
    tracker.structures("best", best, captions=captions)
    write_evaluation(folder / "report.html", run)


def _tell(metrics: dict[str, Any], folder: RunFolder) -> None:
    log.info(
        f"{metrics['gen/n']} generated: {100 * metrics['gen/frac_valid']:.0f} % valid, "
        f"median {metrics['gen/energy_median']:.2f} eV as generated and "
        f"{metrics['gen_relaxed/energy_median']:.2f} eV relaxed"
        + (
            f"; random search: median {metrics['rss/energy_median']:.2f} eV relaxed; "
            f"hits of its minimum: {100 * metrics['gen/hit_rate']:.0f} % against "
            f"{100 * metrics['rss/hit_rate']:.0f} %"
            if "rss/n" in metrics
            else ""
        )
    )
    log.info(f"look at {folder.path}/report.html")
