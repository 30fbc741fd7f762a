"""The run folder keeps what was written, through kills, resumes and moves."""

import json
import math
import platform
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from experiments.harness.runs import provenance
from experiments.harness.runs.atomic_io import replacing
from experiments.harness.runs.provenance import git_commit, versions
from experiments.harness.runs.run_folder import RunFolder
from sdedata.files import extxyz

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "train" / "first")


def frame(seed: int) -> Atoms:
    atoms = Atoms("Ag2O", np.random.default_rng(seed).random((3, 3)), cell=[5, 6, 7], pbc=True)
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5 - seed, forces=np.full((3, 3), 0.25))
    atoms.info["seed"] = seed
    return atoms


def test_rows_come_back_as_written(folder):
    rows = [{"train/step": 1, "train/loss": 0.1}, {"event": "note", "text": "é\n2"}]
    for row in rows:
        folder.log(row)
    assert folder.rows() == rows
    assert RunFolder(folder.path).rows() == rows


def test_rows_hold_numbers_of_any_library_and_null_for_nan(folder):
    folder.log(
        {
            "numpy": np.float32(0.5),
            "tensor": torch.tensor(3),
            "list": np.array([1.0, math.nan]),
            "nan": math.nan,
            "inf": torch.tensor(-math.inf),
            "nested": {"tuple": (1, np.int64(2))},
        }
    )
    text = (folder / "metrics.jsonl").read_text()
    strict = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert strict == {
        "numpy": 0.5,
        "tensor": 3,
        "list": [1.0, None],
        "nan": None,
        "inf": None,
        "nested": {"tuple": [1, 2]},
    }


def test_a_half_written_row_is_ignored_then_cut(folder):
    folder.log({"step": 1})
    folder.log({"step": 2})
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "lo')
    reopened = RunFolder(folder.path)
    assert [row["step"] for row in reopened.rows()] == [1, 2]
    reopened.log({"step": 3})
    assert [row["step"] for row in RunFolder(folder.path).rows()] == [1, 2, 3]
    assert (folder / "metrics.jsonl").read_text().count("\n") == 3


def test_a_broken_row_in_the_middle_is_named(folder):
    folder.log({"step": 1})
    with open(folder / "metrics.jsonl", "a") as file:
        file.write("nonsense\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is not JSON"):
        folder.rows()


