"""What a finished study leaves: a page, W&B's run of it, a record for the documents."""

import json

import pytest

from experiments.harness.config.settings import Tracking
from experiments.harness.runs.run_folder import RunFolder
from sweeps.analysis import report
from sweeps.analysis.show import publish, show, show_answers
from sweeps.analysis.trials import trials_table
from sweeps.definition.reader import TRACKING
from sweeps.definition.sweep import Sweep
from sweeps.execution import run
from sweeps.execution.study import open_storage, open_study
from sweeps.execution.trial import Place
from tests.integration.harness.mirror import history, log_of, updates
from tests.integration.sweeps.tiny_sweep import MEDIAN, sampled, study_at, write


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A study of four trials, run by the command, tracked offline."""
    home = tmp_path_factory.mktemp("finished")
    content = sampled(world, tracking={"mode": "offline"})
    file = write(home / "tiny.yaml", content)
    study = run.run([str(file), f"runs={home}"])
    return home, file, study


def test_the_study_s_run_tells_all(finished):
    home, _, study = finished
    folder = RunFolder(home / "sweeps/tiny/study")
    (table,) = [row for row in folder.rows() if row.get("event") == "table"]
    columns, rows = trials_table(study)
    assert (table["columns"], table["rows"]) == (columns, json.loads(json.dumps(rows)))
    assert folder.summary[f"study/best/{MEDIAN}"] == study.best_value
    assert folder.summary[f"study/best/{MEDIAN}/trial"] == study.best_trial.number
    assert folder.summary["study/answer"] == " ".join(show_answers(study))
    page = (folder.path / "report.html").read_text()
    assert study.user_attrs["definition"]["question"] in page
    assert page.count("<img") == len(list((folder.path / "figures").glob("*.png")))


def test_w_and_b_has_a_run_of_the_study_and_one_of_each_trial(finished):
    home, _, study = finished
    about = json.loads((home / "sweeps/tiny/study/tracking.json").read_text())
    assert (about["id"], about["group"], about["job_type"]) == ("tiny-study", "tiny", "study")
    for trial in study.trials:
        folder = RunFolder(home / f"sweeps/tiny/{trial.number:04d}")
        about = json.loads((folder.path / "tracking.json").read_text())
        assert about["id"] == f"tiny-{trial.number:04d}"
        assert (about["group"], about["job_type"]) == ("tiny", "trial")
        kinds = {json.loads(p.read_text())["job_type"] for p in folder.path.rglob("tracking.json")}
        assert kinds == {"trial", "sample", "evaluate"}
    log = log_of(RunFolder(home / "sweeps/tiny/0000"), "tiny-0000")
    summary = updates(log, "summary")
    assert summary["optuna/state"] == "complete"
    assert summary[MEDIAN] == study.trials[0].value
    bins = {k: v for row in history(log) for k, v in row.items() if "gen_relaxed/energy_bins" in k}
    assert sum(bins.values()) == len(study.trials[0].user_attrs["energies"]["gen_relaxed"])


def test_what_has_been_said_is_not_said_again(finished):
    home, file, study = finished
    before = {p: p.stat().st_mtime_ns for p in (home / "sweeps/tiny").rglob("*") if p.is_file()}
    publish(study, Place(home, 1), Tracking(**TRACKING))
    run.run([str(file), f"runs={home}"])
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_text_names_every_trial(finished):
    told = show(finished[2]).splitlines()
    for trial in finished[2].trials:
        assert f"{trial.value:.4g}" in told[trial.number]
    assert told[len(finished[2].trials) :] == show_answers(finished[2])


def test_documents_are_filled_from_the_record(finished, tmp_path):
    home, _, study = finished
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- answers -->\nold\n<!-- /answers -->\nafter\n")
    report.publish(study, home, tmp_path / "docs")
    record = json.loads((tmp_path / "docs/tiny.json").read_text())
    assert [t["metrics"][MEDIAN] for t in record["trials"]] == pytest.approx(
        [t.value for t in study.trials], abs=1e-4
    )
    assert (tmp_path / "docs/tiny.png").stat().st_size > 10_000
    report.refill(readme, tmp_path / "docs")
    text = readme.read_text()
    assert text.startswith("before\n<!-- answers -->\n### tiny: Does it?")
    assert "old" not in text
    assert text.endswith("<!-- /answers -->\nafter\n")
    assert all(answer in text for answer in show_answers(study))


def test_an_unfinished_study_is_not_published(sqlite, tmp_path):
    sweep = Sweep.model_validate({"name": "tiny", **sampled_nothing(), "tracking": TRACKING})
    study = open_study(sweep, open_storage(sqlite))
    with pytest.raises(ValueError, match="study tiny is not finished: 4 trials wait and 0 run"):
        report.record(study, tmp_path)
    assert show(study_at(sqlite)) == "No trial is complete: 4 waiting."


def sampled_nothing():
    """A sweep that is never run."""
    return {
        "question": "?", "hypothesis": "?", "reading": "?", "cost": "?",
        "stages": {"sample": []},
        "space": {"sample.sampler.steps": {"choices": [2, 3, 4, 5]}},
        "objectives": {MEDIAN: "minimize"},
        "sampler": {"_target_": "optuna.samplers.GridSampler"},
    }  # fmt: skip
