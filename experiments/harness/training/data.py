"""From a config's `data` section to graphs for training and validation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.harness.config.instantiate import identity
from experiments.harness.config.renamed import renamed
from experiments.harness.config.settings import Data, Train
from experiments.harness.runs.run_folder import LABELLED, RunFolder
from sdedata import Graph, StructureSet, Template, shipped
from sdedata.dataset import (
    difference,
    distinct,
    inside_window,
    low_energy,
    oxygen_poor,
    oxygen_rich,
    portion,
    require_window,
    split,
)
from sdedata.frozen import frozen_mask
from sdedata.reading import AS_WRITTEN, Reading
from sdedata.relaxations import minima, relaxations
from vpsde import generators

SPLIT_STREAM, SHARE_STREAM = 2**31, 2**31 + 2  # random streams that no training step uses


@dataclass(frozen=True)
class TrainingData:
    train: Sequence[Graph]
    val: Sequence[Graph]
    structures: StructureSet
    """Both, as labelled structures."""
    facts: dict[str, Any]
    """For the model's card: elements, calculator, digest, compositions, counts."""
    notes: list[str]
    """Sentences for the log: what is unusual, what was left out, how many relaxations there are."""


def load_set(path: str, cache: Path | None = None, reading: Reading = AS_WRITTEN) -> StructureSet:
    """A shipped set by name, a labelling run, or any file that ASE reads."""
    if path in shipped.names():
        data = shipped.load(path)
    elif (Path(path) / "config.yaml").is_file():
        data = _labelled(RunFolder.existing(path), cache, reading)
    else:
        data = StructureSet.read(path, cache, reading)
    return replace(data, meta=renamed(data.meta))


def _labelled(run: RunFolder, cache: Path | None, reading: Reading) -> StructureSet:
    """The structures of a labelling run, with its calculator; ValueError if it has none."""
    file = run.path / f"structures/{LABELLED}.extxyz"
    if not file.is_file():
        raise ValueError(f"{run.path} holds no labels: it is no run of surfdiff label")
    data = StructureSet.read(str(file), cache, reading)
    return replace(data, meta=data.meta | {"calculator": run.config.get("calculator")})


def training_data(config: Train, kind: str) -> TrainingData:
    """Graphs for a network of this kind, split so that frames of one relaxation stay together.

    A score learns minima (the last frames of relaxations, with forces up to `data.max_force`)
    within `data.max_energy` of the lowest of their stoichiometry, of each surface the lowest unless
    `data.distinct` is false; equal surfaces are on one side of the split in either case. A force
    field learns every frame of the relaxations. `data.share` leaves out relaxations to learn from,
    none for validation. Raises ValueError for data that cannot be used.
    """
    section = config.data
    source = source_of(section, kind)
    cache = Path(config.output) / "cache"
    reading = Reading(section.keys.energy, section.keys.forces, section.constraints)
    data = load_set(source, cache, reading)
    if source == section.frames:
        _require_one_calculator(data, load_set(section.path, cache, reading), source)
    if section.minus is not None:
        data = _difference(data, section.minus, kind, cache, reading)
    total = len(data)
    own = source not in shipped.names()
    window = section.z_range
    if own:  # of a user's data, nothing is left out without a word
        _require_room(data, window, config.cutoff, source)
    else:
        data = data.select(inside_window(data, window))
    notes, left_out = data.notes, ""
    if kind == "score":
        found = distinct(data) if section.distinct else data
        data, left_out = minima(found, section.max_force)
        data = low_energy(data, section.max_energy)
    if section.oxygen != "all":
        data = (oxygen_poor if section.oxygen == "poor" else oxygen_rich)(data)
    if len(data) < 2:
        why = f": {left_out}; give the relaxations of other structures, too" if left_out else ""
        raise ValueError(
            f"{source}: training and validation need a structure each: there is {len(data)} in the "
            f"data{why}"
        )
    splits, shares = generators(config.seed, [SPLIT_STREAM, SHARE_STREAM])
    train, val = split(data, config.train.validation_share, splits, config.train.validation_at_most)
    if section.share is not None:
        train = portion(data, train, section.share, shares)
    notes += [f"{source}: {left_out}; a score learns minima (data.max_force)"] if left_out else []
    notes.append(f"{source}: {len(data)} structures of {relaxations(data)}")
    if section.share is not None:
        notes.append(f"{source}: {len(train)} structures to learn from (data.share)")
    # a score knows energies as a property alone, above the lowest
    labelled = replace(data, energy=data.relative_energy) if kind == "score" else data
    graphs = labelled.graphs(config.cutoff, window, config.neighbours)
    return TrainingData(
        train=graphs.subset(train),
        val=graphs.subset(val),
        structures=data,
        facts={
            "data": source if not own else Path(source).name,
            "digest": data.digest,
            "structures": len(train) + len(val),
            "of": total,
            "elements": list(data.elements),
            "compositions": sorted(set(data.compositions.tolist())),
            "calculator": data.meta.get("calculator"),
            "window": list(window),
            **({"minus": data.meta["minus"]} if section.minus is not None else {}),
        },
        notes=notes,
    )


def _difference(
    data: StructureSet, minus: str, kind: str, cache: Path, reading: Reading
) -> StructureSet:
    """What the labels are above those of the run `minus`, whose calculator `meta` keeps.

    Raises ValueError for a score, and for a run of other structures or without a calculator.
    """
    if kind == "score":
        raise ValueError(f"data.minus={minus} is for a force field: a score learns no energies")
    other = load_set(minus, cache, reading)
    calculator = other.meta.get("calculator")
    if not isinstance(calculator, dict):
        raise ValueError(
            f"data.minus={minus} does not record its calculator: give a run of surfdiff label"
        )
    try:
        found = difference(data, other)
    except ValueError as error:
        raise ValueError(f"data.minus={minus}: {error}") from error
    return replace(found, meta=found.meta | {"minus": calculator})


def _require_one_calculator(frames: StructureSet, minima: StructureSet, source: str) -> None:
    """ValueError if frames and minima record different calculators: their labels do not agree."""
    theirs, ours = (data.meta.get("calculator") for data in (frames, minima))
    if None not in (theirs, ours) and identity(theirs) != identity(ours):
        raise ValueError(
            f"data.frames={source} was made with {theirs}, data.path with {ours}: sets of two "
            "calculators are not put together"
        )


def _require_room(
    data: StructureSet, window: tuple[float, float], cutoff: float, source: str
) -> None:
    """ValueError unless the overlayers lie in the window, and see no image of the slab above."""
    require_window(data, window, source)
    for i in range(len(data)):
        try:
            atoms = data.atoms(i)
            Template.from_slab(atoms[frozen_mask(atoms)], window).require_vacuum(cutoff)
        except ValueError as error:
            raise ValueError(f"{source}, frame {i}, {error}") from error


def source_of(section: Data, kind: str) -> str:
    """Minima for the score, frames for the force field where there are any."""
    if kind == "score":
        return section.path
    if section.frames is not None:
        return section.frames
    return shipped.frames_of(section.path) or section.path
