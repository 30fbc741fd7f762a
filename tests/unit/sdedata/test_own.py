"""User files: all invalid frames are listed, and relaxations are not split."""

import re
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from ase.build import add_adsorbate, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write

from sdedata import StructureSet
from sdedata.__main__ import main
from sdedata.dataset import split
from sdedata.relaxations import relaxations
from sdedata.rss import relax


def relaxation(seed: int) -> list:
    """All frames of a platinum atom that falls into a hollow of Pt(111), by EMT."""
    atoms = fcc111("Pt", (2, 2, 2), vacuum=8.0, periodic=True)
    add_adsorbate(atoms, "Pt", 2.2, "fcc")
    atoms.positions[-1] += np.random.default_rng(seed).normal(0.0, 0.2, 3)
    atoms.set_constraint(FixAtoms(range(8)))
    path = relax(atoms, EMT(), fmax=0.05)
    frames = []
    for positions, energy, forces in zip(path.positions, path.energies, path.forces, strict=True):
        frame = atoms.copy()
        frame.positions = positions
        frame.calc = SinglePointCalculator(frame, energy=float(energy), forces=forces)
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def relaxed():
    return [relaxation(seed) for seed in range(6)]


@pytest.fixture
def paths(relaxed):
    """A copy that a test may change."""
    return deepcopy(relaxed)


def spoilt(frames: list) -> tuple[list, dict[int, str]]:
    """Return the frames with five of them made invalid, and the reasons."""
    bad = [atoms.copy() for atoms in frames[:5]]
    for atoms, whole in zip(bad, frames, strict=False):
        atoms.calc = SinglePointCalculator(atoms, **whole.calc.results)
    bad[0].calc = None
    bad[1].calc.results.pop("forces")
    bad[2].calc.results["forces"] = np.full((9, 3), np.nan)
    bad[3].set_constraint()
    bad[4].set_constraint(FixAtoms(range(9)))
    mixed = [x for pair in zip(bad, frames, strict=False) for x in pair]
    reasons = ["no energy", "no forces", "forces not finite", "no fixed atoms", "no free atoms"]
    return mixed, {2 * k: reason for k, reason in enumerate(reasons)}


def ran(capsys, *arguments: object) -> tuple[int, list[str]]:
    try:
        main([str(a) for a in arguments])
        code = 0
    except SystemExit as end:
        code = int(end.code)
    said = capsys.readouterr()
    return code, (said.out + said.err).splitlines()


def test_check_lists_every_invalid_frame(paths, tmp_path, capsys):
    frames, reasons = spoilt(sum(paths, []))
    mine, good = tmp_path / "mine.traj", tmp_path / "good.extxyz"
    write(mine, frames)
    code, lines = ran(capsys, "check", mine, "--good", good)
    assert code == 2
    assert lines[0] == f"{len(frames) - 5} valid frames, 5 invalid"
    for i, reason in reasons.items():
        (line,) = [x for x in lines if x.startswith(f"{mine}, frame {i}:")]
        assert reason in line
    kept = StructureSet.read(good)
    assert len(kept) == len(frames) - 5
    whole = StructureSet.from_atoms([a for i, a in enumerate(frames) if i not in reasons])
    assert kept.digest == whole.digest
    code, lines = ran(capsys, "check", good)
    assert (code, lines[0]) == (0, f"{len(kept)} valid frames, 0 invalid")
    (line,) = [x for x in lines if x.startswith("| Pt |")]
    row = [cell.strip() for cell in line.split("|")[1:-1]]
    relative = kept.relative_energy
    assert row[:3] == ["Pt", str(len(kept)), "1"]
    assert lines[-1].startswith("1 relaxation (by info 'index')")
    assert [float(x) for x in row[3:6]] == pytest.approx(
        [kept.energy.min(), np.median(relative), relative.max()], abs=0.0051
    )


def test_the_error_names_the_first_invalid_frame_and_their_number(paths, tmp_path):
    frames, _ = spoilt(paths[0] + paths[1])
    write(tmp_path / "mine.traj", frames)
    with pytest.raises(
        ValueError, match=rf"frame 0: no energy.* 5 of {len(frames)} frames .*check"
    ):
        StructureSet.read(tmp_path / "mine.traj")
    write(tmp_path / "one.traj", [*frames[1:4:2], frames[0]])
    with pytest.raises(ValueError, match=r"frame 2: no energy; give the program.s output [^;]*$"):
        StructureSet.read(tmp_path / "one.traj")


