"""Sets of labelled structures: packed arrays, read from and written to files; the paper's subsets.

extxyz (or whatever ASE reads) is for exchange; packed npz is forty times faster to read and needs no
pickle. Both hold the same thing: frozen atoms, energies, forces on *all* atoms, one row of facts each.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.formula import Formula
from ase.io import iread, write

from sdedata.graph import Graph, frozen_mask


@dataclass(frozen=True, eq=False)
class StructureSet:
    """s structures with N atoms in all; Å, eV, eV/Å. `info` holds one value per structure and fact,
    `meta` what is true of the whole set (calculator, settings)."""

    counts: np.ndarray  # (s,) atoms per structure
    numbers: np.ndarray  # (N,)
    positions: np.ndarray  # (N, 3)
    fixed: np.ndarray  # (N,) bool
    cell: np.ndarray  # (s, 3, 3)
    pbc: np.ndarray  # (s, 3)
    energy: np.ndarray  # (s,)
    forces: np.ndarray  # (N, 3), on fixed atoms too
    info: dict[str, np.ndarray] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.counts) - self.counts

    @property
    def compositions(self) -> np.ndarray:
        """Formula of each structure's overlayer (its atoms that are not fixed), metals first."""
        return np.array([formula(self.numbers[s][~self.fixed[s]]) for s in self._slices()])

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers present, ascending."""
        return tuple(int(z) for z in np.unique(self.numbers))

    @property
    def groups(self) -> np.ndarray:
        """Label of the structures whose energies compare: same overlayer on the same substrate."""
        substrate = np.add.reduceat(self.fixed.astype(int), self.starts) if len(self) else []
        return np.array([f"{c}/{n}" for c, n in zip(self.compositions, substrate, strict=True)])

    @property
    def relative_energy(self) -> np.ndarray:
        """Energy above the lowest structure of the same composition and substrate, eV, shape (s,)."""
        groups = self.groups
        lowest = {g: self.energy[groups == g].min() for g in np.unique(groups)}
        return self.energy - np.array([lowest[g] for g in groups])

    @property
    def digest(self) -> str:
        """SHA-256 (first 16 digits) of the physics: rounded as extxyz rounds, so both formats agree."""
        sha = hashlib.sha256()
        for array, decimals in (
            (self.counts, 0), (self.numbers, 0), (self.fixed, 0), (self.positions, 4),
            (self.cell, 4), (self.energy, 3), (self.forces, 3),
        ):  # fmt: skip
            rounded = np.round(np.asarray(array, dtype=np.float64), decimals) + 0.0
            sha.update((rounded * 10**decimals).round().astype(np.int64).tobytes())
        return sha.hexdigest()[:16]

    def _slices(self) -> list[slice]:
        ends = np.cumsum(self.counts)
        return [slice(int(e - n), int(e)) for n, e in zip(self.counts, ends, strict=True)]

    def select(self, which: np.ndarray | Sequence[int]) -> "StructureSet":
        """The structures at a boolean mask or list of indices, in that order."""
        which = np.asarray(which)
        index = np.flatnonzero(which) if which.dtype == bool else which.astype(int)
        starts = self.starts
        atoms = np.concatenate(
            [np.arange(starts[i], starts[i] + self.counts[i]) for i in index] or [np.array([], int)]
        ).astype(int)
        return StructureSet(
            self.counts[index], self.numbers[atoms], self.positions[atoms], self.fixed[atoms],
            self.cell[index], self.pbc[index], self.energy[index], self.forces[atoms],
            {key: value[index] for key, value in self.info.items()}, dict(self.meta),
        )  # fmt: skip

    def atoms(self, i: int) -> Atoms:
        """Structure i with its constraint, labels and facts."""
        s = slice(int(self.starts[i]), int(self.starts[i] + self.counts[i]))
        atoms = Atoms(self.numbers[s], positions=self.positions[s], cell=self.cell[i], pbc=self.pbc[i])
        if self.fixed[s].any():
            atoms.set_constraint(FixAtoms(mask=self.fixed[s]))
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(self.energy[i]), forces=np.array(self.forces[s], dtype=float)
        )
        atoms.info.update({key: value[i].item() for key, value in self.info.items()})
        return atoms

    def to_atoms(self) -> list[Atoms]:
        return [self.atoms(i) for i in range(len(self))]

    def graphs(
        self,
        cutoff: float,
        window: tuple[float, float],
        backend: str = "torch",
        dtype: torch.dtype = torch.float32,
    ) -> list[Graph]:
        """One graph per structure; `window` in Å above each structure's highest frozen atom."""
        return [
            Graph(
                positions=torch.as_tensor(self.positions[s], dtype=dtype),
                numbers=torch.as_tensor(self.numbers[s].astype(np.int64)),
                batch=torch.zeros(s.stop - s.start, dtype=torch.int64),
                mobile=torch.as_tensor(~self.fixed[s]),
                cell=torch.as_tensor(self.cell[i : i + 1], dtype=dtype),
                pbc=torch.as_tensor(self.pbc[i : i + 1]),
                window=torch.as_tensor([self.top(i) + np.asarray(window)], dtype=dtype),
                cutoff=float(cutoff),
                energy=torch.as_tensor(self.energy[i : i + 1], dtype=dtype),
                forces=torch.as_tensor(self.forces[s], dtype=dtype),
                backend=backend,
            )
            for i, s in enumerate(self._slices())
        ]

    def top(self, i: int) -> float:
        """z of the highest fixed atom of structure i, Å; ValueError if none is fixed."""
        s = slice(int(self.starts[i]), int(self.starts[i] + self.counts[i]))
        if not self.fixed[s].any():
            raise ValueError(
                f"structure {i} has no fixed atoms: put a FixAtoms constraint on the substrate"
            )
        return float(self.positions[s][self.fixed[s], 2].max())

    def heights(self) -> list[np.ndarray]:
        """Per structure, z of the overlayer's atoms above the highest fixed atom, Å."""
        return [
            self.positions[s][~self.fixed[s], 2] - self.top(i) for i, s in enumerate(self._slices())
        ]

    @classmethod
    def from_atoms(
        cls, images: Iterable[Atoms], source: str = "structures", meta: Mapping[str, Any] | None = None
    ) -> "StructureSet":
        """Labelled ASE structures; ValueError naming `source` and frame for one that cannot be used."""
        frames = list(images)
        if not frames:
            raise ValueError(f"{source} holds no structures")
        for i, atoms in enumerate(frames):
            _check(atoms, f"{source}, frame {i}")
        keys = set.intersection(*(set(_facts(atoms)) for atoms in frames))
        return cls(
            counts=np.array([len(atoms) for atoms in frames]),
            numbers=np.concatenate([atoms.numbers for atoms in frames]),
            positions=np.concatenate([atoms.positions for atoms in frames]),
            fixed=np.concatenate([frozen_mask(atoms) for atoms in frames]),
            cell=np.array([np.asarray(atoms.cell) for atoms in frames]),
            pbc=np.array([atoms.pbc for atoms in frames]),
            energy=np.array([atoms.get_potential_energy() for atoms in frames], dtype=float),
            forces=np.concatenate([atoms.get_forces(apply_constraint=False) for atoms in frames]),
            info={key: np.array([_facts(atoms)[key] for atoms in frames]) for key in sorted(keys)},
            meta=dict(meta or {}),
        )

    @classmethod
    def read(cls, path: str | Path, cache: str | Path | None = None) -> "StructureSet":
        """A packed npz, or any file that ASE reads.

        With a `cache` folder, a parsed file is kept there as npz under the hash of its content.
        Raises ValueError naming the file, and the frame, for anything missing, empty or not finite.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"no data file {path}")
        if path.suffix == ".npz":
            return cls._read_npz(path)
        key = hashlib.sha256(path.read_bytes()).hexdigest()[:24]
        cached = Path(cache) / f"{path.stem}-{key}.npz" if cache is not None else None
        if cached is not None and cached.is_file():
            return cls._read_npz(cached)
        try:
            frames = list(iread(path, index=":"))
        except Exception as error:  # ASE's readers raise nearly anything on a broken file
            raise ValueError(f"{path} cannot be read as structures: {error}") from error
        data = cls.from_atoms(frames, source=str(path))
        if cached is not None:
            data.write(cached)
        return data

    @classmethod
    def _read_npz(cls, path: Path) -> "StructureSet":
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            meta = json.loads(str(arrays.pop("meta")))
            info = {k.removeprefix("info."): arrays.pop(k) for k in list(arrays) if "." in k}
            data = cls(info=info, meta=meta, **arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise ValueError(f"{path} is not a packed structure set: {error}") from error
        if len(data) == 0:
            raise ValueError(f"{path} holds no structures")
        return data

    def write(self, path: str | Path) -> None:
        """To npz (packed, single precision where it suffices) or any format ASE writes; atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        if path.suffix == ".npz":
            np.savez_compressed(
                partial,
                allow_pickle=False,
                counts=self.counts.astype(np.int32),
                numbers=self.numbers.astype(np.uint8),
                positions=self.positions.astype(np.float32),
                fixed=self.fixed,
                cell=self.cell.astype(np.float64),
                pbc=self.pbc,
                energy=self.energy.astype(np.float64),
                forces=self.forces.astype(np.float32),
                meta=np.array(json.dumps(self.meta)),
                **{f"info.{key}": value for key, value in self.info.items()},
            )
        else:
            write(partial, self.to_atoms())
        partial.replace(path)


