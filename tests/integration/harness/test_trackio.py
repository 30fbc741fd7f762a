"""Trackio shows what the folder holds: real runs on this machine, read back by its own program."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.harness.config.compose import load
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.artifacts import of_dataset, of_model
from experiments.harness.tracking.run_id import identity
from experiments.harness.tracking.tracker import Tracker
from tests.tiny import SAMPLE, TRAIN, run


@pytest.fixture(scope="module", autouse=True)
def trackio(tmp_path_factory):
    """Trackio in a folder of its own, which it takes from the environment when it is imported."""
    home = tmp_path_factory.mktemp("trackio")
    assert "trackio" not in sys.modules
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(home))
        import trackio

        assert home == trackio.TRACKIO_DIR
        yield trackio


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "runs/train/first")
    folder.save_config({"seed": 1, "model": {"features": 64}})
    return folder


def query(project: str, *arguments: str) -> dict:
    """What Trackio's program reports of a project."""
    program = Path(sys.executable).with_name("trackio")
    command = [program, *arguments, "--project", project, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def curve(project: str, name: str, metric: str) -> dict[int, float]:
    values = query(project, "get", "metric", "--run", name, "--metric", metric)["values"]
    return {one["step"]: one["value"] for one in values}


def test_a_run_reads_back_and_is_continued(folder, capsys):
    for part in range(2):
        with Tracker(folder, service="trackio", project="p1", group="g", tags=["quick"]) as tracker:
            for step in (2 * part, 2 * part + 1):
                tracker.log({"train/step": step, "train/loss": 1 / (1 + step)})
            tracker.summary({"gen/n": 5 + part, "gen/composition": "Ag6O3"})
    assert capsys.readouterr().out == ""
    name = identity(folder)["id"]
    assert query("p1", "list", "runs")["runs"] == [name]
    config = query("p1", "get", "run", "--run", name)["config"]
    assert (config["seed"], config["model"]) == (1, {"features": 64})
    assert (config["tags"], config["_Group"]) == (["quick"], "g")
    assert curve("p1", name, "train/loss") == {k: 1 / (1 + k) for k in range(4)}
    assert curve("p1", name, "gen/n") == {1: 5, 3: 6}
    assert curve("p1", name, "exit_code") == {1: 0, 3: 0}
    assert not (folder.path / "wandb").exists()


def test_a_run_within_another_leaves_it_running(folder):
    with Tracker(folder, service="trackio", project="p2") as outer:
        outer.log({"a": 1})
        with Tracker(RunFolder(folder / "train/score"), service="trackio", project="p2") as inner:
            inner.log({"a": 2})
        outer.log({"a": 3})
    stage = RunFolder(folder / "train/score")
    assert curve("p2", identity(folder)["id"], "a") == {0: 1, 1: 3}
    assert curve("p2", identity(stage)["id"], "a") == {0: 2}


def test_train_sample_and_evaluate_of_a_pipeline(world, tmp_path):
    """Every row of the three runs is there, with pictures, table and page, and they are linked."""
    from trackio.sqlite_storage import SQLiteStorage

    track = ["tracking=trackio", "tracking.project=p3", f"output={tmp_path}"]
    plain = [x for x in TRAIN if not x.startswith("tracking")]
    run("train", *plain, *track, "task=score", f"data.path={world.minima}", "train.steps=4")
    drawn = [x for x in SAMPLE if not x.startswith("tracking")]
    run("sample", *drawn, *track, f"score={tmp_path}/train/score", "guide=none",
        "composition=Ag2O", "template.slab=ag111_p3x3")  # fmt: skip
    run("evaluate", *track, f"sample={tmp_path}/sample/Ag2O", "calculator=emt", "executor=threads",
        f"reference={world.reference}")  # fmt: skip
    places = [tmp_path / place for place in ("train/score", "sample/Ag2O", "evaluate/Ag2O")]
    folders = [RunFolder(place) for place in places]
    names = [identity(one)["id"] for one in folders]
    assert sorted(query("p3", "list", "runs")["runs"]) == sorted(names)
    for one, name in zip(folders, names, strict=True):
        found = query("p3", "get", "run", "--run", name)
        assert found["config"]["_Group"] == "score"
        assert curve("p3", name, "_row") == {k: k for k in range(len(one.rows()))}
    assert {"tables/structures", "pages/report", "figures/energies", "gen_relaxed/energy_median",
            "gen_relaxed/energy_histogram"} <= set(found["metrics"])  # fmt: skip
    kinds = {one["name"]: one["type"] for one in query("p3", "list", "artifacts")["artifacts"]}
    assert kinds[f"{names[0]}-model"] == "model"
    generated = f"{names[1]}-generated"
    assert kinds[generated] == "structures"
    (used,) = [row for row in folders[2].rows() if row["event"] == "uses"]
    assert used["name"] == generated
    version = query("p3", "get", "artifact", "--name", generated)
    assert version["producer_run_name"] == names[1]
    (consumer,) = SQLiteStorage.get_artifact_consumers("p3", version["version_id"])
    assert consumer["run_name"] == names[2]


def test_what_cannot_be_is_refused(folder, monkeypatch, trackio):
    with pytest.raises(ValueError, match="TRACKIO_SERVER_URL"):
        Tracker(folder, service="trackio", mode="online")
    with Tracker(folder, service="trackio", mode="disabled", project="p4") as tracker:
        tracker.log({"a": 1})
    with pytest.raises(ValueError, match="'p4' does not exist"):
        trackio.Api().runs("p4")
    monkeypatch.setattr("experiments.harness.tracking.trackio_mirror.find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install"):
        Tracker(folder, service="trackio")
    with pytest.raises(ValueError, match="tracking.service"):
        load("train", ["tracking.service=neptune"])


def test_shipped_data_are_named_and_files_linked(folder):
    (folder.path / "model.pt").write_bytes(b"weights")
    with Tracker(folder, service="trackio", project="p5") as tracker:
        tracker.artifact(of_dataset("rss_c2x8", "3f9a"), uses=True)
        tracker.artifact(of_model(folder.path, "score"))
    (made,) = query("p5", "list", "artifacts")["artifacts"]
    assert made["name"] == f"{identity(folder)['id']}-model"
    assert "latest" in made["aliases"]
