#!/usr/bin/env bash
# GPAW 25.7.0: with LCAO dzp, the force on an oxygen adatom depends on where the grid points lie.
#
# A slab of 4 Ag atoms with an O atom, periodic in the plane, is moved up by quarters of the grid
# spacing in a cell that stays the same: nothing that is physical changes. At 0.25 Å the force on the
# oxygen varies by 2.2 eV/Å and changes its sign; at 0.22 Å by 0.32; at the default, 0.20 Å, by 0.08.
# Energies vary by 85, 11 and 3 meV. A grid that is coarser by a tenth than the default, and whose
# energies look converged, is thus no longer good for forces that relax an oxide or teach a potential.
#
# Needs a C compiler, BLAS and libxc with its headers (Debian: libxc-dev libopenblas-dev), as the
# package is built when it is installed. Some minutes.
set -euo pipefail
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check gpaw==25.7.0 gpaw-data==1.2.1
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 env/bin/python - <<'PYTHON'
import numpy as np
from ase.build import add_adsorbate, fcc111
from gpaw import GPAW, FermiDirac


def shifted(h):
    """Energies (eV) and forces (eV/Å) of the slab at four heights, a quarter of h apart."""
    energies, forces = [], []
    for k in range(4):
        slab = fcc111("Ag", (2, 2, 1), a=4.15, vacuum=4.5)
        add_adsorbate(slab, "O", 1.2, "fcc")
        slab.rattle(0.05, seed=1)
        slab.pbc = (True, True, False)
        slab.center(5.5, axis=2)
        slab.positions[:, 2] += k * h / 4
        slab.calc = GPAW(
            mode="lcao", basis="dzp", h=h, kpts=(2, 2, 1), xc="PBE", txt=None,
            occupations=FermiDirac(0.1), convergence={"density": 2e-4},
        )
        energies.append(slab.get_potential_energy())
        forces.append(slab.get_forces())
    return np.array(energies), np.array(forces)


found = {}
for h in (0.25, 0.22, 0.20):
    energies, forces = shifted(h)
    oxygen = forces[:, 4, 2]
    found[h] = np.ptp(energies), np.ptp(oxygen), oxygen.min() * oxygen.max() < 0
    print(
        f"h = {h}: energy varies by {np.ptp(energies):.4f} eV, force on O along z "
        f"{oxygen.round(2).tolist()}, sum of forces {forces.sum(1)[:, 2].round(2).tolist()} eV/Å"
    )
assert found[0.25][2] and found[0.25][1] > 1.0, found
assert found[0.22][1] > 0.2 and found[0.22][0] < 0.02, found
assert found[0.20][1] < 0.15, found
PYTHON
