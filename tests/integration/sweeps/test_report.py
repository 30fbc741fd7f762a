"""What a finished study leaves: a page, W&B's run of it, a published record."""

import json

import pytest
from matplotlib.image import imread
from optuna.trial import TrialState

from experiments.harness.config.settings import Tracking
from experiments.harness.runs.run_folder import RunFolder
from sweeps import subcommands
from sweeps.analysis import report, results
from sweeps.analysis.table import load
from sweeps.execution.trial import run_point
from tests.integration.harness.mirror import history, logs, updates
from tests.integration.sweeps.studies import ETA, add, grid, study
from tests.integration.sweeps.tiny_sweep import MEDIAN, make, sampled, sweep_of, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A study of two trials, run by the command, tracked offline."""
    home = tmp_path_factory.mktemp("finished")
    space = {"sample.sampler.steps": {"choices": [2, 3]}}
    file = write(home / "tiny.yaml", sampled(world, space=space, tracking={"mode": "offline"}))
    made = subcommands.run([str(file), f"runs={home}"])
    return home, file, made


def test_the_study_s_run_holds_the_table_and_the_result(finished):
    home, _, made = finished
    trials, folder = load(made), RunFolder(home / "sweeps/tiny/study")
    (table,) = [row for row in folder.rows() if row.get("event") == "table"]
    assert table["columns"] == list(trials.shown().columns)
    assert table["rows"] == json.loads(json.dumps(trials.shown().to_numpy().tolist()))
    assert folder.summary[f"study/best/{MEDIAN}"] == made.best_value
    assert folder.summary[f"study/best/{MEDIAN}/trial"] == made.best_trial.number
    assert folder.summary["study/conclusion"] == " ".join(report.statements(trials))
    page = (folder.path / "report.html").read_text()
    assert trials.definition["question"] in page
    text = report.as_text(trials).splitlines()
    assert all(f"{trial.value:.4g}" in text[trial.number] for trial in made.trials)


def test_w_and_b_has_a_run_of_the_study_and_one_of_each_trial(finished):
    home, _, made = finished
    about = json.loads((home / "sweeps/tiny/study/tracking.json").read_text())
    assert (about["group"], about["job_type"]) == ("tiny", "study")
    for trial in made.trials:
        folder = RunFolder(home / f"sweeps/tiny/{trial.number:04d}")
        about = json.loads((folder.path / "tracking.json").read_text())
        assert about["name"] == f"tiny-{trial.number:04d}"
        kinds = {json.loads(p.read_text())["job_type"] for p in folder.path.rglob("tracking.json")}
        assert kinds == {"trial", "sample", "evaluate"}
    (log,) = logs(RunFolder(home / "sweeps/tiny/0000"))
    summary = updates(log, "summary")
    assert summary["optuna/state"] == "complete"
    assert summary[MEDIAN] == made.trials[0].value
    bins = {k: v for row in history(log) for k, v in row.items() if "gen_relaxed/energy_bins" in k}
    assert sum(bins.values()) == len(made.trials[0].user_attrs["energies"]["gen_relaxed"])


def test_what_was_published_is_not_published_again(finished):
    home, file, made = finished
    before = {p: p.stat().st_mtime_ns for p in (home / "sweeps/tiny").rglob("*") if p.is_file()}
    report.publish(load(made), home / "sweeps/tiny/study", Tracking())
    subcommands.run([str(file), f"runs={home}"])
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_failed_trial_that_is_retried_is_published_anew(tmp_path):
    published = []
    for state, about in ((TrialState.FAIL, {}), (TrialState.COMPLETE, {"metrics": {MEDIAN: 0.1}})):
        made = study({ETA: {"choices": [0.0, 0.001]}})
        add(made, 0, {ETA: 0.0}, metrics={MEDIAN: 0.3})
        add(made, 1, {ETA: 0.001}, state, **about)
        for _ in range(2):  # the second time there is nothing new
            report.publish(load(made), tmp_path, Tracking(mode="disabled"))
        published.append(RunFolder(tmp_path).summary)
    assert [summary["study/failed"] for summary in published] == [1, 0]
    assert [summary[f"study/best/{MEDIAN}"] for summary in published] == [0.3, 0.1]
    assert "2 complete" in (tmp_path / "report.html").read_text()
    tables = [row for row in RunFolder(tmp_path).rows() if row.get("event") == "table"]
    assert len(tables) == 2


def test_a_record_holds_what_its_statements_rest_on(tmp_path):
    """Read back, the published trials give the same text and the README is filled from it."""
    trials = grid()
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    results.publish(trials, tmp_path, tmp_path)
    again = results.load_record(tmp_path / f"{trials.name}.json")
    assert again.counts == trials.counts
    assert again.definition["question"] == trials.definition["question"]
    values = [t.feasible[MEDIAN].astype(float).tolist() for t in (again, trials)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    assert imread(tmp_path / f"{trials.name}.png").std() > 0.05
    results.refill(readme, tmp_path)
    text = readme.read_text()
    assert text.startswith(f"before\n<!-- results -->\n### {trials.name}: How strongly")
    assert "old" not in text
    assert all(statement in text for statement in report.statements(again))


def test_an_unfinished_study_is_not_published(sqlite, tmp_path):
    space = {"score.train.steps": {"choices": [2, 3, 4, 5]}}
    trials = load(make(sweep_of(space=space, sampler={"_target_": "optuna.samplers.GridSampler"},
                                budget=None), sqlite))  # fmt: skip
    with pytest.raises(ValueError, match="study tiny is not finished: 4 waiting"):
        results.publish(trials, tmp_path, tmp_path)
    assert report.as_text(trials) == "No trial is complete: 4 waiting."
    assert load(study({ETA: {"choices": [0.0]}})).trials.empty


def test_a_point_by_hand_is_repeatable(world, tmp_path):
    file = write(tmp_path / "hand.yaml", sampled(world))
    found = [subcommands.trial([str(file), "sample.sampler.steps=3", f"runs={tmp_path}/{home}"])
             for home in ("a", "b")]  # fmt: skip
    assert found[0].energies == found[1].energies
    assert (tmp_path / "a/sweeps/hand/by_hand-steps_3/summary.json").is_file()
    for values in ({}, {"sample.sampler.step": "3"}, {"sample.sampler.steps": "-3"}):
        with pytest.raises(ValueError, match="sampler.step"):
            run_point(
                subcommands.read(file), values, subcommands.Settings(runs=str(tmp_path)).place
            )
