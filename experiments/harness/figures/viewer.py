"""What the script viewer.js draws: structures as plain values, finite and wrapped in the plane."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.data.colors import jmol_colors

from experiments.harness.figures.views import drawn_radii, substrate


def viewer_data(structures: Sequence[Atoms], facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return radii and colours by element, and of each structure its atoms, cell and facts."""
    pairs = zip(structures, facts, strict=True)
    return {
        "elements": _elements(structures),
        "structures": [{**_structure(atoms), "facts": dict(known)} for atoms, known in pairs],
    }


def facts_of(atoms: Atoms) -> dict[str, Any]:
    """Return energy (eV), index and seed, as far as the atoms have them."""
    energy = atoms.calc.results.get("energy") if atoms.calc else None
    found = {"energy": energy, "index": atoms.info.get("index"), "seed": atoms.info.get("seed")}
    return {key: value for key, value in found.items() if value is not None}


def overlayer_formula(atoms: Atoms) -> str:
    """Return the formula of the atoms that are not frozen."""
    return str(atoms[substrate(atoms) == 0].get_chemical_formula())


def _structure(atoms: Atoms) -> dict[str, Any]:
    finite = np.isfinite(atoms.positions).all(axis=1)
    fixed = substrate(atoms)[finite]
    atoms = Atoms(atoms.numbers[finite], atoms.positions[finite], cell=atoms.cell, pbc=atoms.pbc)
    atoms.pbc = [*atoms.pbc[:2], False]
    atoms.wrap(eps=1e-4)
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.round(3).tolist(),
        "fixed": fixed.tolist(),
        "cell": atoms.cell[:].round(4).tolist(),
        "edges": _edges(atoms) if atoms.pbc[:2].all() and len(atoms) else [],
    }


def _edges(atoms: Atoms) -> list[Any]:
    """Return the twelve edges of the cell, cut in z to the height of the atoms (Å)."""
    a, b = atoms.cell[0], atoms.cell[1]
    height = atoms.positions[:, 2]
    floor = np.array([0, 0, height.min() - 1.3])
    up = np.array([0, 0, height.max() - height.min() + 2.6])
    corners = [floor, floor + a, floor + a + b, floor + b]
    lower = [[corners[i], corners[(i + 1) % 4]] for i in range(4)]
    edges = lower + [[p + up, q + up] for p, q in lower] + [[p, p + up] for p in corners]
    return np.round(edges, 3).tolist()


def _elements(structures: Sequence[Atoms]) -> dict[str, Any]:
    numbers = sorted({int(number) for atoms in structures for number in atoms.numbers})
    return {
        str(number): {
            "symbol": chemical_symbols[number],
            "radius": round(float(drawn_radii(np.array([number]))[0]), 3),
            "colour": (255 * jmol_colors[number]).round().astype(int).tolist(),
        }
        for number in numbers
    }