@pytest.mark.parametrize("ending", ["extxyz", "traj"])
def test_complete_frames_of_a_truncated_file_are_read(paths, tmp_path, capsys, ending):
    path = tmp_path / f"cut.{ending}"
    write(path, paths[0])
    path.write_bytes(path.read_bytes()[:-200])
    last = len(paths[0]) - 1
    with pytest.raises(ValueError, match=f"cannot be read as structures after frame {last - 1}"):
        StructureSet.read(path)
    code, lines = ran(capsys, "check", path, "--good", tmp_path / "good.extxyz")
    assert code == 2
    assert lines[0] == f"{last} valid frames, 1 invalid"
    assert any(x.startswith(f"{path}, frame {last} and what follows cannot") for x in lines)
    assert len(StructureSet.read(tmp_path / "good.extxyz")) == last


def test_split_keeps_relaxations_together(paths, tmp_path, capsys):
    """Relaxations are identified by `index` within a file, else by the file."""
    for number, path in enumerate(paths):
        write(tmp_path / f"{number}.traj", path)
        for atoms in path:
            atoms.info["index"] = 100 + number
    write(tmp_path / "all.extxyz", sum(paths, []))
    several = [tmp_path / f"{number}.traj" for number in range(6)]
    for out, files, first in (("one", [tmp_path / "all.extxyz"], 100), ("more", several, 0)):
        command = ["split", *files, "--share", "0.34", "--out", tmp_path / out]
        assert ran(capsys, *command, "--seed", "3")[0] == 0
        train, held = (
            read(tmp_path / out / f"{name}.extxyz", ":") for name in ("train", "validation")
        )
        here, there = ({a.info["index"] for a in part} for part in (train, held))
        assert here | there == set(range(first, first + 6))
        assert not here & there
        assert len(there) == 2
        energies = sorted(a.get_potential_energy() for a in train + held)
        everything = sorted(a.get_potential_energy() for path in paths for a in path)
        np.testing.assert_allclose(energies, everything, atol=1e-6)
        again = StructureSet.read(tmp_path / out / "train.extxyz").digest
        ran(capsys, *command, "--seed", "3")
        assert StructureSet.read(tmp_path / out / "train.extxyz").digest == again
        ran(capsys, *command, "--seed", "4")
        assert StructureSet.read(tmp_path / out / "train.extxyz").digest != again


