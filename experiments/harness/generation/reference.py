"""What an evaluation is measured by: the calculator, the set beside it, and its target.

Energies of different calculators do not compare. A force field is cheap: the minima of another
calculator's random search, and the target, are relaxed on it too.
"""

import logging
from typing import Any

import numpy as np
from ase import Atoms

from experiments.harness.config.fields import Target
from experiments.harness.config.instantiate import FORCE_FIELD, OWN, identity, named_calculators
from experiments.harness.config.settings import Evaluate
from experiments.harness.config.trust import require_known
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.runs.shipped_models import DEFAULT
from experiments.harness.training.calculator import identified
from experiments.harness.training.data import load_set
from sdedata import StructureSet, shipped
from sdedata.adsorption import adsorbed
from sdedata.composition import formula
from sdedata.frozen import frozen_mask
from sdedata.reading import AS_WRITTEN, Reading
from sdedata.relaxations import RELAXED, largest_forces, minima
from sdedata.similarity import on_one_template
from sdedata.structures import SAME_CELL
from sdedata.surface import with_third_vector

log = logging.getLogger(__name__)

SAME_ENERGY = 0.01
"""eV per atom, up to which a calculator repeats an energy on another machine or in other digits."""
REFERENCE, TARGET = "reference", "target"
"""Files of an evaluation: the random search and the target, where it relaxed them itself."""


def with_calculator(config: Evaluate, source: RunFolder) -> Evaluate:
    """Return the settings with the calculator that the networks learned from, if none is given.

    A force field without a path is the one that guided the sample.

    Raises:
        ValueError: if no calculator is recorded with the sampling run, or one that is not built
            unasked (`trust.require_known`); if the sample's force field is not to be had.
    """
    trained_on = source.config.get("trained_on")
    if config.calculator is not None and config.calculator.target == FORCE_FIELD:
        return config.changed({"calculator": _force_field(config.calculator, source).plain()})
    if config.calculator is not None:
        plain = identified(config.calculator).plain()
        if trained_on is not None and trained_on != plain:
            log.info(f"the networks learned from {trained_on}; energies here are of {plain}")
        return config.changed({"calculator": plain})
    if trained_on is None:
        raise ValueError(
            f"{config.sample} does not record which calculator its networks learned from: give "
            f"one, calculator={'|'.join(named_calculators().values())}"
        )
    require_known(
        trained_on,
        f"{config.sample}, which records what its networks learned from,",
        "give calculator=NAME, or calculator._target_=... with its arguments",
    )
    return config.changed({"calculator": trained_on})


def _force_field(calculator: Target, source: RunFolder) -> Target:
    """Identify the force field of an evaluation: the given one, or that which guided the sample."""
    if calculator.plain().get("path") is not None:
        return identified(calculator)
    guided_by = (source.config.get("digests") or {}).get("forcefield")
    if guided_by is None:
        raise ValueError(f"no force field guided {source.path}: give calculator.path=FOLDER")
    found = identified(calculator, source.config.get("forcefield") or DEFAULT)
    plain = found.plain()
    if plain["digest"] != guided_by:
        raise ValueError(
            f"the force field in {plain['path']} is not the one that guided {source.path}, "
            f"{guided_by}: give calculator.path=FOLDER"
        )
    return found


def unlike(data: StructureSet, calculator: Any, relaxation: Any) -> list[str]:
    """Name what a set records to have been made with, of these, but was not."""
    wanted = {"calculator": calculator, "relaxation": relaxation}
    return [key for key, v in wanted.items() if identity(data.meta.get(key, v)) != identity(v)]


def must_relax(data: StructureSet, calculator: Any, relaxation: Any) -> bool:
    """Whether a set's energies are of another calculator than this one of `OWN`."""
    is_field = calculator.get("_target_") in OWN
    unknown = "calculator" not in data.meta
    return is_field and (unknown or bool(unlike(data, calculator, relaxation)))


