"""How good are generated surfaces? Energies, validity, uniqueness and hits, beside random search.

Every structure is relaxed with the calculator that the networks learned from, or the one that is
given, written as it is done, and compared with the shipped random structure search of the same
template and composition. Draws the energy histogram
and the best structures, and writes one self-contained page.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from experiments.harness.config.instantiate import calculator_for, identity
from experiments.harness.config.settings import Evaluate
from experiments.harness.generation.evaluation import table
from experiments.harness.generation.reference import (
    REFERENCE,
    TARGET,
    must_relax,
    on_the_surface,
    reference_set,
    require_same_zero,
    with_calculator,
)
from experiments.harness.generation.sample import GENERATED, PATH
from experiments.harness.generation.sample import MAY_CHANGE as SAMPLE_MAY_CHANGE
from experiments.harness.generation.summary import relative_energies, summarise
from experiments.harness.generation.worker_relaxation import BATCH, relax_all
from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.metrics import NO_SURFACE, count, target_text
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.structure_search.target import target_structure
from sdedata import StructureSet
from sdedata.frames import digest
from sdedata.reading import Reading
from sdedata.similarity import distance

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MAY_CHANGE = ("tracking", "output", "executor", "sample", "calculator.path")
PICTURES = 16
"""Structures that the table in W&B shows."""
SHOWN = ("formula", "energy_before", "energy", "valid", "surface", "steps", "converged", "hit")
"""Columns of that table."""
EVALUATED, RELAXED = "evaluated", "relaxed"
"""Files: what was generated with its reference energy, and the same relaxed, lowest first."""
LOWEST, DISTINCT = "lowest", 50
"""File of the lowest structures that are different surfaces, and how many it holds at most."""
STRUCTURES, SEARCH = "structures.csv", "random_search.csv"
"""Tables: a row for each structure, and for each of the random search beside."""


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
    config = with_calculator(config, source)
    assert config.calculator is not None  # the line above sets it
    plain, example = config.plain(), generated[0]
    reading = Reading(**config.reference_keys.model_dump())
    known = reference_set(
        config.reference, example, plain["calculator"], plain["relaxation"], reading
    )
    wanted = target_structure(config.target, example) if config.target else None
    # a calculator that cannot be used is refused before any worker starts
    made = calculator_for(config.calculator, {int(z) for a in generated for z in a.numbers})
    if known is not None and not must_relax(known, plain["calculator"], plain["relaxation"]):
        require_same_zero(known, made, str(config.reference))
    at_once = max(BATCH, getattr(made, "at_once", BATCH))
    name = config.name or source.name
    folder = RunFolder(Path(config.output) / "evaluate" / name)
    made_by = {k: v for k, v in source.config.items() if k not in SAMPLE_MAY_CHANGE}
    # What files held: a path may lead to other structures by the time that a run is continued.
    digests = {
        "reference": None if known is None else known.digest,
        "target": None if wanted is None else digest([wanted]),
    }
    recorded = plain | {"name": name, "sampled": made_by, "digests": digests}
    about = plain["tracking"] | {"job_type": "evaluate", "name": name}
    with (
        folder.recording(recorded, MAY_CHANGE, config.overrides),
        Tracker(folder, **about, observe=observe, follows=source.path) as tracker,
    ):
        file = source.path / f"structures/{GENERATED}.extxyz"
        tracker.artifact(of_file("structures", file), uses=True)
        target = _target(wanted, config, folder, tracker)
        reference = _reference(known, config, folder, tracker, at_once)
        images = [atoms for atoms in generated if atoms.info["finite"]]
        relaxed = relax_all(images, config, folder, tracker, RELAXED, EVALUATED, at_once)
        evaluated, z_range = folder.structures(EVALUATED), source.config.get("window")
        found = _table(generated, evaluated, relaxed, reference, z_range, config.tolerance, target)
        metrics = summarise(found, reference, config.tolerance, target)
        energies = relative_energies(evaluated, relaxed, reference)
        for name in ("gen", "gen_relaxed"):
            metrics |= tracker.energies(name, energies[name])
            for key in ("mean", "min", "p10", "median"):
                relative = metrics[f"{name}/energy_{key}"]
                metrics[f"{name}/energy_{key}_abs"] = relative + energies["zero"]
        for key in ("gen/structures_per_second", "gen/composition"):
            if key in source.summary:
                metrics[key] = source.summary[key]
        _write_tables(folder, found, reference, target, energies["zero"])
        folder.save_structures(LOWEST, _lowest_distinct(found, relaxed))
        _present(folder, tracker, source, energies, relaxed, found, metrics)
        tracker.table("structures", *_rows(folder, found, relaxed, config.seed))
        tracker.summary(metrics)
    _log_outcome(metrics, found, folder)
    return folder.summary


def _reference(
    known: StructureSet | None, config: Evaluate, folder: RunFolder, tracker: Any, at_once: int
) -> StructureSet | None:
    """Return the set to compare with, relaxed on the force field if energies are of one.

    The relaxed set is kept for other evaluations of the same output folder.
    """
    assert config.calculator is not None
    plain = config.calculator.plain(), config.relaxation.plain()
    if known is None or not must_relax(known, *plain):
        return known
    facts = json.dumps([known.digest, identity(plain[0]), plain[1]], sort_keys=True)
    name = f"relaxed-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.extxyz"
    kept, own = Path(config.output) / "cache" / name, folder / f"structures/{REFERENCE}.extxyz"
    if kept.is_file() and not own.is_file():
        log.info(f"minima of random search, relaxed with this calculator: {kept}")
        write_text(own, kept.read_text(encoding="utf-8"))
    else:
        log.info(f"{len(known)} minima of random search are relaxed with this calculator, too")
    images = _numbered(known.to_atoms())
    ends = relax_all(images, config, folder, tracker, REFERENCE, at_once=at_once)
    if not kept.is_file():
        write_text(kept, own.read_text(encoding="utf-8"))
    return on_the_surface(StructureSet.from_atoms(_numbered(ends), REFERENCE))


def _target(
    wanted: Atoms | None, config: Evaluate, folder: RunFolder, tracker: Any
) -> Atoms | None:
    """Return the structure that is looked for, relaxed; ValueError if that fails."""
    if wanted is None:
        return None
    (target,) = relax_all(_numbered([wanted]), config, folder, tracker, TARGET)
    moved = distance(wanted, target)
    log.info(f"target {config.target}: its relaxation moved no atom by more than {moved:.2f} Å")
    if moved > config.tolerance:
        log.warning("the target is no minimum of this calculator: hits are of what became of it")
    return target


def _numbered(frames: list[Atoms]) -> list[Atoms]:
    """Return copies, with their labels, whose `info` holds their numbers alone."""
    copies = [atoms.copy() for atoms in frames]
    for index, (copy, atoms) in enumerate(zip(copies, frames, strict=True)):
        copy.info, copy.calc = {"index": index}, atoms.calc
    return copies


def _table(
    generated: list[Atoms],
    evaluated: list[Atoms],
    relaxed: list[Atoms],
    reference: StructureSet | None,
    z_range: list[float] | None,
    tolerance: float,
    target: Atoms | None,
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
        target,
    )


def _present(
    folder: RunFolder,
    tracker: Any,
    source: RunFolder,
    energies: dict[str, Any],
    relaxed: list[Atoms],
    found: "pd.DataFrame",
    metrics: dict[str, Any],
) -> None:
    """Draw the histogram and the best structures, order the relaxed ones, write the page."""
    from experiments.harness.figures.evaluation_page import Evaluated, histogram, write_evaluation

    path = source.structures(PATH)[:3]
    adsorbed = found["adsorbed"][[atoms.info["index"] for atoms in relaxed]].tolist()
    run = Evaluated(metrics, energies, relaxed, adsorbed, path, folder.config)
    tracker.figure("energies", histogram(run))
    ordered = [relaxed[k] for k in run.order]
    captions = [
        f"{energies['gen_relaxed'][k]:+.2f} eV, index {relaxed[k].info['index']}"
        for k in run.order[:4]
    ]
    tracker.structures(RELAXED, ordered, captions=captions)
    write_evaluation(folder / "report.html", run)
    tracker.page("report", folder / "report.html")


def _write_tables(
    folder: RunFolder,
    found: "pd.DataFrame",
    reference: StructureSet | None,
    target: Atoms | None,
    zero: float,
) -> None:
    """Write a row for each structure, and for each of random search; energies (eV) above zero."""
    import pandas as pd

    above = {key: found[key] - zero for key in ("energy_before", "energy")}
    write_text(folder / STRUCTURES, found.assign(**above).to_csv(index_label="index"))
    if reference is None:
        return
    columns: dict[str, Any] = {"energy": reference.energy - zero}
    if "relax_steps" in reference.info:
        columns["steps"] = reference.info["relax_steps"]
    if target is not None:
        columns["target_distance"] = [distance(atoms, target) for atoms in reference.to_atoms()]
    write_text(folder / SEARCH, pd.DataFrame(columns).to_csv(index_label="index"))


def _lowest_distinct(found: "pd.DataFrame", relaxed: list[Atoms]) -> list[Atoms]:
    """Return the lowest structure of each of the lowest surfaces, to be labelled by others.

    If no overlayer has stayed on the surface, of the others.
    """
    after = {int(atoms.info["index"]): atoms for atoms in relaxed}
    done = found[found["energy"].notna()]
    surfaces = done[done["adsorbed"]] if done["adsorbed"].any() else done
    chosen = surfaces.sort_values("energy", kind="stable").drop_duplicates("surface").head(DISTINCT)
    return [after[int(index)] for index in chosen.index]


def _rows(
    folder: RunFolder, found: "pd.DataFrame", relaxed: list[Atoms], seed: int
) -> tuple[list[str], list[list[Any]]]:
    """One row for each structure, the lowest first, `PICTURES` of them with a picture."""
    import pandas as pd

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
        shown = (getattr(row, name) for name in SHOWN)
        rows.append([picture, index, *(None if value is pd.NA else value for value in shown), seed])
    return ["picture", "index", *SHOWN, "seed"], rows


def _log_outcome(metrics: dict[str, Any], found: "pd.DataFrame", folder: RunFolder) -> None:
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
    lost = int((found["energy"].notna() & ~found["adsorbed"]).sum())
    log.info(text + (f"; {lost} of the relaxed ones {NO_SURFACE}" if lost else ""))
    if "target/n" in metrics:
        log.info(target_text(metrics))
    log.info(f"look at {folder.path}/report.html")
