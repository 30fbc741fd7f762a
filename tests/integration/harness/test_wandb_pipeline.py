"""Train, sample and evaluate by hand, offline, as W&B's own reader shows the three runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.run_id import identity
from experiments.harness.tracking.tracker import Tracker
from experiments.harness.training import curves
from tests.integration.harness.mirror import history, log_of, records, updates
from tests.tiny import SAMPLE, TRAIN, run

STAGES = ("train/score", "sample/Ag2O", "evaluate/Ag2O")


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory) -> list[RunFolder]:
    home = tmp_path_factory.mktemp("pipeline")
    track = ["tracking.mode=offline", f"output={home}"]
    train, sample = ([x for x in some if x not in ("tracking.mode=disabled", "threads=1")]
                     for some in (TRAIN, SAMPLE))  # fmt: skip
    run("train", *train, *track, f"data.path={world.minima}", "train.steps=4", "threads=1")
    run("sample", *sample, *track, f"score={home}/train/score", "guide=none", "threads=1",
        "composition=Ag2O", "template.slab=ag111_p3x3")  # fmt: skip
    run("evaluate", *track, f"sample={home}/sample/Ag2O", "calculator=emt", "executor=threads",
        f"reference={world.reference}")  # fmt: skip
    return [RunFolder(home / stage) for stage in STAGES]


def log(folder: RunFolder) -> Path:
    return log_of(folder, identity(folder)["id"])


def the_run(folder: RunFolder) -> dict:
    return next(r["run"] for r in records(log(folder)) if r["type"] == "run")


def artifacts(folder: RunFolder) -> dict[str, str]:
    every = [r["artifact"] for r in records(log(folder)) if r["type"] == "artifact"]
    return {one["name"]: one["type"] for one in every}


def test_they_are_one_group_of_three_kinds_with_ids_of_their_own(runs):
    found = [the_run(one) for one in runs]
    assert [one["job_type"] for one in found] == ["train", "sample", "evaluate"]
    assert {one["run_group"] for one in found} == {"score"}
    assert len({one["run_id"] for one in found}) == 3


def test_code_and_overrides_are_in_the_config(runs):
    for folder, override in zip(runs, ("train.steps=4", "composition=Ag2O", "calculator=emt"),
                                strict=True):  # fmt: skip
        config = updates(log(folder), "config")
        assert override in config["overrides"]
        assert config["environment"]["commit"] == folder.environment["commit"]


def test_the_summary_holds_results_alone(runs):
    for folder in runs:
        shown = {k for k in updates(log(folder), "summary") if k[0] != "_"}
        media = {k for k in shown if k.partition("/")[0] in ("figures", "tables", "pages")}
        results = {key.replace(".", "_") for key in folder.summary}
        drawn = ("/energy_histogram", "/energy_chart_table", "/structures", "/molecules")
        rest = {k for k in shown - media - results if not k.partition(".")[0].endswith(drawn)}
        assert not {k for k in rest if "energy_bins" not in k}


def test_each_run_names_what_it_used_and_what_it_made(runs):
    train, sample, evaluate = runs
    ids = [identity(one)["id"] for one in runs]
    assert artifacts(train)[f"{ids[0]}-model"] == "model"
    assert artifacts(sample)[f"{ids[1]}-generated"] == "structures"
    assert artifacts(evaluate)[f"{ids[2]}-relaxed"] == "structures"
    used = [[r["name"] for r in one.rows() if r.get("event") == "uses"] for one in runs]
    assert used[1:] == [[f"{ids[0]}-model"], [f"{ids[1]}-generated"]]
    assert used[0][0].endswith("minima")


def test_a_force_field_names_the_set_that_it_learned_from(world):
    folder = RunFolder(world.forcefield)
    (used,) = [row["name"] for row in folder.rows() if row.get("event") == "uses"]
    assert used == f"{identity(RunFolder(world.frames.parent))['id']}-frames"


def test_a_row_for_each_structure(runs):
    """Picture, formula, energy before and after, validity, surface, steps, seed."""
    evaluate = runs[2]
    shown = {k: v for item in history(log(evaluate)) for k, v in item.items()}
    table = json.loads(
        (log(evaluate).parent / "files" / shown["tables/structures.path"]).read_text()
    )
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    relaxed = {atoms.info["index"]: atoms for atoms in evaluate.structures("relaxed")}
    generated = runs[1].structures("generated")
    assert len(rows) == len(generated) == 4
    for row in rows:
        after = relaxed[row["index"]]
        assert row["formula"] == "Ag2O"
        assert row["energy"] == pytest.approx(after.get_potential_energy(), abs=1e-6)
        assert row["energy_before"] >= row["energy"]
        assert row["steps"] >= 1
        assert row["seed"] == 0
        assert isinstance(row["valid"], bool)
        assert isinstance(row["surface"], int)
    assert {row["picture"] for row in rows} == {"Image"}


def test_its_page_is_shown(runs):
    evaluate = runs[2]
    shown = {k: v for item in history(log(evaluate)) for k, v in item.items()}
    page = (log(evaluate).parent / "files" / shown["pages/report.path"]).read_text()
    assert page == (evaluate.path / "report.html").read_text()


def test_learning_curves_have_their_axis(runs):
    items = [i for i in history(log(runs[0])) if "train/loss" in i]
    assert [i["train/step"] for i in items] == [1, 2, 3, 4]
    axes = {r["metric"].get("name"): r["metric"].get("step_metric")
            for r in records(log(runs[0])) if r["type"] == "metric"}  # fmt: skip
    assert axes["train/loss"] == axes["val/loss"] == "train/step"


def test_a_trial_has_the_learning_curves_of_its_training(runs, tmp_path):
    """Each row once, however often the trial is continued."""
    trial = RunFolder(tmp_path / "sweeps/eta/0003")
    trial.save_config({"seed": 0})
    for _ in range(2):
        with Tracker(trial, mode="offline", axes=curves.axes("score")) as tracker:
            curves.log_curves("score", runs[0], tracker)
    expected = [(row["train/step"], row["val/loss"]) for row in runs[0].rows() if "val/loss" in row]
    shown = [(i["curves/score/step"], i["curves/score/loss"]) for i in history(log(trial))]
    np.testing.assert_allclose(shown, expected)
    axes = {r["metric"].get("name"): r["metric"].get("step_metric")
            for r in records(log(trial)) if r["type"] == "metric"}  # fmt: skip
    assert axes["curves/score/loss"] == "curves/score/step"
