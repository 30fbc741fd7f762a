"""Files of other programs: what comes through the reader, measured; docs/data.md shows it."""

import gzip
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import add_adsorbate, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write

from experiments.harness.runs.markdown import fill, table
from sdedata import StructureSet
from sdedata.files import read_frames, write_frames
from sdedata.frames import labels
from sdedata.frozen import frozen_mask
from sdedata.reading import Reading

ROOT = Path(__file__).parents[3]
FILES = ROOT / "tests/data/formats"
PAGE = ROOT / "docs/data.md"
RY = units.Rydberg
CELL = [[2.86378246, 0, 0], [1.43189123, 2.48010836, 0], [0, 0, 13.43826859]]
BULK = (True, True, True)


@dataclass(frozen=True)
class Truth:
    """What the last frame of a file is known to be, from the program's text or its input."""

    cell: list[list[float]]
    energy: float | None = None
    """eV."""
    force: tuple[int, int, float] | None = None
    """Atom, axis, and the component of its force, eV/Å."""
    moments: list[float] | None = None
    held: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Example:
    """A row of the table: a format, the file that is read, who wrote it, what it should hold."""

    format: str
    file: str
    origin: str
    truth: Truth
    frames: int = 1


def al2h(**known) -> Truth:
    return Truth(CELL, held=[0], **known)


SILICON = [
    [3.91798174, 0, 0], [1.95899087, 3.39307172, 0], [1.95899087, 1.13102391, 3.19901870]
]  # fmt: skip
IRON = [[-1.4332, 1.4332, 1.4332], [1.4332, -1.4332, 1.4332], [1.4332, 1.4332, -1.4332]]
ACAG = [[0, 3.141538, 3.141538], [3.141538, 0, 3.141538], [3.141538, 3.141538, 0]]
MADE = al2h(energy=-3.25, force=(2, 2, -0.4375), moments=[0.5, 0.25, 1.0])
NO_LABELS = al2h()
MOMENTS = [0.158555, 0.152922, 0.002012]
"""Of GPAW."""
PROGRAMS = (
    Example("VASP POSCAR, CONTCAR", "POSCAR", "ASE", NO_LABELS),
    Example("VASP OUTCAR", "OUTCAR", "VASP 5.3.2", Truth(
        ACAG, energy=-6.97148118, force=(0, 0, 0.0))),
    Example("VASP vasprun.xml", "vasprun.xml", "VASP 5.2.2", Truth(
        SILICON, energy=-10.8327159, force=(0, 0, 0.0), held=[0])),
    Example("Quantum ESPRESSO input", "al2h.pwi", "ASE", NO_LABELS),
    Example("Quantum ESPRESSO output", "al2h.pwo", "pw.x 6.7", al2h(
        energy=-9.3569265507 * RY, force=(1, 2, -0.02541306 * RY / units.Bohr),
        moments=[0.0774, 0.0861, 0.0315]), frames=3),
    Example("CASTEP .castep", "Fe.castep", "CASTEP 16.1", Truth(
        IRON, energy=-857.7882336591, force=(0, 0, 0.0), moments=[2.17])),
    Example("CASTEP .cell", "al2h.cell", "ASE", NO_LABELS),
    Example("FHI-aims output", "aims.out", "FHI-aims 151211", Truth(
        (4.0 * np.eye(3)).tolist(), energy=-2078.43959002456,
        force=(0, 0, 1.4777750080274)), frames=5),
    Example("FHI-aims geometry.in", "geometry.in", "ASE", NO_LABELS),
    Example("GPAW .txt", "al2h.txt", "GPAW 22.8.0", al2h(
        energy=-12.222016, force=(1, 2, -0.37931), moments=MOMENTS), frames=2),
    Example("GPAW .gpw", "al2h.gpw", "GPAW 22.8.0", al2h(
        energy=-12.222016, force=(1, 2, -0.37931), moments=MOMENTS)),
    Example("CP2K -1.restart", "al2h-1.restart", "CP2K 2023.1", NO_LABELS),
    Example("CP2K -pos-1.xyz", "al2h-pos-1.xyz", "CP2K 2023.1", al2h(
        energy=-5.1388976921 * units.Hartree), frames=2),
    Example("CP2K output", "al2h.out", "CP2K 2023.1", al2h(
        energy=-5.1388976921 * units.Hartree)),
    Example("LAMMPS data", "al2h.data", "ASE", NO_LABELS),
    Example("LAMMPS dump", "al2h.dump", "LAMMPS 29 Sep 2021", al2h(
        energy=-8.22416339317478, force=(2, 2, 0.445374)), frames=3),
    Example("ABACUS output", "running_scf.log", "ABACUS", Truth(
        (10.2 * units.Bohr / 2 * (1 - np.eye(3))).tolist(), energy=-215.5046585720432)),
    Example("CIF", "al2h.cif", "ASE", MADE),
    Example("ASE .traj", "al2h.traj", "GPAW 22.8.0", al2h(
        energy=-12.222016, force=(1, 2, -0.37931), moments=MOMENTS), frames=2),
    Example("ASE .db", "made.db", "ASE", MADE),
    Example("ASE .json", "made.json", "ASE", MADE),
    Example("extxyz", "made.extxyz", "ASE", MADE),
)  # fmt: skip


