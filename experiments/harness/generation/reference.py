"""What an evaluation is measured by: the calculator of the energies, and the set beside them."""

import logging
from typing import Any

import numpy as np
from ase import Atoms

from experiments.harness.config.instantiate import named_calculators
from experiments.harness.config.settings import Evaluate
from experiments.harness.config.trust import require_known
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.data import load_set
from sdedata import StructureSet, shipped
from sdedata.adsorption import adsorbed
from sdedata.composition import formula
from sdedata.frozen import frozen_mask
from sdedata.similarity import on_one_template
from sdedata.structures import SAME_CELL

log = logging.getLogger(__name__)


def with_calculator(config: Evaluate, source: RunFolder) -> Evaluate:
    """Return the settings with the calculator that the networks learned from, if none is given.

    Raises:
        ValueError: if no calculator is recorded with the sampling run, or one that is not built
            unasked (`trust.require_known`).
    """
    trained_on = source.config.get("trained_on")
    if config.calculator is not None:
        if trained_on is not None and trained_on != config.calculator.plain():
            log.info(
                f"the networks learned from {trained_on}; energies here are of "
                f"{config.calculator.plain()}"
            )
        return config
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
        match = same_surface(data, example)
        differing = [key for key, value in wanted.items() if data.meta.get(key, value) != value]
        if path and differing:
            raise ValueError(f"{path} was made with another {' and '.join(differing)}")
        if path and match.any() and not wanted.keys() & data.meta.keys():
            log.info(f"{path} does not record how it was made: assumed to be made as here")
        if match.any() and not differing:
            for note in data.notes:
                log.info(note)
            return on_the_surface(data.select(match))
    if path:
        raise ValueError(f"{path} holds no such overlayer on this substrate and cell")
    log.info(
        "no random search of this surface, calculator and relaxation is shipped: no comparison"
    )
    return None


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
