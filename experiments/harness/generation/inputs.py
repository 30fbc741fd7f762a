"""Input files of other programs: POSCAR, INCAR, KPOINTS, scripts for GPAW."""

import logging
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from experiments.harness.config.settings import Gpaw, Poscar, Vasp
from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.run_folder import RunFolder
from sdedata.frozen import frozen_mask, hold_lattice, listed, partly_held
from sdedata.surface import with_third_vector

log = logging.getLogger(__name__)

SCRIPT = '''\
"""{title}: relaxation with GPAW, written by surfdiff convert."""

from ase import Atoms
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from gpaw import GPAW, PW, FermiDirac

atoms = Atoms(
    {symbols!r},
    cell={cell},
    pbc=(True, True, False),
    positions={positions},
)
atoms.set_constraint(FixAtoms({frozen}))
atoms.calc = GPAW(
    mode=PW({ecut}),
    xc={xc!r},
    kpts={{"density": {kpt_density}, "gamma": True}},
    occupations=FermiDirac({width}),
    poissonsolver={{"dipolelayer": "xy"}},
    txt="{number}.txt",
)
BFGS(atoms, trajectory="{number}.traj", logfile="{number}.log").run(fmax={fmax}, steps={max_steps})
'''


def write_inputs(
    frames: Sequence[Atoms], folder: RunFolder, form: Poscar | Vasp | Gpaw
) -> list[str]:
    """Write the structures in a format, numbered from 001; returns the files' names.

    Atoms are grouped by element, as POTCAR has them, in the order in which elements come first.
    """
    files = []
    for k, atoms in enumerate(frames, start=1):
        slab = prepared(atoms, f"structure {k}", not isinstance(form, Gpaw))
        for name, text in _texts(slab, f"{k:03d}", form).items():
            write_text(folder / name, text)
            files.append(name)
    return files


def _texts(slab: Atoms, number: str, form: Poscar | Vasp | Gpaw) -> dict[str, str]:
    """Return the files of a structure by name."""
    match form:
        case Poscar():
            return {f"POSCAR_{number}": poscar(slab)}
        case Gpaw():
            return {f"{number}.py": script(slab, number, form)}
    return {
        f"{number}/POSCAR": poscar(slab),
        f"{number}/INCAR": incar(form.incar),
        f"{number}/KPOINTS": kpoints(slab, form.kpt_density),
        f"{number}/POTCAR.needed": potentials(slab, form.potentials),
    }


def prepared(atoms: Atoms, where: str, holds_axes: bool) -> Atoms:
    """Copy a structure grouped by element, with a third cell vector and lattice constraints.

    `holds_axes`: whether the format can hold an atom along one lattice vector. The log names the
    atoms whose constraints it cannot express, which are free there, and slabs that hold no atom.
    """
    numbers = atoms.numbers.tolist()
    order = np.argsort([numbers.index(z) for z in numbers], kind="stable")
    slab = with_third_vector(atoms)[order]
    partly = partly_held(slab)
    if not slab.constraints:
        log.info(f"{where}: no atom is held, all of them move there")
    less = hold_lattice(slab)
    lost = less if holds_axes else partly
    if lost.any():
        log.info(f"{where}: {listed(slab, lost)} held along axes that the format lacks, free there")
    return slab


def poscar(slab: Atoms) -> str:
    """Write POSCAR in Cartesian coordinates, with selective dynamics if atoms are held."""
    from ase.io.vasp import write_vasp

    text = StringIO()
    write_vasp(text, slab, direct=False)
    return text.getvalue()


def incar(tags: Mapping[str, Any]) -> str:
    """Write INCAR: a line for each tag."""
    return "".join(f"{tag} = {_tag(value)}\n" for tag, value in tags.items() if value is not None)


def _tag(value: Any) -> str:
    if isinstance(value, bool):
        return ".TRUE." if value else ".FALSE."
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def kpoints(slab: Atoms, density: float) -> str:
    """Write KPOINTS: a Γ-centred mesh with `density` points per 1/Å in the plane, one along z."""
    from ase.calculators.calculator import kptdensity2monkhorstpack

    flat = Atoms(cell=slab.cell, pbc=(True, True, False))
    a, b, _ = kptdensity2monkhorstpack(flat, density, even=False)
    return f"at least {density:g} points per 1/A in the plane\n0\nGamma\n{a} {b} 1\n0 0 0\n"


def potentials(slab: Atoms, chosen: Mapping[str, str]) -> str:
    """Name the potentials in the order that POTCAR needs, one a line."""
    _, first = np.unique(slab.numbers, return_index=True)
    elements = [chemical_symbols[slab.numbers[k]] for k in sorted(first)]
    return "".join(f"{chosen.get(symbol, symbol)}\n" for symbol in elements)


def script(slab: Atoms, number: str, form: Gpaw) -> str:
    """Write a Python program that relaxes the structure with GPAW, open along z."""
    return SCRIPT.format(
        title=slab.symbols,
        symbols=str(slab.symbols),
        cell=slab.cell.tolist(),
        positions=_rows(slab.positions),
        frozen=np.flatnonzero(frozen_mask(slab)).tolist(),
        number=number,
        **form.model_dump(exclude={"kind"}),
    )


def _rows(positions: np.ndarray) -> str:
    lines = ",\n".join(f"        {row}" for row in positions.tolist())
    return f"[\n{lines},\n    ]"
