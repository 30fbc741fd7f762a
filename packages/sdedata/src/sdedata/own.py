"""User data: summarise files, find invalid frames, split into training and validation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sdedata.dataset import UNITS, split, units
from sdedata.frames import bad_frames, whole_frames
from sdedata.structures import StructureSet


def read_good(paths: Sequence[Path]) -> tuple[StructureSet, list[str]]:
    """Read the valid frames of files; also return file, frame and reason of each invalid one.

    Each of several files counts as one relaxation, unless `info` of their frames names units.
    Raises ValueError for a file without structures.
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
    """Summarise each overlayer on its substrate in a row: number of frames, energies, heights."""
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
    """Split into training and validation set, by name; frames of one relaxation stay together."""
    train, validation = split(data, share, torch.Generator().manual_seed(seed))
    return {"train": data.select(train), "validation": data.select(validation)}
