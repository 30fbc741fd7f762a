"""The command line: help, config, exit codes, and messages."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from experiments.harness.commands.main import LIST
from experiments.harness.commands.main import main as surfdiff
from experiments.harness.config import compose
from experiments.harness.config.settings import SCHEMAS
from experiments.harness.execution.progress import progress
from experiments.harness.training import inspect, train
from tests.tiny import GUIDED, PATIENCE, ROOT, start

GROUPS = {
    "train": {"task", "sde", "tracking"},
    "sample": {"guide", "sampler", "condition", "tracking", "template"},
    "evaluate": {"calculator", "executor", "tracking"},
    "generate_data": {"calculator", "executor", "tracking", "template"},
    "search_cost": {"executor", "tracking"},
    "recall": {"guide", "sampler", "tracking"},
    "label": {"calculator", "executor", "tracking"},
    "rank": {"tracking"},
    "convert": {"format"},
    "benchmark": set(),
}


@pytest.mark.parametrize("entry", SCHEMAS)
def test_help_shows_the_groups_and_keys_of_this_command_alone(entry, capsys):
    surfdiff([entry, "--help"])
    out = capsys.readouterr().out
    groups = set(re.findall(r"^  (\w+)=[\w|]+(?:   \(default: \w+\))?$", out, flags=re.M))
    assert groups == GROUPS[entry]
    file = yaml.safe_load((compose.CONF / f"{entry}.yaml").read_text())
    shown = yaml.safe_load(out.partition("keys, with their defaults:")[2])
    assert shown == {key: value for key, value in file.items() if key != "defaults"}
    assert out.partition("examples:")[2].count(f"surfdiff {entry} ") >= 1


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_list_of_commands(arguments, capsys):
    surfdiff(arguments)
    lines = capsys.readouterr().out.splitlines()
    names = [re.split(r" {2,}", line.strip())[0] for line in lines if line.startswith("  ")]
    assert names == [command.name for command in LIST]
    day = ["generate_data", "train", "sample", "evaluate", "compare", "sweep", "benchmark"]
    assert [names.index(name) for name in day] == sorted(names.index(name) for name in day)


def test_a_reader_that_has_enough_is_no_error(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        with pytest.raises(SystemExit) as ended:
            surfdiff(["sample", "--help"])
    assert ended.value.code == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("steps=20", "sampler.steps"),
        ("sampler.n_steps=20", "sampler.steps"),
        ("calculater=emt", "calculator"),
        ("guide.eta=1", "guide.eta_dt"),
        ("device_=cpu", "device"),
    ],
)
def test_a_key_that_is_nearly_right_is_suggested(given, meant):
    entry = "evaluate" if meant == "calculator" else "sample"
    with pytest.raises(ValueError, match=rf"no config key or group .*; did you mean {meant}\?$"):
        compose.load(entry, [given])


@pytest.mark.parametrize("command", LIST, ids=lambda command: command.name)
def test_every_command_explains_itself(command, capsys):
    with suppress(SystemExit):  # argparse ends with it
        surfdiff([command.name, "--help"])
    assert f"surfdiff {command.name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nothing"], ["sweep", "nothing"], ["--nothing"]])
def test_a_command_that_is_none(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        surfdiff(arguments)
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_config_can_be_looked_at(capsys):
    surfdiff(["train", "--cfg", "sde=vp", "train.steps=7"])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config == compose.load("train", ["sde=vp", "train.steps=7"]).plain()
    assert config["sde"]["_target_"] == "vpsde.vp"


@pytest.mark.parametrize("option", [["--cfg"], ["--cfg", "job"], ["--cfg=job"], ["-c", "job"]])
def test_cfg_as_hydra_writes_it(option, capsys):
    surfdiff(["train", *option, "train.steps=7"])
    assert yaml.safe_load(capsys.readouterr().out)["train"]["steps"] == 7


@pytest.mark.parametrize("option", [["--cfg"], ["--cfg", "job"], ["--cfg=job"], ["-c", "job"]])
@pytest.mark.parametrize("command", [["run", "quickstart_ag6o3"], ["quickstart"]])
def test_cfg_of_an_experiment_is_the_command_of_each_stage(command, option, capsys):
    surfdiff([*command, *option, "score.train.steps=7"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["surfdiff", entry] for entry in ("train", "train", "sample", "evaluate")
    ]
    assert "train.steps=7" in lines[1].split()


def test_the_small_quickstart_has_a_folder_of_its_own(capsys):
    for small in ("small=true", "small=True", "small=yes"):
        surfdiff(["quickstart", small, "--cfg"])
        assert "output=runs/quickstart/ag6o3_small " in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        surfdiff(["quickstart", "small=maybe", "--cfg"])
    assert ended.value.code == 2
    assert "small: Input should be a valid boolean" in capsys.readouterr().err


def test_a_grid_is_every_combination_each_in_a_folder_of_its_own(capsys):
    surfdiff(["train", "-m", "train.steps=1,2", "sde=vp,brownian", "seed=3", "--cfg", "job"])
    runs = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [(run["train"]["steps"], run["sde"]["_target_"]) for run in runs] == [
        (1, "vpsde.vp"), (1, "vpsde.brownian"), (2, "vpsde.vp"), (2, "vpsde.brownian")
    ]  # fmt: skip
    assert [run["name"] for run in runs] == [
        "score-train.steps_1-sde_vp", "score-train.steps_1-sde_brownian",
        "score-train.steps_2-sde_vp", "score-train.steps_2-sde_brownian",
    ]  # fmt: skip
    assert {run["seed"] for run in runs} == {3}


def test_a_grid_runs_all_and_continues(monkeypatch, tmp_path):
    """The second of three runs fails; the same command goes over all again, in the same folders."""
    names, broken = [], [True]

    def fake(settings):
        names.append(settings.name)
        if settings.seed == 2 and broken:
            raise ValueError("no luck")

    monkeypatch.setattr(train, "run", fake)
    command = ["train", "--multirun", "seed=range(1,4)"]
    with pytest.raises(SystemExit) as end:
        surfdiff(command)
    assert end.value.code == 2
    broken.clear()
    surfdiff(command)
    assert names == [f"score-seed_{k}" for k in (1, 2, 1, 2, 3)]


def generated(output):
    """Name of each sampling run and the file of its structures."""
    files = output.rglob("generated.extxyz")
    return {file.relative_to(output).parts[1]: file.read_bytes() for file in files}


def test_a_grid_on_the_real_thing(world, tmp_path):
    common = [*GUIDED, *world.networks, "composition=Ag2O", "n=2", f"output={tmp_path}"]
    surfdiff(["sample", "-m", *common, "seed=1,2"])
    made = generated(tmp_path)
    assert set(made) == {"Ag2O-seed_1", "Ag2O-seed_2"}
    kept = yaml.safe_load((tmp_path / "sample/Ag2O-seed_2/overrides.yaml").read_text())
    assert kept == [*common, "seed=2", "name='Ag2O-seed_2'"]
    surfdiff(["sample", "-m", *common, "seed=1,2"])
    assert generated(tmp_path) == made


def test_a_folder_of_one_s_own_configs(tmp_path, capsys):
    for name, text in {
        "calculator/mine.yaml": "_target_: ase.calculators.lj.LennardJones\nrc: 3.0\n",
        "experiment/short.yaml": "# @package _global_\ntrain: {steps: 5}\nname: short\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    surfdiff(["generate_data", "--config-dir", str(tmp_path), "calculator=mine", "--cfg"])
    assert yaml.safe_load(capsys.readouterr().out)["calculator"]["rc"] == 3.0
    for experiment in ("experiment=short", "+experiment=short"):
        surfdiff(["train", f"--config-dir={tmp_path}", experiment, "--cfg", "job"])
        config = yaml.safe_load(capsys.readouterr().out)
        assert (config["name"], config["train"]["steps"]) == ("short", 5)
    surfdiff(["generate_data", "--config-dir", str(tmp_path), "--help"])
    names = "chgnet|corrected|emt|forcefield|gpaw|mace|mattersim|orb|sevennet|uma|mine"
    assert f"calculator={names}" in capsys.readouterr().out


def test_another_target_drops_the_former_s_arguments():
    usual = compose.load("generate_data").calculator.plain()
    assert usual["model"] == "7net-0"
    emt = "calculator._target_=ase.calculators.emt.EMT"
    assert compose.load("generate_data", [emt]) == compose.load("generate_data", ["calculator=emt"])
    given = compose.load("generate_data", [emt, "+calculator.asap_cutoff=true"]).calculator.plain()
    assert given == {"_target_": "ase.calculators.emt.EMT", "asap_cutoff": True}


def test_names_follow_from_what_is_made():
    assert compose.load("train", ["task=forcefield"]).name == "forcefield"
    assert compose.load("sample", ["composition=Ag12O6"]).name == "Ag12O6"


@pytest.mark.parametrize(
    ("error", "code", "reported"),
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
def test_exit_codes(error, code, reported, monkeypatch, capsys):
    def fail(config):
        raise error

    monkeypatch.setattr(train, "run", fail)
    with pytest.raises(SystemExit) as end:
        surfdiff(["train"])
    assert end.value.code == code
    assert reported in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def fail(config):
        raise KeyError("ours")

    monkeypatch.setattr(train, "run", fail)
    with pytest.raises(KeyError, match="ours"):
        surfdiff(["train"])


def test_a_traceback_is_shown_on_request():
    with pytest.raises(ValueError, match=r"train\.steps"):
        surfdiff(["train", "train.steps=0", "--traceback"])


def test_progress_estimates_the_time_left_once_it_is_known(monkeypatch, capsys):
    """Three seconds an item but the first, which waits for workers for a minute more."""
    clock = iter([0, *range(63, 1000, 3)])
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    assert list(progress(range(10), "work", 20, done=10)) == list(range(10))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["work: 11 of 20", "work: 14 of 20, 0:18 left", "work: 18 of 20, 0:06 left"]


def test_processes_side_by_side_draw_a_bar_each_on_a_terminal():
    """Two tasks log and count on one pseudo-terminal: neither line nor bar of one is lost."""
    code = (
        "from tests.integration.harness.bars import draw_side_by_side\n"
        "if __name__ == '__main__':\n    draw_side_by_side()\n"
    )
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 100))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=inside)
    os.close(inside)
    seen = b""
    with suppress(OSError):  # the other end was closed
        while part := os.read(outside, 4096):
            seen += part
    assert process.wait() == 0
    text = seen.decode()
    for name in ("forcefield", "score"):
        assert re.search(rf"\[{name}\] train: +\d+%", text)  # the last step may come too soon after
        assert f"[{name}] half of the steps are done\r\n" in text.replace("\x1b[A", "")
    assert "\x1b[A" in text  # the cursor moves between the two rows


def test_progress_counts_what_has_a_length(capsys):
    assert list(progress([1, 2], "work")) == [1, 2]
    assert capsys.readouterr().err == ""


def test_doctor(capsys):
    surfdiff(["doctor"])
    reported = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert reported["torch"].startswith("2.")
    assert {"python", "device", "neighbours", "chgnet", "surface-diffusion"} <= set(reported)
    with pytest.raises(SystemExit) as end:
        surfdiff(["doctor", "--nonsense"])
    assert end.value.code == 2


def test_inspect_shows_what_a_model_is_for(world, capsys):
    surfdiff(["inspect", str(world.score)])
    out = capsys.readouterr().out
    for reported in (
        "train score", "step 12 of 12", "val/loss", "1 to 5 Å above the slab", "O, Ag", "4 Å",
        "Ag2O, Ag3", "ase.calculators.emt.EMT", "vpsde.brownian", "sha256:",
    ):  # fmt: skip
        assert reported in out
    surfdiff(["inspect", str(world.score / "model.pt")])
    assert "O, Ag" in capsys.readouterr().out
    surfdiff(["inspect", str(world.output / "generate_data/c2x8")])
    assert "finished" in capsys.readouterr().out


def test_inspect_shows_one_network_of_a_shipped_model():
    found = inspect.facts(Path("silver_oxide/score"))
    assert found["elements"] == "O, Ag"
    with pytest.raises(ValueError, match="name silver_oxide/forcefield or silver_oxide/score"):
        inspect.facts(Path("silver_oxide"))
    correction = inspect.facts(Path("silver_oxide_pbe/correction_0"))
    assert correction["less"] == {"_target_": "experiments.calculators.sevennet", "model": "7net-0"}


def test_inspect_shows_how_far_an_unfinished_run_is(world, tmp_path):
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
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "any file that ASE reads" in out
    assert err == ""


@pytest.mark.parametrize("command", ["experiments --help", "experiments", "sdedata list"])
def test_help_that_nobody_reads_ends_without_a_traceback(command):
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert ended.stderr == ""
    assert ended.returncode in (-signal.SIGPIPE, 128 + signal.SIGPIPE)
