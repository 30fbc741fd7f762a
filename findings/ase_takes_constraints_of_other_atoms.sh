#!/usr/bin/env bash
# ASE 3.29.0 gives the frames of an OUTCAR the constraints of whichever CONTCAR lies in its folder.
#
# VASP writes no selective dynamics into OUTCAR, so ASE reads them from CONTCAR, or else POSCAR, beside
# it. Number and elements of the atoms are not compared: a CONTCAR of another calculation, such as one
# that was copied as a start, holds atoms by their index. get_forces() is then zero on the wrong
# atoms, and a training takes them for the substrate. If an index is beyond the atoms, the file is
# read, and get_forces() raises IndexError.
#
# Seen: two Al atoms without constraints; beside a CONTCAR of CuO3 the second is held, or IndexError.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check ase==3.29.0 2> /dev/null
env/bin/python - <<'PYTHON'
from pathlib import Path

from ase import Atoms
from ase.constraints import FixAtoms
from ase.io import read, write

OUTCAR = """ vasp.5.4.4.18Apr17
 POTCAR:    PAW_PBE Al 04Jan2001
 POTCAR:    PAW_PBE Al 04Jan2001
   ions per type =               2
   ISPIN  =      1    spin polarized calculation?
   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=      8
 k-points in reciprocal lattice and weights: K-Points
   0.00000000  0.00000000  0.00000000       1.000
      direct lattice vectors                 reciprocal lattice vectors
     5.000000000  0.000000000  0.000000000     0.200000000  0.000000000  0.000000000
     0.000000000  5.000000000  0.000000000     0.000000000  0.200000000  0.000000000
     0.000000000  0.000000000 10.000000000     0.000000000  0.000000000  0.100000000
--------------------------------------- Iteration      1(   1)  ---------------------------------------
      direct lattice vectors                 reciprocal lattice vectors
     5.000000000  0.000000000  0.000000000     0.200000000  0.000000000  0.000000000
     0.000000000  5.000000000  0.000000000     0.000000000  0.200000000  0.000000000
     0.000000000  0.000000000 10.000000000     0.000000000  0.000000000  0.100000000
 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      0.00000      0.00000      4.00000         0.000000      0.000000      0.500000
      2.50000      2.50000      6.00000         0.000000      0.000000     -0.500000
 -----------------------------------------------------------------------------------
  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =        -7.00000000 eV

  energy  without entropy=       -7.00000000  energy(sigma->0) =       -7.00000000
"""
Path("OUTCAR").write_text(OUTCAR)


def held():
    atoms = read("OUTCAR")
    indices = [i for constraint in atoms.constraints for i in constraint.index.tolist()]
    try:
        return indices, atoms.get_forces()[:, 2].tolist()
    except IndexError as error:
        return indices, type(error).__name__


found = [held()]
for index in (1, 3):
    places = [[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]]
    other = Atoms("CuO3", positions=places, cell=[5, 5, 5], pbc=True)
    other.set_constraint(FixAtoms([index]))
    write("CONTCAR", other, format="vasp")
    found.append(held())
for line in zip(("no CONTCAR:", "CuO3, 1 held:", "CuO3, 3 held:"), found):
    print(*line)
assert found == [([], [0.5, -0.5]), ([1], [0.5, 0.0]), ([3], "IndexError")], found
PYTHON
