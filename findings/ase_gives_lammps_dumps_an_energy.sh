#!/usr/bin/env bash
# ASE 3.29.0 gives every frame of a LAMMPS text dump with forces the potential energy 0 eV.
#
# A dump of atoms holds what its columns name, here positions and forces; LAMMPS writes energies
# elsewhere (thermo output). ASE attaches a SinglePointCalculator with the forces and with energy 0,
# so that get_potential_energy() answers 0.0 for each frame instead of raising. Whoever trains a
# potential on such a file learns that all structures have the same energy. Without columns of
# forces there is no calculator, and the question raises RuntimeError, as it should.
#
# Seen: with forces 0.0 and the forces of the file; without them RuntimeError.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check ase==3.29.0 2> /dev/null
env/bin/python - <<'PYTHON'
from ase.io import read

HEAD = """ITEM: TIMESTEP
{step}
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 5
0 5
0 10
ITEM: ATOMS id element x y z{more}
"""


def dump(name, forces):
    with open(name, "w") as file:
        for step in (0, 1):
            file.write(HEAD.format(step=step, more=" fx fy fz" if forces else ""))
            file.write("1 Al 0.0 0.0 4.0" + (" 0.0 0.0 0.5\n" if forces else "\n"))
            file.write(f"2 Al 2.5 2.5 {6 + 0.1 * step:.1f}" + (" 0.0 0.0 -0.5\n" if forces else "\n"))


def energy(atoms):
    try:
        return atoms.get_potential_energy()
    except RuntimeError as error:
        return type(error).__name__


found = {}
for forces in (True, False):
    dump("x.dump", forces)
    found[forces] = [energy(atoms) for atoms in read("x.dump", ":", format="lammps-dump-text")]
    print("with forces:" if forces else "without:", found[forces])
assert found == {True: [0.0, 0.0], False: ["RuntimeError"] * 2}, found
PYTHON
