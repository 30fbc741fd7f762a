"""Structures as input of other programs: what they read is what there was."""

import shutil
import subprocess

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io import read, write

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.generation.convert import candidates, lowest
from sdedata.frozen import frozen_mask, partly_held
from sdedata.similarity import same
from tests.tiny import GUIDED, SEARCH, run

GPAW = shutil.which("gpaw")


def labelled(heights: list[float]) -> list:
    """O and Pt above Pt(111), the lower layer frozen, with energies by EMT."""
    frames = []
    for height in heights:
        atoms = fcc111("Pt", (2, 2, 2), vacuum=6.0, periodic=True)
        add_adsorbate(atoms, "O", height, "fcc")
        add_adsorbate(atoms, "Pt", 2.2, "fcc", offset=(1, 1))
        atoms.info.pop("adsorbate_info")
        atoms.set_constraint(FixAtoms(range(4)))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def convert(*arguments: object) -> None:
    surfdiff(["convert", *map(str, arguments)])


def by_height(atoms):
    """Order the atoms so that structures in other orders compare."""
    return atoms[np.lexsort([atoms.positions[:, 1], atoms.positions[:, 0], atoms.positions[:, 2]])]


@pytest.fixture
def source(tmp_path):
    write(tmp_path / "O_p(2x2).traj", labelled([1.9, 1.2, 1.5, 1.0]))
    return tmp_path / "O_p(2x2).traj"


def test_poscar_holds_the_lowest_with_their_frozen_atoms(source, tmp_path):
    convert(source, "format=poscar", "n=2", f"output={tmp_path}")
    folder = tmp_path / "convert/O_p(2x2)"
    assert len(list(folder.glob("POSCAR_*"))) == 2
    frames = read(source, ":")
    ascending = sorted(frames, key=lambda atoms: atoms.get_potential_energy())
    for number, atoms in enumerate(ascending[:2], start=1):
        found = read(folder / f"POSCAR_{number:03d}")
        one, two = by_height(found), by_height(atoms)
        np.testing.assert_array_equal(one.numbers, two.numbers)
        scale = float(np.abs(atoms.cell.array).max())
        assert np.abs(one.positions - two.positions).max() < 1e-9 * scale
        assert np.abs(one.cell.array - two.cell.array).max() < 1e-9 * scale
        np.testing.assert_array_equal(frozen_mask(one), frozen_mask(two))
        assert frozen_mask(one).sum() == 4
        # one block of each element, as POTCAR has them
        assert (np.diff(found.numbers) != 0).sum() == 1


def test_vasp_folders(source, tmp_path):
    convert(source, "format=vasp", "n=1", f"output={tmp_path}", "name=v",
            "format.kpt_density=2.5", "+format.potentials.Pt=Pt_pv",
            "format.incar.NSW=7", "+format.incar.ISPIN=2")  # fmt: skip
    folder = tmp_path / "convert/v/001"
    tags = dict(line.split(" = ") for line in (folder / "INCAR").read_text().splitlines())
    assert (tags["NSW"], tags["ISPIN"], tags["LDIPOL"], tags["LWAVE"]) == (
        "7", "2", ".TRUE.", ".FALSE."
    )  # fmt: skip
    mesh = [int(n) for n in (folder / "KPOINTS").read_text().splitlines()[3].split()]
    slab = read(folder / "POSCAR")
    assert mesh[2] == 1
    for n, reciprocal in zip(mesh[:2], slab.cell.reciprocal()[:2], strict=True):
        length = 2 * np.pi * np.linalg.norm(reciprocal)
        assert n / length >= 2.5 > (n - 1) / length
    names = (folder / "POTCAR.needed").read_text().split()
    assert names == ["Pt_pv", "O"]
    assert list(dict.fromkeys(slab.get_chemical_symbols())) == ["Pt", "O"]


def test_atoms_held_along_lattice_vectors_stay_held(tmp_path, capsys):
    """In selective dynamics a flag is of a lattice coordinate: z alone is one here, x is not."""
    atoms = fcc111("Pt", (2, 2, 2), vacuum=6.0, periodic=True)
    square = fcc100("Pt", (2, 2, 2), vacuum=6.0, periodic=True)
    for slab in (atoms, square):
        slab.set_constraint([
            FixAtoms(range(4)), FixCartesian([5], (False, False, True)),
            FixCartesian([6], (True, False, False)),
        ])  # fmt: skip
        slab.info = {}
    write(tmp_path / "held.traj", [atoms, square])
    convert(tmp_path / "held.traj", f"output={tmp_path}")
    found = [read(tmp_path / f"convert/held/POSCAR_00{k}") for k in (1, 2)]
    assert [np.flatnonzero(partly_held(slab)).tolist() for slab in found] == [[5], [5, 6]]
    assert all(frozen_mask(slab)[:4].all() for slab in found)
    assert "structure 1: Pt 6 " in capsys.readouterr().err
    convert(tmp_path / "held.traj", "format=gpaw", f"output={tmp_path}", "name=g")
    assert "structure 1: Pt 5, Pt 6 " in capsys.readouterr().err


