"""`surfdiff verify` runs a folder's command again and finds what differs, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import fcc111

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.comparison.folder_diff import difference, folder_differences
from experiments.harness.pipeline.verify import repeat
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.training.checkpoint import load, save
from tests.tiny import SAMPLE, SEARCH, TRAIN, run


@pytest.fixture(scope="module")
def runs(world):
    """The world, with a sampling and an evaluation."""
    output = f"output={world.output}"
    run("sample", *SAMPLE, *world.networks, "composition=Ag2O", "batch_size=4", "name=a", output)
    run(
        "evaluate", *SEARCH, f"sample={world.output}/sample/a", f"reference={world.reference}",
        "name=a", output,
    )  # fmt: skip
    return world


@pytest.fixture
def verify(capsys):
    """Call the command; returns its exit code, what it printed, and its last line of errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code: object = 0
        try:
            surfdiff(["verify", *map(str, arguments)])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, (err.strip().splitlines() or [""])[-1]

    return call


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


COMMANDS = ["generate_data/c2x8", "train/score", "train/forcefield", "sample/a", "evaluate/a"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_reproduced(name, runs):
    """On this machine to the last bit, and the folder stays as it is."""
    folder = runs.output / name
    before = content(folder)
    found = repeat(RunFolder(folder))
    assert found.command == name.split("/")[0]
    assert {one.file for one in found.differences} >= {"summary.json"}
    assert len(found.differences) >= 2
    assert all(one.largest == 0 for one in found.differences), found.differences
    structures = [one for one in found.differences if one.file.startswith("structures/")]
    assert all(one.same_bytes for one in structures)
    assert content(folder) == before


def test_other_batches_and_workers_give_the_same(runs, verify):
    """Structure by structure to 1e-5, whatever they are computed beside."""
    for size in (1, 3):
        code, out, _ = verify(runs.output / "sample/a", f"batch_size={size}")
        assert code == 0, out
        assert "structures/generated.extxyz" in out
    for name in ("evaluate/a", "generate_data/c2x8"):
        code, out, _ = verify(runs.output / name, "executor.max_workers=3")
        assert code == 0, out


def test_what_differs_is_found(runs, tmp_path, verify):
    folder = tmp_path / "sample/a"
    shutil.copytree(runs.output / "sample/a", folder)
    frames = RunFolder(folder).structures("generated")
    frames[2].positions[-1, 0] += 1e-3
    RunFolder(folder).save_structures("generated", frames)
    code, out, _ = verify(folder)
    assert code == 1
    (line,) = [one for one in out.splitlines() if "generated.extxyz" in one]
    assert "differs by 1.0e-03 in structure 2" in line
    assert verify(folder, "--tolerance", "0.01")[0] == 0
    (folder / "structures/diffused.extxyz").unlink()
    assert "diffused.extxyz does not exist" in verify(folder, "--tolerance", "0.01")[1]


def test_weights_and_numbers_that_differ_are_named(runs, tmp_path):
    folder = tmp_path / "train/score"
    shutil.copytree(runs.score, folder)
    model = load(folder / "model.pt")
    name = max(model["state"], key=lambda key: model["state"][key].numel())
    model["state"][name].view(-1)[0] += 0.5
    save(folder / "model.pt", model)
    summary = json.loads((folder / "summary.json").read_text())
    summary["val/loss"] += 0.25
    (folder / "summary.json").write_text(json.dumps(summary))
    found = {one.file: one for one in folder_differences(folder, runs.score)}
    assert found["model.pt"].where == name
    assert found["model.pt"].largest == pytest.approx(0.5, rel=1e-3)
    assert found["summary.json"].where == "val/loss"
    assert found["metrics.jsonl"].same_bytes


# Inputs


def refused(verify, *arguments: object) -> str:
    code, out, error = verify(*arguments)
    assert code == 2, out
    return error.removeprefix("verify: ")


def test_other_inputs_are_refused_before_any_compute(runs, tmp_path, verify, monkeypatch):
    def never(*_, **__):
        raise AssertionError("it computes")

    folder = tmp_path / "evaluate/a"
    shutil.copytree(runs.output / "evaluate/a", folder)
    sampled = tmp_path / "sample/a"
    shutil.copytree(runs.output / "sample/a", sampled)
    frames = RunFolder(sampled).structures("generated")
    frames[0].positions[-1] += 0.1
    RunFolder(sampled).save_structures("generated", frames)
    monkeypatch.setattr("experiments.harness.generation.evaluate.relax_all", never)
    error = refused(verify, folder, f"sample={sampled}")
    assert "evaluate/a was made with other inputs: its structures had the digest" in error

    other = tmp_path / "other"
    common = [*TRAIN, f"data.path={runs.minima}", "train.steps=3", f"output={other}"]
    run("train", *common, "task=score", "seed=5")
    monkeypatch.setattr("experiments.harness.generation.sample._generate", never)
    error = refused(verify, runs.output / "sample/a", f"score={other}/train/score")
    assert "was made with other inputs: digests.score was sha256:" in error
    error = refused(verify, runs.output / "sample/a", "sampler.steps=9")
    assert "sampler.steps was 4, is now 9" in error


def test_what_cannot_be_verified(runs, tmp_path, verify):
    assert "holds no run that can be verified" in refused(verify, tmp_path)
    assert "holds no run that can be verified" in refused(verify, tmp_path / "gone")
    assert "name the folder of a run first" in refused(verify, "batch_size=3")
    folder = tmp_path / "sample/a"
    shutil.copytree(runs.output / "sample/a", folder)
    (folder / "summary.json").unlink()
    assert "has not finished" in refused(verify, folder)
    shutil.copytree(runs.output / "sample/a", tmp_path / "elsewhere", dirs_exist_ok=True)
    assert verify(tmp_path / "elsewhere")[0] == 0  # what it is stands in the folder
    assert "there is no config key bath_size" in refused(
        verify, tmp_path / "elsewhere", "bath_size=3"
    )


@pytest.mark.parametrize(
    ("run_name", "key", "value"),
    [
        ("evaluate/a", "calculator", {"_target_": "os.mkdir", "path": "was_here"}),
        ("train/score", "sde", {"_target_": "os.mkdir", "path": "was_here"}),
        ("generate_data/c2x8", "executor", {"_target_": "os.mkdir", "path": "was_here"}),
        (
            "generate_data/c2x8", "surrogate",
            {"model": None, "trust_radius": None, "first": 2, "growth": 2.0,
             "training": ["sde._target_=os.mkdir", "+sde.path=was_here"]},
        ),
        ("train/score", "seed", "${oc.env:HOME}"),
        ("train/score", "name", "../../x"),
    ],
)  # fmt: skip
def test_a_hostile_folder_runs_nothing(run_name, key, value, runs, tmp_path, verify, monkeypatch):
    folder = tmp_path / run_name
    shutil.copytree(runs.output / run_name, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {key: value}))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert "config.yaml" in refused(verify, folder)
    assert not list(tmp_path.rglob("was_here"))
    assert not list(here.iterdir())


