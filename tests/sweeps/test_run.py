"""The command: `python -m sweeps.run`, on the real pipeline at its smallest."""

import json
import signal
import time
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from experiments.checkpoint import load, save
from experiments.runfolder import RunFolder
from sweeps import run
from sweeps.read import read
from sweeps.study import FAILURE, slot, states
from sweeps.trial import seed_of
from tests.sweeps.tiny_sweep import (
    LOSS,
    MEDIAN,
    TRAINING,
    UNGUIDED,
    finish,
    kill,
    sampled,
    start,
    study_at,
    summaries,
    trained,
    write,
)
from tests.tiny import ROOT, SEARCH, wait_for

QUICK = ["heartbeat=2", "tracking.mode=disabled"]


def where(home: Path) -> list[str]:
    return [f"storage=sqlite:///{home}/studies.db", f"runs={home}/runs", *QUICK]


def study_in(home: Path, name: str):
    return study_at(f"sqlite:///{home}/studies.db", name)


def numbers(study: Path) -> dict[str, dict]:
    """What the trials came to, but for how long that took."""
    return {
        label: {k: v for k, v in found.items() if "second" not in k}
        for label, found in summaries(study).items()
    }


def files(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    """A file, and the home of its study, which two workers have finished in peace."""
    home = tmp_path_factory.mktemp("undisturbed")
    file = write(home / "tiny.yaml", sampled(world))
    finish(start(file, *where(home), "workers=2"))
    return file, home


def test_a_study_leaves_a_run_folder_for_each_trial(undisturbed):
    file, home = undisturbed
    sweep, study = read(file), study_in(home, "tiny")
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4
    found = summaries(home / "runs/sweeps/tiny")
    assert list(found) == ["0000", "0001", "0002", "0003"]
    assert sorted(s["knob/sample.sampler.steps"] for s in found.values()) == [2, 3, 4, 5]
    for trial in study.trials:
        label = f"{trial.number:04d}"
        folder, summary = RunFolder(home / "runs/sweeps/tiny" / label), found[label]
        assert trial.user_attrs["folder"] == label
        assert trial.values == [summary[MEDIAN]]
        assert summary["knob/sample.sampler.steps"] == trial.params["sample.sampler.steps"]
        assert summary["optuna/state"] == "complete"
        assert {"gen/n", "gen/frac_finite", "seconds/all"} <= set(trial.user_attrs["metrics"])
        energies = {r["name"]: r["energies"] for r in folder.rows() if r["event"] == "energies"}
        assert set(energies) == {"gen", "gen_relaxed"} == set(trial.user_attrs["energies"])
        assert energies == trial.user_attrs["energies"]
        assert len(energies["gen_relaxed"]) == 4
        assert folder.structures("best")
        config = folder.config
        assert config["study"] == "tiny"
        assert config["params"] == trial.params
        assert config["seed"] == seed_of(sweep, trial.number)
        assert config["stages"]["sample"]["seed"] == config["seed"]
        assert identity(folder.path) == f"tiny-{label}"
        sample = RunFolder(folder.path / "sample/Ag2O")
        assert sample.config["sampler"]["steps"] == trial.params["sample.sampler.steps"]
        assert sample.config["seed"] == config["seed"]
        assert identity(sample.path) == f"tiny-{label}-sample"
        assert identity(folder.path / "evaluate/Ag2O") == f"tiny-{label}-evaluate"
        assert json.loads((sample.path / "tracking.json").read_text())["group"] == "tiny"


def identity(folder: Path) -> str:
    return json.loads((folder / "tracking.json").read_text())["id"]


def test_a_finished_study_is_left_alone(undisturbed):
    file, home = undisturbed
    trials = home / "runs/sweeps/tiny"
    before = {label: files(trials / label) for label in summaries(trials)}
    rows = len(study_in(home, "tiny").trials)
    told = finish(start(file, *where(home), "workers=2"))
    assert "4 trials: 4 complete" in told
    assert {label: files(trials / label) for label in summaries(trials)} == before
    assert len(study_in(home, "tiny").trials) == rows


@pytest.mark.parametrize("workers", [1, 2])
def test_a_study_that_is_told_to_end_goes_on_to_the_same_results(workers, undisturbed, tmp_path):
    file, home = undisturbed
    command = [file, *where(tmp_path), f"workers={workers}"]
    process = start(*command)
    study = tmp_path / "runs/sweeps/tiny"
    wait_for(lambda: any(study.glob("*/sample/*/structures/generated.extxyz")), process, 300)
    process.terminate()
    finish(process, 128 + signal.SIGTERM)
    counts = states(study_in(tmp_path, "tiny"))
    assert counts["running"] == counts["failed"] == 0  # given back, not left to a grace
    assert counts["waiting"] > 0
    finish(start(*command))
    counts = states(study_in(tmp_path, "tiny"))
    assert counts == {"complete": 4, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    ours, theirs = numbers(study), numbers(home / "runs/sweeps/tiny")
    assert ours.keys() == theirs.keys()
    for label, found in theirs.items():
        assert ours[label] == pytest.approx(found, abs=1e-6)


def test_a_killed_worker_s_training_goes_on_from_its_checkpoint(world, tmp_path):
    """Inside a trial, as anywhere: what was learned is kept."""
    training = [*TRAINING, f"data.path={world.minima}", "train.steps=400"]
    stages = {"score": [*training, "train.validate_every=200"], "sample": UNGUIDED}
    file = write(tmp_path / "tiny.yaml", trained(stages=stages, budget=1))
    command = [file, *where(tmp_path)]
    process = start(*command)
    folder = tmp_path / "runs/sweeps/tiny/0000/train/score"
    wait_for((folder / "checkpoints/last.pt").exists, process, 300)
    kill(process)
    state = load(folder / "checkpoints/last.pt")
    assert 4 <= state["step"] < 390
    save(folder / "checkpoints/last.pt", state | {"step": 390})  # to tell whether it is read
    before = steps_of(folder)
    told = finish(start(*command))
    assert steps_of(folder) == [*before, *range(391, 401)]
    assert "trial 0" in told
    study = study_in(tmp_path, "tiny")
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert [slot(t) for t in study.trials] == [0, 0]
    assert study.trials[1].params == study.trials[0].params
    assert study.trials[1].values == [summaries(tmp_path / "runs/sweeps/tiny")["0000"][LOSS]]


def steps_of(training: Path) -> list[int]:
    return [row["train/step"] for row in RunFolder(training).rows() if "train/step" in row]


def test_a_trial_that_fails_costs_itself_alone(world, tmp_path):
    """Silver is what the network knows: with gold, sampling fails when it begins."""
    space = {"sample.composition": {"choices": ["Ag2O", "Au2O", "Ag3"]}}
    stages = {"sample": ["threads=1", "n=2", "sampler.steps=2", "guide=none"]}
    content = sampled(world, space=space, stages=stages, objectives={"gen/frac_finite": "maximize"})
    told = finish(start(write(tmp_path / "tiny.yaml", content), *where(tmp_path)))
    study = study_in(tmp_path, "tiny")
    states_of = {t.params["sample.composition"]: t.state for t in study.trials}
    assert states_of == {
        "Ag2O": TrialState.COMPLETE, "Au2O": TrialState.FAIL, "Ag3": TrialState.COMPLETE,
    }  # fmt: skip
    (failed,) = (t for t in study.trials if t.state == TrialState.FAIL)
    reason = "knows O, Ag, not Au"
    assert reason in failed.user_attrs[FAILURE]
    assert reason in told
    summary = summaries(tmp_path / "runs/sweeps/tiny")[f"{failed.number:04d}"]
    assert summary["optuna/state"] == "failed"
    assert reason in summary["optuna/reason"]
    assert summary["knob/sample.composition"] == "Au2O"
    folder = tmp_path / f"runs/sweeps/tiny/{failed.number:04d}"
    assert json.loads((folder / "tracking.json").read_text())["exit_code"] == 1


def test_five_failures_stop_the_command(world, tmp_path):
    """An objective that needs a random search to compare with, and there is none."""
    stages = {"sample": UNGUIDED, "evaluate": [*SEARCH, "relaxation.max_steps=1"]}
    space = {"sample.seed": {"choices": list(range(8))}}
    objectives = {"gen/hit_rate": "maximize"}
    content = sampled(world, stages=stages, space=space, objectives=objectives)
    file = write(tmp_path / "tiny.yaml", content)
    told = finish(start(file, *where(tmp_path)), 2).splitlines()[-1]
    assert told.startswith("sweeps.run: 5 trials in a row failed")
    assert told.count("the trial reported no gen/hit_rate") == 5
    assert [n for n in range(8) if f"trial {n}:" in told] == [0, 1, 2, 3, 4]
    counts = states(study_in(tmp_path, "tiny"))
    assert (counts["failed"], counts["waiting"]) == (5, 3)


def test_a_pruned_trial_is_no_failure(world, tmp_path):
    """Its training ends when the pruner says so, as a run that went well."""
    training = [*TRAINING, f"data.path={world.minima}", "train.steps=40"]
    stages = {"score": training, "sample": UNGUIDED}
    pruner = {"_target_": "optuna.pruners.ThresholdPruner", "upper": 0.0, "n_warmup_steps": 15}
    report = {"stage": "score", "metric": "val/loss"}
    content = trained(stages=stages, pruner=pruner, report=report, budget=2)
    finish(start(write(tmp_path / "tiny.yaml", content), *where(tmp_path)))
    study = study_in(tmp_path, "tiny")
    assert [t.state for t in study.trials] == [TrialState.PRUNED] * 2
    assert [t.last_step for t in study.trials] == [20, 20]
    for label, summary in summaries(tmp_path / "runs/sweeps/tiny").items():
        assert summary["optuna/state"] == "pruned"
        assert "pruned at train/step 20: val/loss" in summary["optuna/reason"]
        folder = tmp_path / "runs/sweeps/tiny" / label
        for path in (folder, folder / "train/score"):
            assert json.loads((path / "tracking.json").read_text())["exit_code"] == 0
        assert steps_of(folder / "train/score") == list(range(1, 21))
        assert not (folder / "sample").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["{file}", "storage=postgresql://nobody@127.0.0.1:1/x"],
            "the storage postgresql://nobody",
        ),
        (["{file}", "storage=postgresql://nobody:secret@127.0.0.1:1/x"], "nobody:***@127.0.0.1"),
        (["{file}", "storage=nonsense"], "the storage nonsense cannot be used"),
        (["{file}", "storage=sqlite:////dev/null/x.db"], "the storage sqlite:////dev/null/x.db"),
        (["nowhere.yaml"], "there is no sweep file nowhere.yaml"),
        (["workers=2"], "give one sweep file"),
        (["{file}", "{file}"], "give one sweep file"),
        (["{file}", "workers=0"], "workers must be a whole number above 0, got '0'"),
        (["{file}", "heartbeat=soon"], "heartbeat must be a whole number above 0, got 'soon'"),
        (["{file}", "retry_failed=perhaps"], "retry_failed must be true or false"),
        (["{file}", "bugdet=3"], "a sweep has no key bugdet"),
        (["{file}", "--workers"], "unknown option --workers"),
        (["{file}", "objectives.gen/beauty=maximize"], "no stage of this sweep reports gen/beauty"),
    ],
)
def test_what_the_command_refuses(arguments, said, tmp_path, monkeypatch, capsys):
    """One line, exit code 2, soon, and nothing is left behind."""
    file = write(tmp_path / "tiny.yaml", trained())
    arguments = [a.format(file=file) for a in arguments]
    monkeypatch.setattr("sys.argv", ["sweeps.run", *arguments, f"runs={tmp_path}/runs"])
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert time.monotonic() - began < 60
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("sweeps.run: ")
    assert told.count("\n") == 1
    assert said in told
    assert "secret" not in told
    assert not (tmp_path / "runs").exists()


def test_another_space_under_the_same_name_is_refused(undisturbed, tmp_path):
    file, home = undisturbed
    changed = write(tmp_path / "tiny.yaml", {**yaml.safe_load(file.read_text()), "seed": 5})
    told = finish(start(changed, *where(home)), 2)
    assert told.startswith("sweeps.run: study tiny was made with")
    assert "seed" in told
    assert "name=" in told


def test_smoke(tmp_path):
    """The sweep that tells whether all is in place."""
    finish(start(ROOT / "sweeps/smoke.yaml", *where(tmp_path), "workers=2"), seconds=1200)
    study = study_in(tmp_path, "smoke")
    counts = states(study)
    assert counts["complete"] + counts["pruned"] == 6 == len(study.trials)
    assert counts["complete"] >= 2
    found = summaries(tmp_path / "runs/sweeps/smoke")
    assert {s["optuna/state"] for s in found.values()} <= {"complete", "pruned"}
    for trial in study.trials:
        if trial.state == TrialState.COMPLETE:
            assert trial.values == [found[f"{trial.number:04d}"][LOSS]]
            assert trial.constraints["gen/frac_finite"] <= 0
