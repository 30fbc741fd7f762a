"""User data: summarise files, find invalid frames, split into training and validation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from sdedata.dataset import concatenate, split
from sdedata.files import whole_frames
from sdedata.frames import bad_frames
from sdedata.reading import AS_WRITTEN, Reading
from sdedata.relaxations import NAMES, RELAXED, Relaxations, largest_forces, relaxations
from sdedata.structures import StructureSet

ONE_FILE = "a file without names is one"


@dataclass(frozen=True)
class Invalid:
    """Frames of one file that are invalid for the same reason."""

    path: Path
    frames: list[int]
    """Their numbers, ascending."""
    reason: str

    def __str__(self) -> str:
        name = "frame" if len(self.frames) == 1 else "frames"
        return f"{self.path}, {name} {_ranges(self.frames)}{self.reason}"


def _ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers as "0, 3 to 7, 9"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


@dataclass(frozen=True)
class Files:
    """The valid frames of files, their relaxations numbered by info `index`."""

    data: StructureSet
    bad: list[Invalid] = field(default_factory=list)
    """File, frames and reason of the invalid ones."""
    notes: list[str] = field(default_factory=list)
    """What is unusual."""
    rule: str = ""
    """By which relaxations were found."""

    @property
    def n_invalid(self) -> int:
        """Number of invalid frames."""
        return sum(len(invalid.frames) for invalid in self.bad)


def read_good(paths: Sequence[Path], reading: Reading = AS_WRITTEN) -> Files:
    """Read the valid frames of files, with labels as `reading` names them; list the invalid ones.

    Of several files, one whose frames have no `index` or `surface_index` counts as one relaxation.
    Raises ValueError for a file without structures.
    """
    sets: list[StructureSet] = []
    bad: list[Invalid] = []
    notes: list[str] = []
    rules: dict[str, list[str]] = {}
    start = 0
    for path in paths:
        good, faults = _read(path, reading)
        bad += [Invalid(path, numbers, reason) for reason, numbers in faults.items()]
        if len(good):
            found = _relaxations(good, len(paths) > 1)
            if len(paths) > 1 or not found.named:
                good = _numbered(good, found, start)
            sets.append(good)
            start += len(found)
            notes += good.notes
            rules[found.rule] = [*rules.get(found.rule, []), path.name]
    if not sets:
        return Files(StructureSet.empty(), bad)
    several = len(rules) > 1
    rule = "; ".join(f"{r} in {', '.join(f)}" if several else r for r, f in rules.items())
    return Files(concatenate(sets), bad, notes, rule)


def _read(path: Path, reading: Reading) -> tuple[StructureSet, dict[str, list[int]]]:
    """Read one file; return its valid frames, and the numbers of the others by the reason."""
    if path.suffix == ".npz":
        return StructureSet.read(path), {}
    frames, broken = whole_frames(path, reading)
    faults = bad_frames(frames)
    good = [atoms for i, atoms in enumerate(frames) if i not in faults]
    reasons = _by_reason({i: reason.removeprefix(f"frame {i}") for i, reason in faults.items()})
    if broken is not None:
        reasons[f" and what follows cannot be read: {broken}"] = [len(frames)]
    return StructureSet.from_atoms(good, str(path)) if good else StructureSet.empty(), reasons


def _by_reason(faults: Mapping[int, str]) -> dict[str, list[int]]:
    """Group frames by their reason, which loses a number in brackets if it is not that of all."""
    groups: dict[str, list[int]] = {}
    for i, reason in faults.items():
        groups.setdefault(re.sub(r" \([^()]*\)", "", reason), []).append(i)
    return {
        faults[some[0]] if len({faults[i] for i in some}) == 1 else short: some
        for short, some in groups.items()
    }


def _relaxations(data: StructureSet, several: bool) -> Relaxations:
    if several and not any(name in data.info for name in NAMES):
        return Relaxations(np.zeros(len(data), dtype=int), ONE_FILE)
    return relaxations(data)


def _numbered(data: StructureSet, found: Relaxations, start: int) -> StructureSet:
    """Write the relaxations into `info` alone, where other files and commands find them."""
    _, labels = np.unique(found.labels, return_inverse=True)
    info = {key: value for key, value in data.info.items() if key not in NAMES}
    return replace(data, info=info | {"index": labels + start})


def contents(data: StructureSet) -> list[dict[str, str]]:
    """Summarise each overlayer on its substrate in a row: number of frames, energies, heights."""
    rows, groups, labels = [], data.groups, relaxations(data).labels
    for group in sorted(set(groups.tolist())):
        part = data.select(groups == group)
        relative, heights = part.relative_energy, np.concatenate(part.heights())
        rows.append({
            "overlayer": str(part.compositions[0]),
            "frames": str(len(part)),
            "relaxations": str(len(np.unique(labels[groups == group]))),
            "lowest (eV)": f"{part.energy.min():.3f}",
            "median above it": f"{np.median(relative):.2f}",
            "highest above it": f"{relative.max():.2f}",
            "above the slab (Å)": f"{heights.min():.2f} to {heights.max():.2f}",
        })  # fmt: skip
    return rows


def ends(data: StructureSet) -> str:
    """Describe how many relaxations end in a minimum, which is what a score learns."""
    last = relaxations(data).last
    minima = int((largest_forces(data)[last] <= RELAXED).sum())
    return f"{minima} of {len(last)} end in a minimum (largest force at most {RELAXED:g} eV/Å)"


def parts(data: StructureSet, share: float, seed: int) -> dict[str, StructureSet]:
    """Split into training and validation set, by name; frames of one relaxation stay together."""
    train, validation = split(data, share, torch.Generator().manual_seed(seed))
    return {"train": data.select(train), "validation": data.select(validation)}
