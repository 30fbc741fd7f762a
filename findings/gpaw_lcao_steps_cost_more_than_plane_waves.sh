#!/usr/bin/env bash
# GPAW 25.7.0: on a metal slab an SCF step costs more with LCAO dzp than with plane waves.
#
# LCAO is the mode for quick results, and per basis function it should be. But its density and its
# potential matrix are summed pair by pair of basis functions along lines of the grid, on which
# hardly two neighbouring points see the same set of functions of a dense metal. For a slab of 12
# Ag atoms and an O atom, 2x2x1 k-points, the same grid spacing, a step of LCAO with the basis dzp
# takes more CPU time than one of plane waves up to 350 eV, which is also the more accurate.
#
# Needs a C compiler, BLAS and libxc with its headers (Debian: libxc-dev libopenblas-dev), as the
# package is built when it is installed.
# Seen: 9.2 s and 6.5 s a step on a busy core (44 s and 16 s with 24 Ag and 3 O atoms on an idle one).
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check gpaw==25.7.0 gpaw-data==1.2.1
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 env/bin/python - <<'PYTHON'
import time

from ase.build import add_adsorbate, fcc111
from gpaw import GPAW, PW, FermiDirac, KohnShamConvergenceError


def seconds(steps, **mode):
    """CPU time of a calculation that is stopped after some SCF steps."""
    slab = fcc111("Ag", (2, 3, 2), a=4.15, vacuum=5.5)
    add_adsorbate(slab, "O", 1.2, "fcc")
    slab.pbc = (True, True, False)
    slab.calc = GPAW(
        h=0.22 if "basis" in mode else None, kpts=(2, 2, 1), xc="PBE",
        occupations=FermiDirac(0.1), txt=None, maxiter=steps, convergence={"density": 1e-9}, **mode,
    )
    begun = time.process_time()
    try:
        slab.get_potential_energy()
    except KohnShamConvergenceError:
        pass
    return time.process_time() - begun


lcao = (seconds(5, mode="lcao", basis="dzp") - seconds(3, mode="lcao", basis="dzp")) / 2
waves = (seconds(5, mode=PW(350)) - seconds(3, mode=PW(350))) / 2
print(f"a step: LCAO dzp {lcao:.1f} s, plane waves {waves:.1f} s")
assert lcao > 1.2 * waves, (lcao, waves)
PYTHON
