"""A disk that is full, and one that lets nobody write: one sentence, nothing half, and it goes on.

The disk is a small file system of its own where the tests may mount one (as root), and elsewhere
the system's limit on the size of files.
"""

import os
import re
import resource
import subprocess
from functools import partial

import numpy as np
import pytest

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import load
from sdedata import StructureSet
from tests.tiny import PATIENCE, SEARCH, TRAIN, run, start

SEARCHED = [
    *SEARCH, "surrogate=null", "compositions=[Ag3]", "relaxation.fmax=0.5", "task_size=2",
    "n_per_composition=8", "name=ag3",
]  # fmt: skip
TRAINED = [*TRAIN, "task=forcefield", "train.steps=12", "train.checkpoint_every=2"]


class Disk:
    """A file system of so many bytes."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    def resize(self, size: int) -> None:
        again = "remount," if os.path.ismount(self.path) else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{again}size={size}", "none", self.path]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk")
    try:
        disk.resize(4096)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a file system here: the limit on files stands for it")
    yield disk
    subprocess.run(["umount", disk.path], check=True)


def refused(process: subprocess.Popen, entry: str) -> str:
    """Its one sentence, after lines of progress; and that it ended with code 2."""
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2, err
    *progress, sentence = err.strip().splitlines()
    assert all(re.match(r"\w+: \d+ of \d+|.* structures of ", line) for line in progress), err
    assert sentence.startswith(f"{entry}: ")
    return sentence


def whole(folder) -> None:
    """Every file that is there under its name can be read to its end."""
    for path in folder.rglob("*"):
        assert not path.name.startswith(".") or path.name == ".lock", "something half is left"
        if path.suffix == ".npz":
            StructureSet.read(path)
        elif path.suffix == ".pt":
            load(path)
    RunFolder(folder).rows()


@pytest.fixture(scope="module")
def unhindered(tmp_path_factory):
    """What comes of it where there is room, and how many bytes it takes."""
    home = tmp_path_factory.mktemp("unhindered")
    run("generate_data", *SEARCHED, f"output={home}")
    data = f"data.path={home}/generate_data/ag3/frames.npz"
    run("train", *TRAINED, data, f"output={home}")
    return home


def test_a_search_on_a_full_disk(unhindered, disk):
    """It is stopped among the candidates, and again while it packs what it found."""
    folder = disk.path / "generate_data/ag3"
    stages = []
    for size in (40_000, 80_000):
        disk.resize(size)
        reported = refused(
            start("generate_data", *SEARCHED, f"output={disk.path}"), "generate_data"
        )
        assert f" {folder}/" in reported
        assert (
            "no space left on device; free some, then repeat the command, it continues" in reported
        )
        whole(folder)
        stages.append(len(list(folder.glob("candidates/*.npz"))))
        assert not (folder / "frames.npz").exists()
    assert 0 < stages[0] < stages[1] == 4
    disk.resize(10_000_000)
    run("generate_data", *SEARCHED, f"output={disk.path}")
    theirs = unhindered / "generate_data/ag3"
    for name in ("minima.npz", "frames.npz"):
        assert StructureSet.read(folder / name).digest == StructureSet.read(theirs / name).digest


def used(folder) -> int:
    """Bytes on a disk of pages."""
    return sum(
        -(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file()
    )


def test_a_training_on_a_full_disk(unhindered, disk):
    theirs = unhindered / "train/forcefield"
    data = f"data.path={unhindered}/generate_data/ag3/frames.npz"
    disk.resize(used(theirs) // 2)
    reported = refused(start("train", *TRAINED, data, f"output={disk.path}"), "train")
    assert "no space left on device" in reported
    disk.resize(10_000_000)
    whole(disk.path / "train/forcefield")
    run("train", *TRAINED, data, f"output={disk.path}")
    ours, other = (load(path / "train/forcefield/model.pt") for path in (disk.path, unhindered))
    for name, tensor in other["state"].items():
        np.testing.assert_array_equal(ours["state"][name], tensor)


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_files_that_may_not_grow(unhindered, tmp_path):
    """The same without a disk of one's own: each file may have a few bytes only."""
    theirs, folder = unhindered / "generate_data/ag3", tmp_path / "generate_data/ag3"
    largest = max(path.stat().st_size for path in theirs.glob("candidates/*"))
    # Too few bytes for a candidate, then for the set alone; the seconds in a file, compressed,
    # take some bytes more or less each time.
    for size in (largest // 2, largest + 64):
        assert size < (theirs / "frames.npz").stat().st_size
        command = [*SEARCHED, f"output={tmp_path}"]
        process = start("generate_data", *command, preexec_fn=partial(limit_files, size))
        reported = refused(process, "generate_data")
        assert "file too large; raise the limit (ulimit -f), then repeat the command" in reported
        whole(folder)
    assert len(list(folder.glob("candidates/*"))) == 4
    run("generate_data", *SEARCHED, f"output={tmp_path}")
    for name in ("minima.npz", "frames.npz"):
        assert StructureSet.read(folder / name).digest == StructureSet.read(theirs / name).digest


# Places where nobody may write: refused before any compute, in this process


@pytest.fixture
def reported(capsys):
    """The one sentence with which a search to this place ends."""

    def call(output) -> str:
        with pytest.raises(SystemExit) as end:
            surfdiff(["generate_data", *SEARCHED, f"output={output}"])
        assert end.value.code == 2
        (sentence,) = capsys.readouterr().err.splitlines()
        return sentence

    return call


def test_a_file_in_the_way(reported, tmp_path):
    (tmp_path / "file").touch()
    sentence = reported(tmp_path / "file")
    assert f"{tmp_path}/file" in sentence
    assert "a file is in the way: give another output=FOLDER" in sentence


def test_a_disk_for_reading_only(reported, disk):
    subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
    assert "read-only file system; give another output=FOLDER" in reported(disk.path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else(reported, tmp_path):
    tmp_path.chmod(0o500)
    sentence = reported(tmp_path / "runs")
    tmp_path.chmod(0o700)
    assert "permission denied; change its rights" in sentence