# Differences


def test_an_atom_across_the_edge_of_the_cell_is_where_it_was():
    slab = fcc111("Pt", (3, 3, 2), vacuum=8.0, periodic=True)
    moved = slab.copy()
    moved.positions[4] += 2 * slab.cell[0] - slab.cell[1]
    assert difference(slab, moved) < 1e-12
    moved.positions[4, 2] += 0.01
    assert difference(slab, moved) == pytest.approx(0.01, rel=1e-6)


def test_differences_of_values():
    assert difference(1.0, 1.0 + 1e-7) == pytest.approx(1e-7, rel=1e-3)
    assert difference(1000.0, 1000.1) == pytest.approx(1e-4, rel=1e-3)  # relative above 1
    assert difference(np.nan, np.nan) == difference(np.inf, np.inf) == 0
    assert difference(np.nan, 1.0) == difference(1.0, np.inf) == np.inf
    assert difference([1, 2], [1, 2, 3]) == difference("a", "b") == difference("a", 1) == np.inf
    assert difference("a", "a") == difference(None, None) == difference(True, 1) == 0
    one, other = Atoms("H2", [[0, 0, 0], [0, 0, 1]]), Atoms("HO", [[0, 0, 0], [0, 0, 1]])
    assert difference(one, other) > 0.5
    assert difference(one, Atoms("H")) == np.inf
    assert difference(torch.ones(2).numpy(), [1, 1]) == 0