def test_without_energies_the_order_is_kept(tmp_path, caplog):
    frames = labelled([1.9, 1.2, 1.5])
    frames[2].calc = None
    caplog.set_level("INFO")
    assert [atoms.positions[8, 2] for atoms in lowest(frames, 2)] == [
        atoms.positions[8, 2] for atoms in frames[:2]
    ]
    assert "no energy" in caplog.text


def test_a_slab_that_holds_no_atom_is_named(tmp_path, capsys):
    frames = labelled([1.2, 1.9])
    frames[0].set_constraint()  # O is lower at 1.9 Å
    write(tmp_path / "two.traj", frames)
    convert(tmp_path / "two.traj", f"output={tmp_path}")
    reported = capsys.readouterr().err
    assert "structure 2: no atom is held" in reported
    assert "structure 1: " not in reported
    assert "Selective" not in (tmp_path / "convert/two/POSCAR_002").read_text()


def test_energies_of_different_atoms_are_not_compared():
    """The lowest of each kind comes before any second one, whatever their totals."""
    frames = labelled([1.2, 1.9])
    single = [atoms[np.arange(9)] for atoms in frames]
    for atoms, energy in zip(single, (-50.0, -49.5), strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    best = lowest([frames[1], *single, frames[0]], 2)
    assert {len(atoms) for atoms in best} == {9, 10}


def test_an_evaluation_gives_each_surface_once(world, tmp_path):
    run("sample", *world.networks, *GUIDED, f"output={tmp_path}", "name=e",
        "template.slab=ag111_p3x3", "composition=Ag2O")  # fmt: skip
    run("evaluate", f"sample={tmp_path}/sample/e", f"output={tmp_path}", "name=e", *SEARCH,
        "relaxation.fmax=1.0")  # fmt: skip
    found = lowest(candidates(tmp_path / "evaluate/e"), 99)
    energies = [atoms.get_potential_energy() for atoms in found]
    assert energies == sorted(energies)
    tolerance = 0.6
    pairs = [(a, b) for k, a in enumerate(found) for b in found[:k]]
    assert not any(same(a, b, tolerance) for a, b in pairs)
    every = read(tmp_path / "evaluate/e/structures/relaxed.extxyz", ":")
    assert min(energies) == pytest.approx(min(a.get_potential_energy() for a in every), abs=5.0)


@pytest.mark.parametrize("given", [[], ["source=nowhere"], ["."], ["--nothing"]])
def test_what_is_no_source_is_refused(given, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        convert(*given)
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def small(folder):
    atoms = fcc111("Al", (1, 1, 2), a=4.05, vacuum=5.0, periodic=True)
    atoms.set_constraint(FixAtoms([0]))
    write(folder / "al.traj", atoms)
    convert(folder / "al.traj", "format=gpaw", f"output={folder}", "format.ecut=100",
            "format.xc=LDA", "format.kpt_density=1.0", "format.max_steps=1")  # fmt: skip
    return folder / "convert/al/001.py", atoms


def test_the_script_for_gpaw_describes_the_structure(tmp_path):
    path, atoms = small(tmp_path)
    head = path.read_text().partition("atoms.calc =")[0].replace("from gpaw", "# from gpaw")
    names: dict = {}
    exec(compile(head, str(path), "exec"), names)
    compile(path.read_text(), str(path), "exec")
    np.testing.assert_array_equal(names["atoms"].positions, atoms.positions)
    np.testing.assert_array_equal(frozen_mask(names["atoms"]), [True, False])


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(GPAW is None, reason="GPAW is not installed")
def test_gpaw_runs_the_script_as_it_stands(tmp_path):
    path, atoms = small(tmp_path)
    done = subprocess.run(
        [str(GPAW), "python", path.name], cwd=path.parent, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    frames = read(path.parent / "001.traj", ":")
    assert len(frames) == 2
    assert np.isfinite(frames[-1].get_potential_energy())
    moved = np.abs(frames[-1].positions - atoms.positions).max(axis=1)
    assert moved[0] == 0.0
    assert moved[1] > 0.0
