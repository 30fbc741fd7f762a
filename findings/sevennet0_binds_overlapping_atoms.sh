#!/usr/bin/env bash
# sevenn 0.13.0: the shipped potential 7net-0 (SevenNet-0) attracts atoms that overlap, without limit.
#
# Nuclei repel, and a potential that is called universal would be expected to rise steeply at short distance, as those with
# a ZBL term do. This one has no such term and oscillates instead: silver and oxygen at 0.5 Å are bound by some 10,000 eV,
# two silver atoms at 0.05 Å by 1e11 eV, with ordinary finite forces and no warning. A structure search or a generative
# model whose starts have close atoms gets "minima" there which beat every real one, and means that are all hole.
# At distances of bonds the same potential is as it should be (silver and oxygen at 2.0 Å: -4.7 eV).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check sevenn==0.13.0 ase==3.29.0 2> /dev/null
cat > dimers.py <<'PYTHON'
import logging
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
from ase import Atoms
from sevenn.calculator import SevenNetCalculator

potential = SevenNetCalculator("7net-0", device="cpu")


def energy(pair: str, distance: float) -> float:
    atoms = Atoms(pair, [[0, 0, 0], [0, 0, distance]])
    atoms.calc = potential
    value = atoms.get_potential_energy()
    print(f"{pair} at {distance} Å: {value:.4g} eV")
    return value


assert -10 < energy("AgO", 2.0) < 0
assert energy("AgO", 0.5) < -1e3
assert energy("Ag2", 0.05) < -1e9
PYTHON
OMP_NUM_THREADS=1 env/bin/python dimers.py