def concatenate(sets: Sequence[StructureSet]) -> StructureSet:
    """One set of several; the facts that all share are kept, the meta of the first."""
    keys = set.intersection(*(set(s.info) for s in sets))
    fields = ("counts", "numbers", "positions", "fixed", "cell", "pbc", "energy", "forces")
    arrays = {name: np.concatenate([getattr(s, name) for s in sets]) for name in fields}
    info = {key: np.concatenate([s.info[key] for s in sets]) for key in sorted(keys)}
    return StructureSet(**arrays, info=info, meta=dict(sets[0].meta))


def formula(numbers: np.ndarray) -> str:
    """Composition as a formula in the convention of the paper: metals first, e.g. Ag6O3."""
    return Formula.from_list([_symbol(z) for z in numbers]).format("metal")


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return chemical_symbols[int(number)]


def _facts(atoms: Atoms) -> dict[str, Any]:
    """The single-valued entries of `atoms.info`: strings, numbers and booleans."""
    return {k: v for k, v in atoms.info.items() if isinstance(v, str | bool | int | float | np.generic)}


def _check(atoms: Atoms, where: str) -> None:
    results = atoms.calc.results if atoms.calc is not None else {}
    if np.abs(np.linalg.det(np.asarray(atoms.cell)[:2, :2])) < 1e-6:
        raise ValueError(f"{where}: no cell in the plane")
    for label in ("energy", "forces"):
        if label not in results:
            raise ValueError(f"{where}: no {label}; compute and store it (see ASE's calculators)")
        if not np.isfinite(results[label]).all():
            raise ValueError(f"{where}: {label} not finite")
    if not np.isfinite(atoms.positions).all():
        raise ValueError(f"{where}: positions not finite")


