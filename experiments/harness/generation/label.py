"""Energies and forces of structures with a calculator, one structure a task."""

import logging
from collections.abc import Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from ase import Atoms

from experiments.harness.config.instantiate import calculator_for, frozen_key
from experiments.harness.config.settings import Label
from experiments.harness.execution.progress import progress
from experiments.harness.execution.workers import outcomes, workers
from experiments.harness.generation.given import read_given
from experiments.harness.generation.relaxation import assess
from experiments.harness.runs.run_folder import LABELLED, Observe, RunFolder
from experiments.harness.structure_search.reference import calculator_of, cpu_seconds
from experiments.harness.training.calculator import identified
from sdedata.frames import digest, energy_of, labels
from sdedata.structures import same_atoms

log = logging.getLogger(__name__)

MAY_CHANGE = ("tracking", "output", "executor", "structures", "calculator.path")


def run(config: Label, observe: Observe | None = None) -> dict[str, Any]:
    """Label all structures of a file; returns the summary.

    Raises ValueError for a file or a calculator that cannot be used, and for a folder that holds
    labels of other structures or of another calculator.
    """
    from experiments.harness.tracking.tracker import Tracker

    if config.structures is None:
        raise ValueError("nothing to label: give structures=FILE")
    source = Path(config.structures)
    given = read_given(source)
    for index, atoms in given.items():
        atoms.info["index"] = index
    chosen = given if config.frames is None else numbered(given, config.frames, config.structures)
    if config.lowest is not None:
        chosen = lowest(chosen, config.lowest, config.structures)
    frames = list(chosen.values())
    elements = {int(z) for atoms in frames for z in atoms.numbers}
    calculator_for(config.calculator, elements)  # refuse a bad one before any worker starts
    config = config.changed({"calculator": identified(config.calculator).plain()})
    name = config.name or source.stem
    folder = RunFolder(Path(config.output) / "label" / name)
    plain = config.plain() | {"name": name, "digest": digest(list(given.values()))}
    tracking = plain["tracking"]
    with (
        folder.recording(plain, MAY_CHANGE, config.overrides),
        Tracker(folder, **tracking, job_type="label", name=name, observe=observe) as tracker,
    ):
        _label_all(config, frames, folder, tracker)
        folder.tidy(LABELLED)
        labelled = folder.structures(LABELLED)
        failed = len(frames) - len(labelled)
        energies = [float(atoms.get_potential_energy()) for atoms in labelled]
        tracker.energies("labelled", above_lowest(labelled, energies))
        tracker.structures(LABELLED)
        seconds = sum(float(atoms.info["cpu_seconds"]) for atoms in labelled)
        tracker.summary(
            {"label/n": len(labelled), "label/failed": failed, "label/cpu_seconds": seconds}
        )
    written = f"{folder.path}/structures/{LABELLED}.extxyz"
    log.info(f"{len(labelled)} of {len(frames)} structures: {written}")
    return folder.summary


def numbered(given: dict[int, Atoms], frames: Sequence[int], source: str) -> dict[int, Atoms]:
    """Select the structures with these numbers, in the order of the file; ValueError for others."""
    if unknown := sorted(set(frames) - set(given)):
        raise ValueError(
            f"{source} holds no structure in frame {unknown[0]}: its last is {max(given)}"
        )
    return {number: given[number] for number in sorted(set(frames))}


def lowest(given: dict[int, Atoms], count: int, source: str) -> dict[int, Atoms]:
    """Select the lowest structures of each formula and cell, in the order of the file.

    Raises ValueError if one has no energy.
    """
    kinds = dict(zip(given, same_atoms(list(given.values())), strict=True))
    energies: dict[str, dict[int, float]] = {}  # those of other atoms do not compare
    for number, atoms in given.items():
        energy = energy_of(labels(atoms), f"{source}, frame {number}")
        energies.setdefault(kinds[number], {})[number] = energy
    chosen = (sorted(same, key=same.__getitem__)[:count] for same in energies.values())
    return {number: given[number] for number in sorted(chain.from_iterable(chosen))}


def above_lowest(frames: Sequence[Atoms], energies: Sequence[float]) -> list[float]:
    """Return the structures' energies (eV) above the lowest of the same atoms."""
    kinds = same_atoms(frames)
    lowest: dict[str, float] = {}
    for kind, energy in zip(kinds, energies, strict=True):
        lowest[kind] = min(energy, lowest.get(kind, energy))
    return [energy - lowest[kind] for kind, energy in zip(kinds, energies, strict=True)]


def label_one(
    atoms: Atoms, calculator: str, relaxation: dict[str, Any]
) -> list[tuple[dict[str, Any], list[Atoms]]]:
    """Label one structure in a worker (see `relaxation.assess`); CPU seconds are added."""
    calculator_of(calculator)  # what a worker does once is not a structure's time
    began = cpu_seconds()
    ((row, frames),) = assess([atoms], calculator, relaxation)
    row["cpu_seconds"] = round(cpu_seconds() - began, 2)
    for frame in frames:
        frame.info["cpu_seconds"] = row["cpu_seconds"]
    return [(row, frames[-1:])]


def _label_all(config: Label, frames: list[Atoms], folder: RunFolder, tracker: Any) -> None:
    """Label what is not done yet; each label is written when it comes."""
    done = {int(a.info["index"]) for a in folder.structures(LABELLED)}
    missing = [atoms for atoms in frames if atoms.info["index"] not in done]
    if not missing:
        return
    calculator, relaxation = frozen_key(config.calculator), config.relaxation.plain()
    calls = [partial(label_one, atoms, calculator, relaxation) for atoms in missing]
    with workers(config.executor) as executor:
        results = outcomes(executor, [calls], itemgetter(0), succeeded=len(done))
        for row, found in progress(results, "label", len(frames), len(done)):
            folder.append_structures(LABELLED, found)
            tracker.log({"event": "labelled", **row})
            if "failed" in row:
                log.info(f"structure {row['index']} failed: {row['failed']}")
