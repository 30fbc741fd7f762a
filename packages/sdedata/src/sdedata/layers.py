"""Layers of atoms along z: which free atoms continue the frozen substrate."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Int

from sdedata.composition import formula

LAYER = 0.8
"""Å, the least distance along z between layers of atoms."""


def continued(slab: Atoms, frozen: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Mark the frozen atoms of an upright slab, and the free layers above that are like them.

    Upward, layers are added as long as they consist of the same atoms as a frozen layer.
    """
    kinds = {formula(slab.numbers[layer]) for layer in layers(slab, np.flatnonzero(frozen))}
    kept = frozen.copy()
    above = np.flatnonzero(~frozen & (slab.positions[:, 2] > slab.positions[frozen, 2].min()))
    for layer in layers(slab, above):
        if formula(slab.numbers[layer]) not in kinds:
            break
        kept[layer] = True
    return kept


def layers(slab: Atoms, atoms: Int[np.ndarray, " k"]) -> list[Int[np.ndarray, " m"]]:
    """Group atoms by height, from below."""
    ascending = atoms[np.argsort(slab.positions[atoms, 2], kind="stable")]
    steps = np.diff(slab.positions[ascending, 2])
    return np.split(ascending, np.flatnonzero(steps > LAYER) + 1) if len(atoms) else []


def free_layers(
    slabs: Sequence[Atoms], frozen: Sequence[Bool[np.ndarray, "_"]], source: str
) -> list[str]:
    """Describe free layers of a file's frames that are like the frozen ones; nothing without."""
    found = [
        formula(slab.numbers[free])
        for slab, held in zip(slabs, frozen, strict=True)
        if (free := continued(slab, held) & ~held).any()
    ]
    if not found:
        return []
    return [
        f"{source}: in {len(found)} of {len(slabs)} frames the free atoms hold layers like the "
        f"frozen ones ({found[0]}), which are learned as part of the overlayer; to learn the "
        "overlayer alone, fix them in the file or by data.constraints"
    ]
