"""Packed sets of labelled structures, read from and written to files.

extxyz (or whatever ASE reads) is for exchange; packed npz is forty times faster to read and needs
no pickle. Both hold the same: frozen atoms, energies, forces on *all* atoms, and `info` per
structure.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from jaxtyping import Bool, Float, Int, Integer

from sdedata.arrays import PER_ATOM, PER_STRUCTURE, valid_arrays
from sdedata.composition import formula
from sdedata.files import read_frames, write_frames
from sdedata.frames import (
    MOST_INVALID,
    energy_of,
    forces_of,
    labels,
    remarks,
    valid_frames,
)
from sdedata.frozen import freeze, frozen_mask
from sdedata.graph import Graph
from sdedata.graphs import Graphs
from sdedata.info import OF_ASE, kept_info
from sdedata.layers import free_layers
from sdedata.packed import read_packed, write_packed
from sdedata.reading import AS_WRITTEN, Reading
from sdedata.surface import upright

NOTES = "notes"
"""Entry of `meta`."""
READER = 3
"""Version of what is read from files, in the name of each that is cached."""
SMALL = {"counts": np.int32, "numbers": np.uint8, "positions": np.float32, "forces": np.float32}
"""Types of the packed arrays, without loss."""
SAME_CELL = 0.01
"""Å, up to which cells are equal: programs write few digits."""


@dataclass(frozen=True, eq=False)
class StructureSet:
    """s structures with N atoms in all; Å, eV, eV/Å; every number finite.

    Positions and forces are kept to 1e-5 (Å, eV/Å), which each file format returns exactly, so that
    `digest` does not depend on the format. Raises ValueError for arrays that do not fit together.
    """

    counts: Integer[np.ndarray, " s"]
    """Atoms per structure; the atoms of one structure are contiguous."""
    numbers: Integer[np.ndarray, " N"]
    positions: Float[np.ndarray, "N 3"]
    fixed: Bool[np.ndarray, " N"]
    """True on the substrate, which is frozen."""
    cell: Float[np.ndarray, "s 3 3"]
    pbc: Bool[np.ndarray, "s 3"]
    energy: Float[np.ndarray, " s"]
    forces: Float[np.ndarray, "N 3"]
    """On fixed atoms too."""
    info: dict[str, np.ndarray] = field(default_factory=dict)
    """One value per structure for each entry."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Metadata of the whole set (calculator, settings); npz only."""

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in (*PER_STRUCTURE, *PER_ATOM)}
        for name, array in valid_arrays(given, self.info).items():
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def starts(self) -> Int[np.ndarray, " s"]:
        """Index of each structure's first atom."""
        return np.cumsum(self.counts) - self.counts

    @property
    def compositions(self) -> np.ndarray:
        """Formula of each structure's overlayer (its atoms that are not fixed), metals first."""
        return np.array([formula(self.numbers[s][~self.fixed[s]]) for s in self._slices])

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers present, ascending."""
        return tuple(int(z) for z in np.unique(self.numbers))

    @property
    def groups(self) -> np.ndarray:
        """Label of structures with comparable energies: same composition, substrate and cell.

        Cells are the same if no component differs by more than `SAME_CELL` Å.
        """
        substrate = [formula(self.numbers[s][self.fixed[s]]) for s in self._slices]
        cells = [f"cell {number}" for number in _numbered(self.cell)]
        return np.array(
            [" ".join(x) for x in zip(self.compositions, substrate, cells, strict=True)]
        )

    @cached_property
    def known_forces(self) -> Bool[np.ndarray, " N"]:
        """False on the fixed atoms of structures where all of these have forces of exactly zero.

        Programs that hold atoms write so (QE, CP2K, LAMMPS' setforce): no force was computed there.
        """
        known = np.ones(len(self.numbers), dtype=bool)
        for s in self._slices:
            fixed = self.fixed[s]
            known[s] = ~fixed | bool(self.forces[s][fixed].any())
        return known

    @property
    def relative_energy(self) -> Float[np.ndarray, " s"]:
        """Energy above the lowest structure of the same composition and substrate, eV."""
        _, group = np.unique(self.groups, return_inverse=True)
        lowest = np.full(len(self), np.inf)
        np.minimum.at(lowest, group, self.energy)
        return self.energy - lowest[group]

    @property
    def digest(self) -> str:
        """First 16 digits of the SHA-256 of geometry, elements, frozen atoms and labels."""
        sha = hashlib.sha256()
        for name in (*PER_STRUCTURE, *PER_ATOM):
            sha.update(np.round(getattr(self, name) * 1e5).astype("<i8").tobytes())
        return sha.hexdigest()[:16]

    def top(self, i: int) -> float:
        """Return z of the highest fixed atom of structure i, Å; ValueError if none is fixed."""
        s = self._slices[i]
        if not self.fixed[s].any():
            raise ValueError(
                f"structure {i} has no fixed atoms: put a FixAtoms constraint on the substrate"
            )
        return float(self.positions[s][self.fixed[s], 2].max())

    def heights(self) -> list[np.ndarray]:
        """Return z of each overlayer's atoms above the highest fixed atom, Å."""
        return [
            self.positions[s][~self.fixed[s], 2] - self.top(i) for i, s in enumerate(self._slices)
        ]

    def select(self, which: np.ndarray | Sequence[int]) -> "StructureSet":
        """Select structures by a boolean mask or a list of indices, in that order."""
        which = np.asarray(which)
        index = np.flatnonzero(which) if which.dtype == bool else which.astype(int)
        pieces = [np.arange(s.start, s.stop) for s in (self._slices[i] for i in index)]
        atoms = np.concatenate([np.empty(0, dtype=int), *pieces])
        return StructureSet(
            **{name: getattr(self, name)[atoms] for name in PER_ATOM},
            **{name: getattr(self, name)[index] for name in PER_STRUCTURE},
            info={key: value[index] for key, value in self.info.items()},
            meta=dict(self.meta),
        )

    def atoms(self, i: int) -> Atoms:
        """Convert structure i to ASE, with its constraint, labels and info."""
        s = self._slices[i]
        atoms = Atoms(
            self.numbers[s], positions=self.positions[s], cell=self.cell[i], pbc=self.pbc[i]
        )
        freeze(atoms, self.fixed[s])
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(self.energy[i]), forces=self.forces[s].copy()
        )
        atoms.info.update({key: value[i].item() for key, value in self.info.items()})
        return atoms

    def to_atoms(self) -> list[Atoms]:
        """Convert all structures to ASE."""
        return [self.atoms(i) for i in range(len(self))]

    def graphs(
        self,
        cutoff: float,
        window: tuple[float, float],
        backend: str = "auto",
        dtype: torch.dtype = torch.float32,
    ) -> Graphs:
        """Convert to one graph per structure; `window` in Å above its highest fixed atom.

        Energies stay in float64: totals of all-electron codes have more digits than float32. Forces
        that are not known (`known_forces`) are NaN.
        """
        forces = np.where(self.known_forces[:, None], self.forces, np.nan)
        tops = np.array([self.top(i) for i in range(len(self))])
        whole = Graph(
            positions=torch.tensor(self.positions, dtype=dtype),
            numbers=torch.tensor(self.numbers),
            batch=torch.from_numpy(np.repeat(np.arange(len(self)), self.counts)),
            mobile=torch.tensor(~self.fixed),
            cell=torch.tensor(self.cell, dtype=dtype),
            pbc=torch.tensor(self.pbc),
            window=torch.tensor(tops[:, None] + window, dtype=dtype),
            cutoff=float(cutoff),
            energy=torch.tensor(self.energy, dtype=torch.float64),
            forces=torch.tensor(forces, dtype=dtype),
            backend=backend,
        )
        return Graphs.of(whole)

    def span(self, i: int) -> slice:
        """Return the range of the atoms of structure i."""
        return self._slices[i]

    @cached_property
    def _slices(self) -> list[slice]:
        return [slice(int(a), int(a + n)) for a, n in zip(self.starts, self.counts, strict=True)]

    @classmethod
    def from_atoms(
        cls,
        images: Iterable[Atoms],
        source: str = "structures",
        meta: Mapping[str, Any] | None = None,
        most_invalid: float = 0.0,
    ) -> "StructureSet":
        """Convert labelled ASE structures; slabs are put upright (`surface.upright`).

        Up to a share `most_invalid` of the frames is left out if invalid; `notes` reports that, and
        what else is unusual. ValueError names `source` and the first invalid frame.
        """
        frames, left_out = valid_frames(list(images), source, most_invalid)
        slabs = [upright(atoms, source) for atoms in frames]
        found = [labels(atoms) for atoms in frames]
        info, lost = _columns([atoms.info for atoms in frames])
        frozen = [frozen_mask(atoms) for atoms in frames]
        notes = [*left_out, *remarks(frames, source), *free_layers(slabs, frozen, source)]
        notes += [f"{source}: {phrase}" for phrase in lost]
        data = cls(
            counts=np.array([len(atoms) for atoms in slabs]),
            numbers=np.concatenate([atoms.numbers for atoms in slabs]),
            positions=np.concatenate([atoms.positions for atoms in slabs]),
            fixed=np.concatenate(frozen),
            cell=np.array([np.asarray(atoms.cell) for atoms in slabs]),
            pbc=np.array([atoms.pbc for atoms in slabs]),
            energy=np.array([energy_of(label, source) for label in found]),
            forces=np.concatenate(
                [forces_of(label, len(a), source) for label, a in zip(found, slabs, strict=True)]
            ),
            info=info,
            meta=dict(meta or {}),
        )
        notes += data._zeroed(source)
        return replace(data, meta=data.meta | {NOTES: notes}) if notes else data

    def _zeroed(self, source: str) -> list[str]:
        n = sum(not self.known_forces[s].all() for s in self._slices)
        zero = f"{source}: {n} of {len(self)} frames have forces of exactly zero on all fixed atoms"
        return [f"{zero}, as of programs that hold them: not learned there"] if n else []

    @property
    def notes(self) -> list[str]:
        """Sentences about what is unusual in the files that the set was read from."""
        return list(self.meta.get(NOTES, ()))

    @classmethod
    def empty(cls) -> "StructureSet":
        """Make a set without structures."""
        row, no = np.zeros((0, 3)), np.zeros(0, dtype=int)
        false = np.zeros(0, dtype=bool)
        return cls(no, no, row, false, np.zeros((0, 3, 3)), row.astype(bool), np.zeros(0), row)

    @classmethod
    def read(
        cls,
        path: str | Path,
        cache: str | Path | None = None,
        reading: Reading = AS_WRITTEN,
    ) -> "StructureSet":
        """Read a packed npz, or any file that ASE reads, with labels as `reading` names them.

        With a `cache` folder, a parsed file is stored there as npz under the hash of its content.
        Of a file with a few invalid frames the others are read, and `notes` names the first.
        Raises ValueError naming the file, and the frame, for anything missing, empty or not finite.
        """
        path = Path(path)
        if path.suffix == ".npz":
            return cls._read_npz(path)
        cached = None
        if cache is not None and path.is_file():
            key = hashlib.sha256(path.read_bytes() + reading.fingerprint()).hexdigest()[:24]
            cached = Path(cache) / f"{path.stem}-{key}-{READER}.npz"
            try:
                return cls._read_npz(cached)
            except ValueError:  # there is none, or it was not written whole
                cached.unlink(missing_ok=True)
        data = cls.from_atoms(read_frames(path, reading), str(path), most_invalid=MOST_INVALID)
        if cached is not None:
            data.write(cached)
        return data

    @classmethod
    def _read_npz(cls, path: Path) -> "StructureSet":
        stored = read_packed(path)
        try:
            data = cls(**stored)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a packed structure set: {error}") from error
        if len(data) == 0:
            raise ValueError(f"{path} holds no structures")
        return data

    def write(self, path: str | Path) -> None:
        """Write npz (packed) or any format of ASE, atomically. OSError names the path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
        try:
            if path.suffix == ".npz":
                arrays = {name: getattr(self, name) for name in (*PER_STRUCTURE, *PER_ATOM)}
                arrays |= {name: arrays[name].astype(kind) for name, kind in SMALL.items()}
                write_packed(partial, arrays, self.info, self.meta)
            else:
                write_frames(partial, self.to_atoms())
            partial.replace(path)
        except OSError as error:
            error.filename = str(path)  # the error of a full disk has no name
            raise
        finally:
            partial.unlink(missing_ok=True)


def same_atoms(frames: Sequence[Atoms]) -> list[str]:
    """Name for each structure those whose energies compare with its own: their formula.

    Further cells of one formula are numbered ("Ag22O3, cell 2"), told apart as in
    `StructureSet.groups`.
    """
    cells = _numbered(np.array([atoms.cell.array for atoms in frames]).reshape(-1, 3, 3))
    seen: dict[str, list[int]] = {}
    names = []
    for atoms, cell in zip(frames, cells.tolist(), strict=True):
        name = formula(atoms.numbers)
        own = seen.setdefault(name, [])
        own += [] if cell in own else [cell]
        number = 1 + own.index(cell)
        names.append(name if number == 1 else f"{name}, cell {number}")
    return names


def _numbered(cells: Float[np.ndarray, "s 3 3"]) -> Int[np.ndarray, " s"]:
    """Number the cells that differ, in the order of their first structures."""
    numbers = np.full(len(cells), -1)
    while (unknown := numbers < 0).any():
        same = np.abs(cells - cells[unknown.argmax()]).max(axis=(1, 2)) <= SAME_CELL
        numbers[same & unknown] = numbers.max() + 1
    return numbers


def _columns(rows: Sequence[Mapping[Any, Any]]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the entries of `info` that all structures have, and phrases about the others."""
    kept = [kept_info(row) for row in rows]
    columns, lost = {}, []
    for key in sorted({str(key) for row in rows for key in row} - {OF_ASE}):
        values = [row[key] for row in kept if key in row]
        kinds = {str if isinstance(value, str) else type(value) for value in values}
        if kinds == {int, float}:
            kinds = {float}
        if len(values) < len(rows):
            lost.append(f"info {key!r} is left out: {len(rows) - len(values)} of {len(rows)} "
                        "frames have none, or none that a file keeps")  # fmt: skip
        elif len(kinds) > 1:
            lost.append(f"info {key!r} is left out: its values are of several types")
        else:
            columns[key] = np.array(values)
    return columns, lost
