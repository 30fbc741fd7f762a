"""Somebody's own data: what files hold, which frames are of no use, and a split in two."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sdedata.dataset import UNITS, split, units
from sdedata.frames import bad_frames, whole_frames
from sdedata.structures import StructureSet


def read_good(paths: Sequence[Path]) -> tuple[StructureSet, list[str]]:
    """The frames that the models can learn from, and of each other one file, frame and reason.

    Each of several files is taken for one relaxation, unless their frames say what they are of.
    Raises ValueError for a file that holds no structures at all.
    """
    good, bad = [], []
    for number, path in enumerate(paths):
        if path.suffix == ".npz":
            frames, broken = StructureSet.read(path).to_atoms(), None
        else:
            frames, broken = whole_frames(path)
        faults = bad_frames(frames)
        if broken is not None:
            faults[len(frames)] = f"frame {len(frames)} and what follows cannot be read: {broken}"
        bad += [f"{path}, {reason}" for reason in faults.values()]
        good += [(number, atoms) for i, atoms in enumerate(frames) if i not in faults]
    if len(paths) > 1 and not any(fact in atoms.info for _, atoms in good for fact in UNITS):
        for number, atoms in good:
            atoms.info[UNITS[-1]] = number
    if not good:
        return StructureSet.empty(), bad
    return StructureSet.from_atoms([atoms for _, atoms in good]), bad


def contents(data: StructureSet) -> list[dict[str, str]]:
    """One row for each overlayer on its substrate: how many frames, their energies and heights."""
    rows, groups = [], data.groups
    for group in sorted(set(groups.tolist())):
        part = data.select(groups == group)
        relative, heights = part.relative_energy, np.concatenate(part.heights())
        rows.append({
            "overlayer": str(part.compositions[0]),
            "frames": str(len(part)),
            "relaxations": str(len(set(units(part).tolist()))),
            "lowest (eV)": f"{part.energy.min():.3f}",
            "median above it": f"{np.median(relative):.2f}",
            "highest above it": f"{relative.max():.2f}",
            "above the slab (Å)": f"{heights.min():.2f} to {heights.max():.2f}",
        })  # fmt: skip
    return rows


def parts(data: StructureSet, share: float, seed: int) -> dict[str, StructureSet]:
    """For training and for validation, by name; frames of one relaxation stay together."""
    train, validation = split(data, share, torch.Generator().manual_seed(seed))
    return {"train": data.select(train), "validation": data.select(validation)}
