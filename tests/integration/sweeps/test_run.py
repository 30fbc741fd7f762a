"""The command: `surfdiff sweep run`, on the real pipeline at its smallest."""

import json
import signal
import time
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.run_id import identity
from experiments.harness.training.checkpoint import load, save
from sweeps import commands, subcommands
from sweeps.definition.reader import read
from sweeps.execution.study import FAILURE, SLOT, states
from tests.integration.sweeps.tiny_sweep import (
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
from tests.tiny import GUIDED, ROOT, SEARCH, wait_for

QUICK = ["heartbeat=2", "tracking.mode=disabled"]


def where(home: Path) -> list[str]:
    return [f"storage=sqlite:///{home}/studies.db", f"runs={home}/runs", *QUICK]


def here(*arguments: object) -> optuna.Study:
    """The command in this process: importing torch once more takes longer than a trial."""
    return subcommands.run([*map(str, arguments)])


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
    assert sorted(s["param/sample.sampler.steps"] for s in found.values()) == [2, 3, 4, 5]
    for trial in study.trials:
        label = f"{trial.number:04d}"
        folder, summary = RunFolder(home / "runs/sweeps/tiny" / label), found[label]
        assert trial.user_attrs["folder"] == label
        assert trial.values == [summary[MEDIAN]]
        assert summary["param/sample.sampler.steps"] == trial.params["sample.sampler.steps"]
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
        assert config["seed"] == sweep.trial_seed(trial.number)
        assert config["stages"]["sample"]["seed"] == config["seed"]
        assert identity(folder)["name"] == f"tiny-{label}"
        sample = RunFolder(folder.path / "sample/Ag2O")
        assert sample.config["sampler"]["steps"] == trial.params["sample.sampler.steps"]
        assert sample.config["seed"] == config["seed"]
        runs = [folder, sample, RunFolder(folder.path / "evaluate/Ag2O")]
        assert {identity(run)["group"] for run in runs} == {"tiny"}
        assert len({identity(run)["id"] for run in runs}) == 3


def test_a_finished_study_is_left_alone(undisturbed, capsys):
    file, home = undisturbed
    trials = home / "runs/sweeps/tiny"
    before = {label: files(trials / label) for label in summaries(trials)}
    rows = len(study_in(home, "tiny").trials)
    here(file, *where(home), "workers=2")
    assert "4 trials: 4 complete" in capsys.readouterr().err
    assert {label: files(trials / label) for label in summaries(trials)} == before
    assert len(study_in(home, "tiny").trials) == rows


def test_a_terminated_study_resumes_to_the_same_results(undisturbed, tmp_path):
    """Also with other workers than it began with."""
    file, home = undisturbed
    process = start(file, *where(tmp_path), "workers=2")
    study = tmp_path / "runs/sweeps/tiny"
    wait_for(lambda: any(study.glob("*/sample/*/structures/generated.extxyz")), process, 300)
    process.terminate()
    finish(process, 128 + signal.SIGTERM)
    counts = states(study_in(tmp_path, "tiny"))
    assert counts["running"] == counts["failed"] == 0  # given back, not left to a grace
    assert counts["waiting"] > 0
    here(file, *where(tmp_path))
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
    save(folder / "checkpoints/last.pt", state | {"step": 390})  # to see whether it is read
    before = steps_of(folder)
    here(*command)
    assert steps_of(folder) == [*before, *range(391, 401)]
    study = study_in(tmp_path, "tiny")
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert [t.user_attrs[SLOT] for t in study.trials] == [0, 0]
    assert study.trials[1].params == study.trials[0].params
    assert study.trials[1].values == [summaries(tmp_path / "runs/sweeps/tiny")["0000"][LOSS]]


def steps_of(training: Path) -> list[int]:
    return [row["train/step"] for row in RunFolder(training).rows() if "train/step" in row]


def test_a_trial_that_fails_costs_itself_alone(world, tmp_path, capsys):
    """Silver is what the network knows: with gold, sampling fails when it begins."""
    space = {"sample.composition": {"choices": ["Ag2O", "Au2O", "Ag3"]}}
    stages = {"sample": ["threads=1", "n=2", "sampler.steps=2", "guide=none"]}
    content = sampled(world, space=space, stages=stages, objectives={"gen/frac_finite": "maximize"})
    study = here(write(tmp_path / "tiny.yaml", content), *where(tmp_path))
    states_of = {t.params["sample.composition"]: t.state for t in study.trials}
    assert states_of == {
        "Ag2O": TrialState.COMPLETE, "Au2O": TrialState.FAIL, "Ag3": TrialState.COMPLETE,
    }  # fmt: skip
    (failed,) = (t for t in study.trials if t.state == TrialState.FAIL)
    reason = "knows O, Ag, not Au"
    assert reason in failed.user_attrs[FAILURE]
    assert reason in capsys.readouterr().err
    summary = summaries(tmp_path / "runs/sweeps/tiny")[f"{failed.number:04d}"]
    assert summary["optuna/state"] == "failed"
    assert reason in summary["optuna/reason"]
    assert summary["param/sample.composition"] == "Au2O"
    folder = tmp_path / f"runs/sweeps/tiny/{failed.number:04d}"
    assert json.loads((folder / "tracking.json").read_text())["exit_code"] == 1


def test_five_failures_stop_the_study_with_their_reasons(world, tmp_path):
    space = {"sample.composition": {"choices": [f"Au{n}" for n in range(1, 9)]}}
    stages = {"sample": ["threads=1", "n=1", "sampler.steps=1", "guide=none"]}
    content = sampled(world, space=space, stages=stages, objectives={"gen/frac_finite": "maximize"})
    with pytest.raises(ValueError, match="5 trials in a row failed") as error:
        here(write(tmp_path / "tiny.yaml", content), *where(tmp_path))
    reported = str(error.value)
    assert "trial 0, 1, 2, 3, 4: the score network in " in reported  # one reason, once
    assert reported.count("knows O, Ag, not Au") == 1
    counts = states(study_in(tmp_path, "tiny"))
    assert (counts["failed"], counts["waiting"]) == (5, 3)


def test_an_objective_that_is_not_reported_after_all_fails_its_trial(world, tmp_path):
    """Of structures that all flew apart there is no median energy."""
    space = {"sample.guide.eta_dt": {"choices": [0.0001, 1e300]}}
    models = {"score": str(world.score), "forcefield": str(world.forcefield)}
    stages = {
        "sample": [*GUIDED, "composition=Ag2O", "n=2"],
        "evaluate": [*SEARCH, f"reference={world.reference}"],
    }
    content = sampled(world, space=space, models=models, stages=stages)
    study = here(write(tmp_path / "tiny.yaml", content), *where(tmp_path))
    found = {t.params["sample.guide.eta_dt"]: t for t in study.trials}
    assert found[0.0001].state == TrialState.COMPLETE
    assert found[1e300].state == TrialState.FAIL
    assert found[1e300].user_attrs[FAILURE] == f"the trial reported no {MEDIAN}"


def test_a_pruned_trial_is_no_failure(world, tmp_path):
    """Its training ends when the pruner decides, as a run that went well."""
    training = [*TRAINING, f"data.path={world.minima}", "train.steps=40"]
    stages = {"score": training, "sample": UNGUIDED}
    pruner = {"_target_": "optuna.pruners.ThresholdPruner", "upper": 0.0, "n_warmup_steps": 15}
    report = {"stage": "score", "metric": "val/loss"}
    content = trained(stages=stages, pruner=pruner, report=report, budget=2)
    study = here(write(tmp_path / "tiny.yaml", content), *where(tmp_path))
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
        (["{file}", "storage=sqlite://"], "storage=sqlite:// names no file"),
        (["{file}", "storage=sqlite:///:memory:"], "names no file"),
        (["{file}", "storage=sqlite:///file::memory:?uri=true"], "names no file"),
        (["{file}", "storage=sqlite:///file:x?mode=memory&uri=true"], "names no file"),
        (["{file}", "storage=sqlite:///{file}"], "cannot be used: file is not a database"),
        (["nowhere.yaml"], "there is no file nowhere.yaml"),
        (["workers=2"], "give one sweep file"),
        (["{file}", "{file}"], "give one sweep file"),
        (["{file}", "workers=0"], "workers: Input should be greater than or equal to 1, got 0"),
        (["{file}", "heartbeat=soon"], "heartbeat: Input should be a valid integer, got 'soon'"),
        (["{file}", "retry_failed=perhaps"], "retry_failed: Input should be a valid boolean"),
        (["{file}", "bugdet=3"], "there is no key bugdet"),
        (["{file}", "--workers"], "unknown option --workers"),
        (["{file}", "objectives.gen/beauty=maximize"], "no stage of this sweep reports gen/beauty"),
    ],
)
def test_what_the_command_refuses(arguments, said, tmp_path, capsys):
    """One line, exit code 2, soon, and nothing is left behind."""
    file = write(tmp_path / "tiny.yaml", trained())
    arguments = [a.format(file=file) for a in arguments]
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        commands.main(arguments)
    assert time.monotonic() - began < 60
    assert ended.value.code == 2
    reported = capsys.readouterr().err
    assert reported.startswith("sweep: ")
    assert reported.count("\n") == 1
    assert said in reported
    assert "secret" not in reported
    assert not (tmp_path / "runs").exists()


def test_another_space_under_the_same_name_is_refused(undisturbed, tmp_path):
    file, home = undisturbed
    changed = write(tmp_path / "tiny.yaml", {**yaml.safe_load(file.read_text()), "seed": 5})
    with pytest.raises(ValueError, match=r"study tiny was made with .*seed.*\(name="):
        here(changed, *where(home))


def test_smoke(tmp_path):
    """The sweep that checks whether all is in place."""
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