def low_energy(data: StructureSet, within: float) -> StructureSet:
    """Structures at most `within` eV above the lowest of their stoichiometry.

    The paper's D has 2 eV, its D_lowE 0.5 eV.
    """
    return data.select(data.relative_energy <= within)


def oxygen_poor(data: StructureSet) -> StructureSet:
    """D-red: overlayers with at most as much oxygen as Ag2O; exactly 2:1 counts as poor."""
    return data.select(_oxygen_excess(data) <= 0)


def oxygen_rich(data: StructureSet) -> StructureSet:
    """D-ox: overlayers with more oxygen than Ag2O."""
    return data.select(_oxygen_excess(data) > 0)


def _oxygen_excess(data: StructureSet) -> np.ndarray:
    """2 n(O) - n(metal) of each overlayer: zero for Ag2O."""
    counts = [Formula(c).count() for c in data.compositions]
    return np.array([2 * c.get("O", 0) - sum(n for s, n in c.items() if s != "O") for c in counts])


def inside_window(data: StructureSet, window: tuple[float, float]) -> np.ndarray:
    """Mask of the structures whose overlayer lies in the window (Å above the highest fixed atom)."""
    low, high = window
    return np.array([bool(((z >= low) & (z <= high)).all()) for z in data.heights()])


def thin(energies: np.ndarray, forces: np.ndarray, keep: int) -> np.ndarray:
    """Indices of `keep` frames of a relaxation, first and last included, even in cumulated change.

    Late frames hardly differ: steps are measured by energy change (in eV) plus mean force change
    (in eV/Å), each on a square-root scale so that the violent start does not take all.
    """
    if len(energies) <= keep:
        return np.arange(len(energies))
    change = np.sqrt(np.abs(np.diff(energies)))
    change += np.sqrt(np.linalg.norm(np.diff(forces, axis=0), axis=-1).mean(-1)) + 1e-9
    path = np.concatenate([[0.0], np.cumsum(change)])
    targets = np.linspace(0.0, path[-1], keep)
    return np.unique(np.abs(path[None] - targets[:, None]).argmin(1))