def reference_set(
    path: str | None,
    example: Atoms,
    calculator: dict[str, Any],
    relaxation: dict[str, Any],
    reading: Reading = AS_WRITTEN,
) -> StructureSet | None:
    """The set to compare with: `path`, or the shipped search of the same surface.

    `reading` says what the labels in `path` are called.

    Energies compare if calculator, relaxation, cell, substrate and overlayer are the same:
    ValueError for another `path`; of the shipped sets the first that fits, or None, with a word.
    For a calculator in `OWN` these two may differ: see `must_relax`.
    """
    any_labels = calculator.get("_target_") in OWN
    candidates = [path] if path else shipped.searches()
    for name in candidates:
        data = load_set(name, reading=reading)
        match = same_surface(data, example)
        differing = [] if any_labels else unlike(data, calculator, relaxation)
        if path and differing:
            raise ValueError(f"{path} was made with another {' and '.join(differing)}")
        if path and match.any() and not {"calculator", "relaxation"} & data.meta.keys():
            log.info(f"{path} does not record how it was made: assumed to be made as here")
        if match.any() and not differing:
            for note in data.notes:
                log.info(note)
            return on_the_surface(at_rest(data.select(match), name))
    if path:
        raise ValueError(f"{path} holds no such overlayer on this substrate and cell")
    log.info(
        "no random search of this surface, calculator and relaxation is shipped: no comparison"
    )
    return None


def require_same_zero(data: StructureSet, calculator: Any, path: str) -> None:
    """Raise ValueError if a set that does not record its calculator has energies of another one.

    Its lowest structure is computed; energies of one calculator agree to `SAME_ENERGY`.
    """
    if "calculator" in data.meta:
        return
    lowest = with_third_vector(data.atoms(int(data.energy.argmin())))
    labelled = float(data.energy.min())
    lowest.calc = calculator
    computed = float(lowest.get_potential_energy())
    if not abs(computed - labelled) <= SAME_ENERGY * len(lowest):
        raise ValueError(
            f"{path} holds energies of another calculator: its lowest structure has {labelled:.3f} "
            f"eV there and {computed:.3f} eV here; give calculator=NAME of those, or label it anew "
            f"(surfdiff label structures={path})"
        )


def compared_with(run: RunFolder, example: Atoms) -> StructureSet | None:
    """Return what a finished evaluation compared `example` with (see `reference_set`)."""
    config = run.config
    if frames := run.structures(REFERENCE):
        return StructureSet.from_atoms(frames, str(run.path))
    wanted = (config.get("reference"), config["calculator"], config["relaxation"])
    reading = Reading(**config.get("reference_keys") or {})
    found = reference_set(wanted[0], example, *wanted[1:], reading)
    return None if found is None or must_relax(found, *wanted[1:]) else found


def at_rest(data: StructureSet, source: str) -> StructureSet:
    """Return a set of minima as it is; of one with whole relaxations their ends, with a word."""
    if (largest_forces(data) <= RELAXED).all():
        return data
    found, left_out = minima(data, RELAXED)
    log.info(f"{source}: {left_out}")
    return found


def on_the_surface(data: StructureSet) -> StructureSet:
    """Return the structures without those whose atoms have left the surface.

    ValueError if none is left.
    """
    kept = adsorbed(data)
    if not kept.any():
        raise ValueError("the reference holds no overlayer that stays on its surface")
    return data.select(kept)


def same_surface(data: StructureSet, example: Atoms) -> np.ndarray:
    """Mask of the structures with the example's cell, frozen substrate and overlayer.

    The order of atoms and their periodic images do not matter.
    """
    frozen = frozen_mask(example)
    same_cell = np.abs(data.cell - np.asarray(example.cell)).max(axis=(1, 2)) <= SAME_CELL
    match = same_cell & (data.counts == len(example))
    match &= data.compositions == formula(example.numbers[~frozen])
    # Where the overlayer is does not matter; that of a structure that overflowed is nowhere.
    substrate = example.copy()
    substrate.positions[~frozen] = 0.0
    for i in np.flatnonzero(match):
        match[i] = on_one_template(substrate, data.atoms(int(i)))
    return match