def slab() -> Atoms:
    """The three atoms of `al2h`."""
    atoms = fcc111("Al", (1, 1, 2), a=4.05, vacuum=6.0, periodic=True)
    add_adsorbate(atoms, "H", 1.1, "fcc")
    atoms.center(vacuum=5.0, axis=2)
    atoms.set_constraint(FixAtoms([0]))
    atoms.info = {}
    return atoms


def example(row: Example, folder: Path) -> Path:
    """Put the file of a row into a folder; one that no program wrote here is written by ASE."""
    target = folder / row.file
    stored, packed = FILES / row.file, FILES / f"{row.file}.gz"
    if row.origin != "ASE" or row.file == "al2h.pwi":
        shutil.copy(stored, target) if stored.exists() else target.write_bytes(
            gzip.decompress(packed.read_bytes())
        )
        if row.file == "vasprun.xml":  # the stored one has no selective dynamics
            target.write_text(selective(target.read_text()))
        return target
    atoms = slab()
    if row.file == "al2h.data":
        shutil.copy(stored, target)
    elif row.truth is MADE:
        forces = np.zeros((3, 3))
        forces[2, 2] = -0.4375
        atoms.calc = SinglePointCalculator(
            atoms, energy=-3.25, forces=forces, magmoms=np.array([0.5, 0.25, 1.0])
        )
        write_frames(target, [atoms])
    elif row.file == "geometry.in":
        write(target, atoms, format="aims")
    else:
        write(target, atoms)
    return target


def selective(text: str) -> str:
    """Add to a vasprun.xml of two atoms that the first was held, as VASP writes it."""
    place = text.index("</varray>", text.index('<structure name="initialpos"'))
    place = text.index("</varray>", text.index('<varray name="positions"', place)) + 9
    flags = '<varray name="selective" type="logical"><v> F F F </v><v> T T T </v></varray>'
    return text[:place] + flags + text[place:]


COLUMNS = ("frames", "cell", "pbc", "constraints", "energy", "forces", "moments")
THROUGH, LOST, WRONG, NONE = "yes", "no", "wrong", ""


def measured(row: Example, folder: Path) -> dict[str, str]:
    """Read the file of a row and hold what comes through against the truth.

    Each is "yes", "no" (it does not come through), "wrong", or "" (the calculation had none).
    """
    truth = row.truth
    try:
        frames = read_frames(example(row, folder))
    except ValueError:
        return dict.fromkeys(COLUMNS, LOST)
    atoms, found = frames[-1], labels(frames[-1])
    held = np.flatnonzero(frozen_mask(atoms)).tolist()
    forces, component = found.get("forces"), None
    if truth.force is not None and forces is not None:
        component = forces[truth.force[0]][truth.force[1]]
    return {
        "frames": "all" if len(frames) == row.frames else f"{len(frames)} of {row.frames}",
        "cell": came(truth.cell, np.asarray(atoms.cell) if atoms.cell.rank else None),
        "pbc": THROUGH if tuple(atoms.pbc) == BULK else LOST,
        "constraints": came(truth.held or None, held or None),
        "energy": came(truth.energy, found.get("energy")),
        "forces": came(truth.force and truth.force[2], component),
        "moments": came(truth.moments, found.get("magmoms")),
    }


def came(true, found) -> str:
    if true is None:
        return NONE
    if found is None:
        return LOST
    same = np.shape(found) == np.shape(true) and np.allclose(found, true, rtol=1e-6, atol=1e-5)
    return THROUGH if same else WRONG


def lines(folder: Path) -> dict[str, dict[str, str]]:
    """Measure every format, each file in a folder of its own."""
    found = {}
    for number, row in enumerate(PROGRAMS):
        home = folder / str(number)
        home.mkdir()
        found[row.format] = {"written by": row.origin, **measured(row, home)}
    return found


def page(folder: Path) -> str:
    """Make docs/data.md with the table of formats as measured."""
    rows = [[name, *row.values()] for name, row in lines(folder).items()]
    block = table(["format", "written by", *COLUMNS], rows)
    return fill(PAGE.read_text(encoding="utf-8"), "formats", block)


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    return lines(tmp_path_factory.mktemp("formats"))


def test_the_page_shows_what_is_measured(tmp_path):
    assert page(tmp_path) == PAGE.read_text(encoding="utf-8")


