"""Each command killed in the middle and repeated ends as if nothing had happened."""

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import load
from sdedata import StructureSet
from tests.tiny import PATIENCE, SAMPLE, SEARCH, TRAIN, run, start, until, wait_for


def kill(process) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    return False


def test_generate_data(world, tmp_path):
    """With two real worker processes, which end with their killed parent."""
    same = [
        "name=c2x8", "compositions=[Ag3,Ag2O]", "n_per_composition=4", f"output={tmp_path}",
        "calculator=emt", "tracking.mode=disabled", "task_size=1",
    ]  # fmt: skip
    folder = tmp_path / "generate_data/c2x8"
    process = start("generate_data", *same, "executor.max_workers=2")
    wait_for(lambda: len(list(folder.glob("candidates/[0-9]*.npz"))) >= 2, process)
    workers = children(process.pid)
    assert len(workers) >= 2
    kill(process)
    until(lambda: not any(map(alive, workers)))
    done = len(list(folder.glob("candidates/[0-9]*.npz")))
    assert 2 <= done < 8
    assert not (folder / "minima.npz").exists()
    summary = run("generate_data", *same, "executor=threads")
    assert summary["data/minima"] == 8
    assert StructureSet.read(folder / "minima.npz").digest == StructureSet.read(world.minima).digest
    assert StructureSet.read(folder / "frames.npz").digest == StructureSet.read(world.frames).digest


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load(folder / "model.pt")["state"]


def assert_same_training(folder: Path, undisturbed: Path) -> None:
    ours, theirs = weights(folder), weights(undisturbed)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6)
    rows = [row for row in RunFolder(folder).rows() if "train/step" in row]
    steps = [row["train/step"] for row in rows]
    assert len(steps) == len(set(steps))  # no row twice
    # A step that was logged but not kept in a checkpoint is made again, to the same loss.
    before = {r["train/step"]: r for r in RunFolder(undisturbed).rows() if "train/step" in r}
    for row in rows:
        assert row["train/loss"] == pytest.approx(before[row["train/step"]]["train/loss"], abs=1e-5)
    assert set(steps) == set(before)


@pytest.fixture(scope="module")
def long_training(world, tmp_path_factory):
    """What to train, and the folder of a run that nobody disturbed."""
    what = [*TRAIN, "task=score", "name=long", "train.steps=60", f"data.path={world.minima}"]
    output = tmp_path_factory.mktemp("undisturbed")
    run("train", *what, f"output={output}")
    return what, output / "train/long"


def test_train(long_training, tmp_path):
    what, undisturbed = long_training
    what = [*what, f"output={tmp_path}"]
    folder = tmp_path / "train/long"
    process = start("train", *what)
    wait_for((folder / "checkpoints/last.pt").exists, process)
    kill(process)
    assert 4 <= load(folder / "checkpoints/last.pt")["step"] < 60
    assert not (folder / "model.pt").exists()
    run("train", *what)
    assert_same_training(folder, undisturbed)


def test_train_terminated(long_training, tmp_path):
    """SIGTERM, as Slurm sends it; the W&B log is closed properly, too."""
    what, undisturbed = long_training
    what = [*what, f"output={tmp_path}", "tracking.mode=offline"]
    folder = tmp_path / "train/long"
    process = start("train", *what)
    wait_for((folder / "checkpoints/last.pt").exists, process)
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    (log,) = folder.glob("wandb/offline-run-*/*.wandb")
    assert log.stat().st_size > 1000
    assert not (folder / "model.pt").exists()
    run("train", *what, "tracking.mode=disabled")
    assert_same_training(folder, undisturbed)


def test_a_trainer_that_is_stopped_keeps_the_step_it_has_reached(world, tmp_path):
    from experiments.harness.config import compose
    from experiments.harness.training.data import training_data
    from experiments.harness.training.objectives import make_task
    from experiments.harness.training.trainer import Trainer, seeded

    config = compose.load("train", [*TRAIN, f"data.path={world.minima}", f"output={tmp_path}"])
    data = training_data(config, "score")
    seeded(0)
    task = make_task(config, data.facts["elements"], data.train)
    trainer = Trainer(task, data.train, data.val, config.train, 1, 0, torch.device("cpu"))
    rows = trainer.run(tmp_path / "last.pt")
    for _ in range(3):
        next(rows)
    rows.close()
    assert load(tmp_path / "last.pt")["step"] == 3


def test_sample(world, tmp_path):
    what = [
        *SAMPLE, *world.networks, "composition=Ag2O", "batch_size=1", "sampler.steps=20",
        "guide.descent_steps=20",
    ]  # fmt: skip
    run("sample", *what, f"output={tmp_path}/undisturbed")
    folder = tmp_path / "sample/Ag2O"
    process = start("sample", *what, f"output={tmp_path}")
    wait_for((folder / "structures/generated.extxyz").exists, process)
    kill(process)
    assert 1 <= len(RunFolder(folder).structures("generated")) < 4
    run("sample", *what, f"output={tmp_path}", "batch_size=2")  # the rest in other batches
    for name in ("generated", "diffused", "path"):
        ours = RunFolder(folder).structures(name)
        theirs = RunFolder(tmp_path / "undisturbed/sample/Ag2O").structures(name)
        assert [a.info["index"] for a in ours] == [a.info["index"] for a in theirs]
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.positions, b.positions, atol=2e-3)


def test_evaluate(world, tmp_path):
    sampled = f"{tmp_path}/sample/Ag2O"
    run(
        "sample", *SAMPLE, f"score={world.score}", "guide=none", "composition=Ag2O",
        f"output={tmp_path}",
    )  # fmt: skip
    what = [*SEARCH, f"sample={sampled}", f"reference={world.reference}"]
    undisturbed = run("evaluate", *what, f"output={tmp_path}/undisturbed", "name=one")
    folder = tmp_path / "evaluate/one"
    process = start("evaluate", *what, f"output={tmp_path}", "name=one")
    wait_for((folder / "structures/relaxed.extxyz").exists, process)
    kill(process)
    assert not (folder / "summary.json").exists()
    summary = run("evaluate", *what, f"output={tmp_path}", "name=one")
    assert {k: v for k, v in summary.items() if isinstance(v, float)} == pytest.approx(
        {k: v for k, v in undisturbed.items() if isinstance(v, float)}, abs=1e-6
    )
    relaxed = RunFolder(folder).structures("relaxed")
    assert sorted(a.info["index"] for a in relaxed) == [0, 1, 2, 3]
    energies = [a.get_potential_energy() for a in relaxed]
    assert energies == sorted(energies)