def test_rows_survive_sigkill(tmp_path):
    """What ``log`` returned from is on disk, whatever happens next."""
    code = (
        "import sys, time; from experiments.harness.runs.run_folder import RunFolder\n"
        "folder = RunFolder(sys.argv[1])\n"
        "for step in range(50): folder.log({'step': step})\n"
        "print('logged', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "logged\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [row["step"] for row in RunFolder(tmp_path).rows()] == list(range(50))


def bytes_read() -> int:
    """By this process, from files and pipes, so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="Linux counts what is read")
def test_a_row_is_appended_without_reading_the_others(folder):
    folder.log({"train/step": 0})
    before = bytes_read()
    for step in range(1, 2000):
        folder.log({"train/step": step, "train/loss": 1 / (1 + step)})
    read = bytes_read() - before
    size = (folder.path / "metrics.jsonl").stat().st_size
    assert len(folder.rows()) == 2000
    assert read < 20 * size  # a thousand times as much if each row read the file


def test_config_round_trip_and_reopening(folder):
    config = {
        "seed": 1,
        "model": {"features": 64, "cutoff": 6.0},
        "window": (1.0, 4.5),
        "guide": {},
    }
    folder.save_config(config)
    expected = config | {"window": [1.0, 4.5]}
    assert RunFolder(folder.path).config == expected
    RunFolder(folder.path).save_config(config)
    assert folder.config == expected


def test_another_config_names_every_differing_key(folder):
    folder.save_config({"seed": 1, "model": {"features": 64, "cutoff": 6.0}})
    with pytest.raises(ValueError) as error:
        folder.save_config({"model": {"features": 32, "cutoff": 6.0}, "steps": 5})
    message = str(error.value)
    for phrase in ("model.features was 64, is now 32", "seed is gone", "steps is new"):
        assert phrase in message
    assert "cutoff" not in message
    assert folder.config["seed"] == 1, "the refused configuration was not written"


def test_keys_that_may_change_do(folder):
    folder.save_config({"train": {"epochs": 2, "lr": 0.1}, "tracking": {"mode": "offline"}})
    continued = {"train": {"epochs": 4, "lr": 0.1}, "tracking": {"mode": "disabled"}}
    folder.save_config(continued, may_change=("train.epochs", "tracking"))
    assert folder.config == continued
    with pytest.raises(ValueError, match=r"train\.lr was 0\.1, is now 0\.2"):
        folder.save_config({"train": {"epochs": 4, "lr": 0.2}}, may_change=("tracking",))


def test_summary_is_flat_merged_and_nan_safe(folder):
    assert folder.summary == {}
    folder.update_summary({"gen/n": np.int64(3), "gen/energy_min": math.nan})
    folder.update_summary({"gen/n": 4, "gen/note": "ok"})
    assert RunFolder(folder.path).summary == {
        "gen/n": 4,
        "gen/energy_min": None,
        "gen/note": "ok",
    }
    with pytest.raises(ValueError, match="gen/energies"):
        folder.update_summary({"gen/energies": [1, 2]})


def test_replacing_is_all_or_nothing(folder):
    path = folder / "checkpoints/last.pt"
    with replacing(path) as part:
        torch.save({"step": 1}, part)

    def stopped_halfway():
        with replacing(path) as part:
            part.write_bytes(b"half")
            raise RuntimeError("killed here")

    with pytest.raises(RuntimeError, match="killed here"):
        stopped_halfway()
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_what_a_kill_left_half_written_is_removed_by_the_next_command(folder):
    left = [".summary.7.json", ".minima.7.partial.npz", "structures/.path.7.extxyz"]
    of_a_worker = "candidates/.000000-000001.7.partial.npz"  # which may be at work still
    kept = [of_a_worker, ".lock", "structures/path.extxyz", "structures/.hidden.extxyz"]
    for name in (*left, *kept):
        (folder / name).touch()
    with folder.alone():
        there = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*.*")}
    assert there == set(kept)


def test_structures_keep_energy_forces_constraints_and_info(folder):
    folder.save_structures("gen", [frame(0)])
    folder.save_structures("gen", [frame(1), frame(2)])
    back = folder.structures("gen")
    assert [atoms.info["seed"] for atoms in back] == [1, 2]
    assert back[0].get_potential_energy() == -2.5
    np.testing.assert_allclose(back[0].get_forces(apply_constraint=False), 0.25)
    assert back[0].constraints[0].index.tolist() == [0]
    assert folder.structures("absent") == []


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.98, 0.999])
def test_a_half_written_frame_is_ignored_then_cut(folder, kept):
    """Whatever share of a frame a kill leaves, whole frames stay and the next follows them."""
    path = folder.append_structures("gen", [frame(0), frame(1)])
    whole = path.read_bytes()
    third = folder.append_structures("gen", [frame(2)]).read_bytes()[len(whole) :]
    path.write_bytes(whole + third[: int(kept * len(third))])

    reopened = RunFolder(folder.path)
    assert [atoms.info["seed"] for atoms in reopened.structures("gen")] == [0, 1]
    reopened.append_structures("gen", [frame(5)])
    reopened.append_structures("gen", [frame(6)])
    assert [a.info["seed"] for a in RunFolder(folder.path).structures("gen")] == [0, 1, 5, 6]


def numbered(index: int):
    atoms = frame(index)
    atoms.info["index"] = index
    return atoms


def test_frames_are_sorted_as_they_are_written(folder):
    """A structure that is there twice stays as it was first; a cut end is left out."""
    path = folder.append_structures("gen", [numbered(2), numbered(0)])
    again = numbered(2)
    again.positions += 1
    folder.append_structures("gen", [again, numbered(1)])
    with open(path, "a") as file:
        file.write("2\nLattice=")
    folder.tidy("gen")
    assert path.read_text() == extxyz([numbered(k) for k in range(3)])
    assert [a.info["index"] for a in folder.iterate("gen")] == [0, 1, 2]
    folder.tidy("absent")
    assert not (folder.path / "structures/absent.extxyz").exists()


def test_frames_are_in_memory_one_at_a_time(folder):
    """To sort them takes the place of each in the file, a small part of what they take."""
    text = extxyz([numbered(7)])
    path = folder.append_structures("gen", [numbered(400)])
    with open(path, "a") as file:
        file.writelines(text.replace("index=7", f"index={399 - k}") for k in range(400))

    def peak(work) -> int:
        tracemalloc.start()
        work()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    all_at_once = peak(lambda: folder.structures("gen"))
    assert peak(lambda: folder.tidy("gen")) < all_at_once / 3
    assert peak(lambda: sum(1 for _ in folder.iterate("gen"))) < all_at_once / 3
    assert [a.info["index"] for a in folder.iterate("gen")] == list(range(401))


def test_paths_are_stored_relative_and_the_folder_moves(folder, tmp_path):
    checkpoint = folder / "checkpoints/best.pt"
    folder.log({"checkpoint": checkpoint})
    folder.update_summary({"checkpoint": checkpoint})
    folder.save_config({"data": tmp_path / "data.extxyz"})
    moved = RunFolder(folder.path.rename(tmp_path / "runs" / "train" / "second"))
    assert moved.rows() == [{"checkpoint": "checkpoints/best.pt"}]
    assert moved.summary == {"checkpoint": "checkpoints/best.pt"}
    assert moved.config == {"data": "../../../data.extxyz"}
    for file in moved.path.iterdir():
        if file.is_file():
            assert str(tmp_path) not in file.read_text()


def test_environment_holds_versions_but_no_host(folder):
    folder.save_environment(device="cpu")
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["python"] == platform.python_version()
    assert environment["torch"] == versions()["torch"] is not None
    assert environment["threads"] == torch.get_num_threads()
    assert environment["device"] == "cpu"
    assert environment["commit"] == git_commit()
    assert platform.node() not in (folder / "environment.json").read_text()


def test_the_commit_of_another_project_is_not_ours(tmp_path, monkeypatch):
    """As where the environment with this package lies in somebody's repository."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit = ["git", *who, "commit", "-q", "--allow-empty", "-m", "theirs"]
    subprocess.run(commit, cwd=tmp_path, check=True)
    installed = tmp_path / "site-packages/provenance.py"
    installed.parent.mkdir()
    installed.touch()
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert git_commit() is None


def test_commit_is_null_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_only_a_run_can_be_opened_as_existing(tmp_path):
    with pytest.raises(ValueError, match="is not a run folder"):
        RunFolder.existing(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    RunFolder(tmp_path / "run").save_config({"seed": 1})
    assert RunFolder.existing(tmp_path / "run").name == "run"


def test_import_is_quick():
    """No torch, ASE, W&B or matplotlib before they are needed."""
    code = (
        "import sys, experiments.harness.runs.run_folder, experiments.harness.tracking.tracker\n"
        "heavy = {'torch', 'ase', 'wandb', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