def test_nothing_that_is_learned_from_comes_through_wrong(formats):
    learned = [c for c in COLUMNS if c != "moments"]
    assert not [(f, c) for f, row in formats.items() for c in learned if row[c] == WRONG]


@pytest.mark.parametrize("name", ["extxyz", "ASE .traj", "ASE .db", "ASE .json"])
def test_what_this_project_writes_keeps_everything(formats, name):
    assert {formats[name][c] for c in COLUMNS[1:]} == {THROUGH}


def test_an_outcar_has_the_constraints_of_the_contcar_beside_it(tmp_path):
    outcar = example(next(row for row in PROGRAMS if row.file == "OUTCAR"), tmp_path)
    (atoms,) = read_frames(outcar)
    atoms.set_constraint(FixAtoms([1]))
    write(tmp_path / "CONTCAR", atoms)
    (held,) = read_frames(outcar)
    assert frozen_mask(held).tolist() == [False, True]


def test_an_outcar_has_not_the_constraints_of_other_atoms(tmp_path):
    """ASE takes them of any CONTCAR or POSCAR in the folder, by index."""
    outcar = example(next(row for row in PROGRAMS if row.file == "OUTCAR"), tmp_path)
    write(tmp_path / "CONTCAR", slab())
    (atoms,) = read_frames(outcar)
    assert not frozen_mask(atoms).any()


def test_constraints_of_another_file(tmp_path):
    """A pw.x output does not say what was held; its input does."""
    by_file = {row.file: row for row in PROGRAMS}
    output, given = (example(by_file[f"al2h.pw{x}"], tmp_path) for x in "oi")
    frames = read_frames(output, Reading(constraints=given))
    assert [frozen_mask(atoms).tolist() for atoms in frames] == 3 * [[True, False, False]]
    other = example(by_file["OUTCAR"], tmp_path)
    with pytest.raises(ValueError, match="in this order") as refusal:
        read_frames(other, Reading(constraints=given))
    assert "OUTCAR" in str(refusal.value)
    assert "al2h.pwi" in str(refusal.value)
    with pytest.raises(ValueError, match="holds no constraints"):
        read_frames(given, Reading(constraints=output))


@pytest.mark.parametrize("file", ["al2h.out", "running_scf.log", "al2h.in", "al2h.inp"])
def test_what_ase_does_not_read_is_refused(file, tmp_path):
    row = Example(file, file, "", NO_LABELS)
    with pytest.raises(ValueError, match=re.escape(f"{file} ")):
        read_frames(example(row, tmp_path))


def mace(folder: Path, energy: str = "REF_energy", forces: str = "REF_forces") -> Path:
    """Write two frames with labels as MACE's and NequIP's tools name them, beside ASE's own."""
    frames = []
    for k in range(2):
        atoms = slab()
        atoms.info[energy] = -5.5 - k
        atoms.arrays[forces] = np.full((3, 3), 0.125 + k)
        atoms.info["index"] = k
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((3, 3)))
        frames.append(atoms)
    write(folder / "mace.extxyz", frames)
    return folder / "mace.extxyz"


@pytest.mark.parametrize(
    ("energy", "forces"),
    [("REF_energy", "REF_forces"), ("dft_energy", "dft_force"), ("total_energy", "gradient")],
)
def test_labels_by_other_names(energy, forces, tmp_path):
    found = read_frames(mace(tmp_path, energy, forces), Reading(energy, forces))
    for k, atoms in enumerate(found):
        assert labels(atoms)["energy"] == -5.5 - k
        np.testing.assert_array_equal(labels(atoms)["forces"], np.full((3, 3), 0.125 + k))
    own = read_frames(tmp_path / "mace.extxyz")
    assert labels(own[0])["energy"] == 1.0


def test_names_that_are_not_there_are_refused_with_those_that_are(tmp_path):
    path = mace(tmp_path)
    with pytest.raises(ValueError, match="mace.extxyz") as refusal:
        read_frames(path, Reading(energy="ref_energy"))
    assert {"'ref_energy'", "REF_energy", "energy"} <= set(re.split("[ ,;]+", str(refusal.value)))
    with pytest.raises(ValueError, match="REF_forces, forces"):
        read_frames(path, Reading(forces="ref_forces"))


def test_a_set_read_under_other_names_is_not_taken_from_the_cache(tmp_path):
    path = mace(tmp_path)
    for reading, energy in ((Reading(), 1.0), (Reading("REF_energy"), -5.5), (Reading(), 1.0)):
        data = StructureSet.read(path, tmp_path / "cache", reading)
        assert data.energy[0] == energy


if __name__ == "__main__":
    with TemporaryDirectory() as home:
        PAGE.write_text(page(Path(home)), encoding="utf-8")
