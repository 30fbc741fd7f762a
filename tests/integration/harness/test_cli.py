"""The command line: help, config, exit codes, and what it says."""

import json
import time

import pytest
import torch
import yaml

from experiments.harness.commands.main import main as surfdiff
from experiments.harness.config import compose
from experiments.harness.config.instantiate import prepare_torch
from experiments.harness.config.settings import SCHEMAS
from experiments.harness.execution.progress import progress
from experiments.harness.training import inspect, train
from tests.tiny import start


@pytest.mark.parametrize("entry", SCHEMAS)
def test_help_shows_every_default_and_group(entry, capsys):
    surfdiff([entry, "--help"])
    out = capsys.readouterr().out
    assert f"surfdiff {entry}" in out
    assert (compose.CONF / f"{entry}.yaml").read_text() in out
    assert "sde=brownian|vp" in out


def test_the_config_can_be_looked_at(capsys):
    surfdiff(["train", "--cfg", "sde=vp", "train.steps=7"])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config == compose.load("train", ["sde=vp", "train.steps=7"]).plain()
    assert config["sde"]["_target_"] == "vpsde.vp"


def test_names_follow_from_what_is_made():
    assert compose.load("train", ["task=forcefield"]).name == "forcefield"
    assert compose.load("sample", ["composition=Ag12O6"]).name == "Ag12O6"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ValueError("two\n  lines"), 2, "train: two lines\n"),
        (
            PermissionError(13, "Permission denied", "runs"),
            2,
            "train: runs: permission denied; change",
        ),
        (
            OSError(28, "No space left on device", "runs"),
            2,
            "train: runs: no space left on device; f",
        ),
        (OSError(5, "Input/output error"), 2, "train: input/output error; check the disk"),
        (OSError(95, "Not supported", "runs"), 2, "train: runs: not supported\n"),
        (OSError("words of a library"), 2, "train: words of a library\n"),
        (KeyboardInterrupt(), 130, "train: interrupted; the same command continues"),
    ],
)
def test_exit_codes(error, code, told, monkeypatch, capsys):
    def fail(config):
        raise error

    monkeypatch.setattr(train, "run", fail)
    with pytest.raises(SystemExit) as end:
        surfdiff(["train"])
    assert end.value.code == code
    assert told in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def fail(config):
        raise KeyError("ours")

    monkeypatch.setattr(train, "run", fail)
    with pytest.raises(KeyError, match="ours"):
        surfdiff(["train"])


def test_a_traceback_for_who_asks():
    with pytest.raises(ValueError, match=r"train\.steps"):
        surfdiff(["train", "train.steps=0", "--traceback"])


def test_progress_tells_the_time_left_in_plain_lines(monkeypatch, capsys):
    clock = iter(range(0, 1000, 3))  # three seconds an item
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    assert list(progress(range(10), "work", 20, done=10)) == list(range(10))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 12/20, 0:24 left"
    assert 1 < len(lines) < 5


def test_progress_counts_what_has_a_length(capsys):
    assert list(progress([1, 2], "work")) == [1, 2]
    assert capsys.readouterr().err == ""


def test_doctor(capsys):
    surfdiff(["doctor"])
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["torch"].startswith("2.")
    assert {"python", "device", "neighbours", "chgnet", "sdedata"} <= set(told)
    with pytest.raises(SystemExit) as end:
        surfdiff(["doctor", "--nonsense"])
    assert end.value.code == 2


def test_inspect_tells_what_a_model_is_for(world, capsys):
    surfdiff(["inspect", str(world.score)])
    out = capsys.readouterr().out
    for told in (
        "train score", "step 12 of 12", "val/loss", "1 to 5 Å above the slab", "O, Ag", "4 Å",
        "Ag2O, Ag3", "ase.calculators.emt.EMT", "vpsde.brownian", "sha256:",
    ):  # fmt: skip
        assert told in out
    surfdiff(["inspect", str(world.score / "model.pt")])
    assert "O, Ag" in capsys.readouterr().out
    surfdiff(["inspect", str(world.output / "generate_data/c2x8")])
    assert "finished" in capsys.readouterr().out


def test_inspect_tells_how_far_an_unfinished_run_is(world, tmp_path):
    for name in ("config.yaml", "data.json"):
        (tmp_path / name).write_bytes((world.score / name).read_bytes())
    rows = (world.score / "metrics.jsonl").read_text().splitlines(keepends=True)
    steps = [row for row in rows if "train/step" in json.loads(row)]
    (tmp_path / "metrics.jsonl").write_text("".join(steps[:5]))
    found = inspect.facts(tmp_path)
    assert found["progress"] == "step 5 of 12"
    assert found["train/loss"] == json.loads(steps[4])["train/loss"]
    assert found["elements"] == "O, Ag"
    assert found["cutoff"] == "4 Å"


def test_predict_without_an_output_writes_beside_the_input(world, tmp_path, capsys):
    from ase.io import read, write

    from sdedata import StructureSet

    write(tmp_path / "mine.traj", StructureSet.read(world.minima).to_atoms()[:2])
    surfdiff(["predict", str(world.forcefield), f"{tmp_path}/mine.traj"])
    out = capsys.readouterr().out.splitlines()
    frames = read(tmp_path / "mine_predicted.extxyz", ":")
    assert len(frames) == 2
    assert out[0] == f"frame 0: {frames[0].get_potential_energy():.4f} eV"


def test_help_from_the_shell():
    process = start("predict", "--help")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "any file that ASE reads" in out
    assert err == ""


def test_products_stay_those_of_float32():
    """Sums of n positive numbers: the error of float32 is far under n / 2**24."""
    prepare_torch(None)
    a, b = torch.rand(2, 200, 300)
    exact = a.double() @ b.double().T
    assert ((a @ b.T).double() / exact - 1).abs().max() < 300 / 2**24
