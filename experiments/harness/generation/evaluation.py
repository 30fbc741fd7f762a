"""Evaluation of generated surfaces: validity, energies, uniqueness, hits, beside a reference.

table = evaluate(surfaces, relaxed, reference=search)
table.attrs["summary"]["gen/hit_rate"]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from experiments.harness.generation.reference import (
    at_rest,
    on_the_surface,
    same_surface,
)
from experiments.harness.generation.relaxation import relax
from experiments.harness.generation.summary import lowest_of, summarise, zero_of
from experiments.harness.runs.energies import energy_statistics
from experiments.harness.structure_search.target import target_structure
from experiments.harness.training.checkpoint import Model
from experiments.harness.training.data import load_set
from sdedata import StructureSet
from sdedata.adsorption import is_adsorbed, overlapping
from sdedata.composition import formula
from sdedata.frozen import frozen_mask
from sdedata.similarity import SAME, distance, same, unique

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    surfaces: Sequence[Atoms],
    relaxed: Sequence[Atoms] | Calculator | Model | str | Path,
    reference: StructureSet | Sequence[Atoms] | str | Path | None = None,
    *,
    target: Atoms | str | Path | None = None,
    z_range: tuple[float, float] | None = None,
    tolerance: float = SAME,
    **options: Any,
) -> "pd.DataFrame":
    """Evaluate surfaces of one slab and composition, relaxed by what the reference was made with.

    Args:
        surfaces: as generated.
        relaxed: the same, relaxed, in the same order (see `relax`); or a calculator or force field
            that relaxes them here, with `options` of `relax` (fmax, max_steps, ...).
        reference: structures with energies to compare with, such as a random structure search: ASE
            atoms, a shipped set's name, or a file that ASE reads.
        target: one structure that is looked for, likewise; relaxed here if `relaxed` is a
            calculator, else taken as it is.
        z_range: Å above the slab, in which atoms of a valid structure are; None: anywhere.
        tolerance: Å, the largest displacement of an atom between two structures called the same.

    Returns:
        One row a structure, indexed as `surfaces`: formula (of the overlayer), finite, valid,
        energy_before and energy (eV, NaN where the relaxation failed), steps, converged, adsorbed
        (see `sdedata.adsorption`), surface (index of the first that is the same surface, -1 if it
        failed), hit (is it the reference's lowest?), target_distance (Å, as of
        `sdedata.similarity`; NaN without a target) and failed (the reason, or "").
        `attrs["summary"]` has the metrics by name, with energies above the lowest of the reference,
        or without one of the surfaces themselves. Atoms that have left the surface make no surface:
        distinct ones, hits and lower ones are counted among the adsorbed alone, of the reference
        too.

    Raises:
        ValueError: for lists of different lengths, no surfaces, different slabs, or a reference of
            another cell, slab or overlayer.
    """
    if not surfaces:
        raise ValueError("there are no surfaces to evaluate")
    wanted = (
        target_structure(str(target), surfaces[0]) if isinstance(target, str | Path) else target
    )
    if isinstance(relaxed, Sequence) and not isinstance(relaxed, str):
        ends = list(relaxed)
    else:
        ends = relax(surfaces, relaxed, **options)
        wanted = None if wanted is None else relax([wanted], relaxed, **options)[0]
    if len(ends) != len(surfaces):
        raise ValueError(f"{len(surfaces)} surfaces, but {len(ends)} relaxed ones")
    known = _reference(reference, surfaces[0])
    after = [None if end.calc is None else end for end in ends]
    before = [end.info.get("energy_initial", np.nan) for end in ends]
    found = table(surfaces, before, after, known, z_range, tolerance, wanted)
    found["failed"] = [str(end.info.get("failed", "")) for end in ends]
    zero = zero_of(found["energy"], known)
    summary = summarise(found, known, tolerance, wanted)
    summary |= energy_statistics("gen", found["energy_before"] - zero)
    summary |= energy_statistics("gen_relaxed", found["energy"] - zero)
    found.attrs["summary"] = summary
    return found


def table(
    surfaces: Sequence[Atoms],
    before: Sequence[float],
    relaxed: Sequence[Atoms | None],
    reference: StructureSet | None,
    z_range: Sequence[float] | None,
    tolerance: float,
    target: Atoms | None = None,
) -> "pd.DataFrame":
    """Tabulate structures, their energies as generated (eV) and relaxed ones (see `evaluate`).

    `relaxed` has None where a relaxation failed or is missing; `target` is relaxed.
    """
    import pandas as pd  # here: it takes half a second

    done = [k for k, atoms in enumerate(relaxed) if atoms is not None]
    ends = [atoms for atoms in relaxed if atoms is not None]
    finite = [bool(a.info.get("finite", np.isfinite(a.positions).all())) for a in surfaces]
    found = pd.DataFrame(
        {
            "formula": [formula(atoms.numbers[~frozen_mask(atoms)]) for atoms in surfaces],
            "finite": finite,
            "valid": [f and is_valid(a, z_range) for a, f in zip(surfaces, finite, strict=True)],
            "energy_before": np.asarray(before, dtype=float),
            "energy": np.nan,
            "steps": pd.array([pd.NA] * len(surfaces), dtype="Int64"),
            "converged": False,
            "adsorbed": False,
            "surface": -1,
            "hit": False,
            "target_distance": np.nan,
        }
    )
    if not ends:
        return found
    found.loc[done, "energy"] = [float(atoms.get_potential_energy()) for atoms in ends]
    found.loc[done, "steps"] = [int(atoms.info.get("relax_steps", 0)) for atoms in ends]
    found.loc[done, "converged"] = [bool(atoms.info.get("converged", True)) for atoms in ends]
    found.loc[done, "adsorbed"] = [is_adsorbed(a) for a in ends]
    found.loc[done, "surface"] = [done[first] for first in unique(ends, tolerance)]
    if reference is not None:
        lowest = lowest_of(reference)
        found.loc[done, "hit"] = [same(atoms, lowest, tolerance) for atoms in ends]
    if target is not None:
        found.loc[done, "target_distance"] = [distance(atoms, target) for atoms in ends]
    return found


def _reference(reference: Any, example: Atoms) -> StructureSet | None:
    """Return the structures of a reference with the example's cell, slab and overlayer."""
    if reference is None:
        return None
    data, name = reference, "the reference"
    if isinstance(data, str | Path):
        data, name = load_set(str(data)), str(data)
    elif not isinstance(data, StructureSet):
        data = StructureSet.from_atoms(data, name)
    match = same_surface(data, example)
    if not match.any():
        raise ValueError("the reference holds no such overlayer on this slab and cell")
    return on_the_surface(at_rest(data.select(match), name))


def is_valid(atoms: Atoms, window: Sequence[float] | None) -> bool:
    """No overlayer atom overlaps another (see `sdedata.adsorption`); all are in the window."""
    if overlapping(atoms):
        return False
    if window is None:
        return True
    frozen = frozen_mask(atoms)
    height = atoms.positions[~frozen, 2] - atoms.positions[frozen, 2].max()
    return bool(((height >= window[0] - 1e-3) & (height <= window[1] + 1e-3)).all())
