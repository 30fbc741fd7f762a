#!/usr/bin/env bash
# ASE 3.29.0: a POSCAR written from atoms under FixCartesian says that these atoms are free.
#
# FixCartesian with a mask of three True holds an atom as FixAtoms does; ASE's relaxations treat the two alike.
# The VASP writer knows FixScaled, FixAtoms, FixedPlane and FixedLine. For FixCartesian it writes the line
# "Selective dynamics" and "T T T" behind every atom, without a warning: VASP relaxes the whole slab, and reading
# the file back gives no constraint. Expected: "F F F" for the held atoms, or an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check ase==3.29.0 numpy==2.3.5 2> /dev/null
env/bin/python -W error - <<'PYTHON'
from pathlib import Path

from ase import __version__
from ase.build import fcc111
from ase.constraints import FixAtoms, FixCartesian
from ase.io import read, write

slab = fcc111("Pt", (1, 1, 2), vacuum=6.0, periodic=True)
found = {}
for constraint in (FixAtoms([0]), FixCartesian([0])):
    slab.set_constraint(constraint)
    write("POSCAR", slab, format="vasp")
    lines = Path("POSCAR").read_text().splitlines()
    flags = [line.split()[3:] for line in lines[-2:]]
    back = read("POSCAR", format="vasp").constraints
    found[type(constraint).__name__] = (lines[7], flags, [type(one).__name__ for one in back])
    print(__version__, type(constraint).__name__, *found[type(constraint).__name__])
assert found["FixAtoms"] == ("Selective dynamics", [list("FFF"), list("TTT")], ["FixAtoms"])
assert found["FixCartesian"] == ("Selective dynamics", [list("TTT"), list("TTT")], [])
PYTHON
