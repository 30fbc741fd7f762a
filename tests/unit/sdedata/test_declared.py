"""Counts of an extxyz file are held against its size before it is read."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from sdedata.declared import declared_frames
from sdedata.files import read_frames, whole_frames


@pytest.fixture
def file(tmp_path):
    """Three frames of different sizes, with an array of ours."""
    path = tmp_path / "a.extxyz"
    frames = [Atoms("Ag" * n, np.random.default_rng(n).random((n, 3)) * 5) for n in (1, 2, 3)]
    for atoms in frames:
        atoms.arrays["charge"] = np.arange(len(atoms), dtype=float)
    write(path, frames)
    return path


def declared(path):
    with open(path, "rb") as file:
        return declared_frames(file, path.stat().st_size)


def changed(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def test_what_is_declared_rightly_is_read(file):
    assert declared(file) == (file.stat().st_size, None)
    assert [len(atoms) for atoms in read_frames(file)] == [1, 2, 3]
    assert [len(atoms) for atoms in read(file, ":")] == [1, 2, 3]


@pytest.mark.parametrize("count", ["999999999", "99999999999999999999999", "9" * 5000])
def test_a_count_of_more_atoms_than_there_are(file, count):
    changed(file, "\n3\n", f"\n{count}\n")
    with pytest.raises(ValueError, match=r"after frame 1: frame 2 declares .* bytes are left"):
        read_frames(file)
    frames, broken = whole_frames(file)
    assert [len(atoms) for atoms in frames] == [1, 2]
    assert "frame 2" in broken


@pytest.mark.parametrize("columns", ["99999999", "-3", "x", "9" * 30, ""])
def test_more_columns_than_there_are(file, columns):
    changed(file, "charge:R:1", f"charge:R:{columns}")
    with pytest.raises(ValueError, match=r"a.extxyz cannot be read .*frame 0 declares .* columns"):
        read_frames(file)


def test_a_line_without_an_end(file):
    changed(file, "Properties", "x=" + "y" * 1_000_000 + " Properties")
    with pytest.raises(ValueError, match="frame 0 has a line of more than 1000000 bytes"):
        read_frames(file)


def test_a_cut_file_keeps_the_frames_before(file):
    file.write_bytes(file.read_bytes()[:-60])
    frames, broken = whole_frames(file)
    assert [len(atoms) for atoms in frames] == [1, 2]
    assert broken


def test_what_is_no_count_is_left_to_the_reader(file):
    changed(file, "\n2\n", "\ntwo\n")
    assert declared(file) == (file.stat().st_size, None)
