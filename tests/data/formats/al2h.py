# GPAW 22.8.0 with ASE 3.22.1: writes al2h.txt, al2h.traj and al2h.gpw.
from ase.build import add_adsorbate, fcc111
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from gpaw import GPAW, PW, FermiDirac

atoms = fcc111("Al", (1, 1, 2), a=4.05, vacuum=6.0, periodic=True)
add_adsorbate(atoms, "H", 1.1, "fcc")
atoms.center(vacuum=5.0, axis=2)
atoms.set_constraint(FixAtoms([0]))
atoms.set_initial_magnetic_moments([0.3, 0.3, 0.4])
atoms.calc = GPAW(
    mode=PW(100),
    gpts=(6, 6, 24),
    xc="LDA",
    kpts=(2, 2, 1),
    occupations=FermiDirac(0.1, fixmagmom=True),
    convergence={"density": 1e-3, "eigenstates": 1e-5, "energy": 1e-3},
    txt="al2h.txt",
)
BFGS(atoms, trajectory="al2h.traj").run(fmax=0.01, steps=1)
atoms.calc.write("al2h.gpw")