def test_a_surface_comes_before_an_index(paths):
    for number, path in enumerate(paths):
        for atoms in path:
            atoms.info |= {"index": number, "surface_index": number // 2}
    data = StructureSet.from_atoms(sum(paths, []))
    assert len(relaxations(data)) == 3
    train, held = split(data, 0.3, torch.Generator().manual_seed(0))
    assert sorted(train + held) == list(range(len(data)))
    surfaces = data.info["surface_index"]
    assert set(surfaces[train]) & set(surfaces[held]) == set()
    assert len(set(surfaces[held])) == 1


def test_data_that_cannot_be_split_give_one_sentence(paths, tmp_path, capsys):
    frames, _ = spoilt(paths[0])
    write(tmp_path / "bad.traj", frames)
    write(tmp_path / "one.traj", paths[0][:1])
    (tmp_path / "text.extxyz").write_text("Dear all,\n")
    for arguments, message in (
        (["split", tmp_path / "bad.traj"], "frame 0: no energy"),
        (["split", tmp_path / "one.traj"], "need a structure each: there is 1"),
        (["check", tmp_path / "gone.traj"], "there is no file"),
        (["check", tmp_path], "is a folder, not a file"),
    ):
        code, lines = ran(capsys, *arguments, *(["--out", tmp_path] * (arguments[0] == "split")))
        assert (code, len(lines)) == (2, 1)
        assert message in lines[0]
    code, lines = ran(capsys, "check", tmp_path / "text.extxyz")
    assert code == 2
    assert "frame 0 and what follows cannot be read" in lines[-1]
    assert not list(tmp_path.glob("train*"))


def test_from_the_shell(paths, tmp_path):
    write(tmp_path / "mine.traj", paths[0])
    command = [sys.executable, "-m", "sdedata"]
    ended = subprocess.run([*command, "check", tmp_path / "mine.traj"], capture_output=True)
    assert ended.returncode == 0
    ended = subprocess.run(
        [*command, "split", tmp_path / "mine.traj", "--share", "2"], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "the share must be between 0 and 1" in ended.stderr


def test_invalid_frames_are_listed_by_reason(paths, tmp_path, capsys):
    """One line for the frames of an XDATCAR, and which file has what they lack."""
    frames = [*paths[0], *paths[1]]
    bare = [atoms.copy() for atoms in frames]
    write(tmp_path / "XDATCAR", bare, format="vasp-xdatcar")
    code, lines = ran(capsys, "check", tmp_path / "XDATCAR")
    assert code == 2
    assert lines[0] == f"0 valid frames, {len(frames)} invalid"
    (line,) = [x for x in lines if x.startswith(str(tmp_path))]
    assert f"XDATCAR, frames 0 to {len(frames) - 1}: no energy" in line
    assert "vasprun.xml" in line
    mixed = [bare[k] if k in (0, 1, 2, 5) else atoms for k, atoms in enumerate(frames)]
    write(tmp_path / "mixed.traj", mixed)
    code, lines = ran(capsys, "check", tmp_path / "mixed.traj")
    assert lines[0].endswith(", 4 invalid")
    assert any(x.startswith(f"{tmp_path}/mixed.traj, frames 0 to 2, 5: no energy") for x in lines)


def test_a_reason_is_one_although_its_numbers_differ(paths, tmp_path, capsys):
    frames = [atoms.copy() for atoms in paths[0]]
    for k, atoms in enumerate(frames):
        atoms.cell[2] = [0.0, 0.0, -20.0 - k]
    write(tmp_path / "down.traj", frames)
    _, lines = ran(capsys, "check", tmp_path / "down.traj")
    (line,) = [x for x in lines if x.startswith(str(tmp_path))]
    assert f"frames 0 to {len(frames) - 1}: the third cell vector points down; reverse it" in line


def test_labels_of_another_name_are_offered(paths, tmp_path, capsys):
    """The file is right, and what the sentence says makes it read."""
    frames = [atoms.copy() for atoms in paths[0]]
    for bare, atoms in zip(frames, paths[0], strict=True):
        bare.info["REF_energy"] = atoms.calc.results["energy"]
        bare.arrays["REF_forces"] = atoms.calc.results["forces"]
    write(tmp_path / "ref.extxyz", frames)
    keys: list[str] = []
    for label in ("energy", "forces"):
        _, lines = ran(capsys, "check", tmp_path / "ref.extxyz", *keys)
        assert f"no {label}, but REF_{label}; name what is meant" in lines[-1]
        assert f"data.keys.{label}=REF_{label}" in lines[-1]
        keys += re.search(r"check (--\S+ \w+),", lines[-1])[1].split()
    code, lines = ran(capsys, "check", tmp_path / "ref.extxyz", *keys)
    assert (code, lines[0]) == (0, f"{len(frames)} valid frames, 0 invalid")


def test_a_folder_is_answered_with_what_it_holds(tmp_path, capsys):
    (tmp_path / "vasprun.xml").write_text("<modeling>")
    code, (line,) = ran(capsys, "check", tmp_path)
    assert code == 2
    assert line.endswith("is a folder, not a file; it holds vasprun.xml")


@pytest.mark.parametrize("held", [2, 4])
def test_free_layers_of_the_substrate_are_named(held):
    """Oxygen on four layers, of which the lower two are fixed, or all."""
    frames = []
    for k in range(3):
        atoms = fcc111("Pt", (2, 2, 4), vacuum=8.0, periodic=True)
        add_adsorbate(atoms, "O", 1.2 + 0.1 * k, "fcc")
        atoms.set_constraint(FixAtoms(np.flatnonzero(atoms.get_tags() > 4 - held)))
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.ones((17, 3)))
        frames.append(atoms)
    notes = StructureSet.from_atoms(frames, "mine").notes
    if held == 4:
        assert notes == []
    else:
        (note,) = notes
        assert note.startswith("mine: in 3 of 3 frames the free atoms hold layers like the frozen")
        assert "(Pt8)" in note
