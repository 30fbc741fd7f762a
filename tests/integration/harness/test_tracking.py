"""W&B shows what the folder holds: real offline runs, read back with W&B's own reader."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from experiments.harness.execution.signals import Stopped
from experiments.harness.figures.plots import energy_histogram
from experiments.harness.runs.energies import EDGES, bin_counts, energy_statistics
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.artifacts import link, of_dataset, of_model
from experiments.harness.tracking.run_id import group_of, identity, new_id
from experiments.harness.tracking.tracker import Tracker
from experiments.harness.tracking.wandb_media import as_media
from experiments.harness.tracking.wandb_variables import has_key
from tests.integration.harness.mirror import (
    history,
    log_of,
    logs,
    nobody_logged_in,  # noqa: F401  (a fixture of every test)
    records,
    updates,
)
from tests.tiny import PATIENCE

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "train" / "first")
    folder.save_config({"seed": 1, "model": {"features": 64}})
    return folder


def surface(energy: float):
    atoms = fcc111("Ag", (2, 2, 2), a=4.15, vacuum=6)
    atoms.set_constraint(FixAtoms(range(8)))
    add_adsorbate(atoms, "O", 1.3, (1.0, 1.0))
    atoms.info = {}
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((9, 3)))
    return atoms


def test_config_rows_summary_and_axes_arrive(folder):
    with Tracker(folder, group="study", tags=["quick"]) as tracker:
        for step in range(3):
            tracker.log({"train/step": step, "train/loss": 1 / (1 + step)})
        tracker.log({"train/step": 2, "val/loss": math.nan})
        tracker.summary({"gen/n": 5})
    (log,) = logs(folder)
    assert [item.get("train/loss") for item in history(log)] == [1.0, 0.5, 1 / 3, None]
    assert "val/loss" not in history(log)[3], "NaN is no point of a curve"
    assert updates(log, "config")["seed"] == 1
    assert updates(log, "summary")["gen/n"] == 5
    every = records(log)
    run = next(r["run"] for r in every if r["type"] == "run")
    assert run["run_id"].startswith("train-first-")
    assert run["run_group"] == "study"
    assert run["job_type"] == "train"
    assert run["display_name"] == "first"
    assert run["tags"] == ["quick"]
    axes = {r["metric"].get("name"): r["metric"].get("step_metric")
            for r in every if r["type"] == "metric"}  # fmt: skip
    assert axes["train/loss"] == "train/step"
    assert {k for k in updates(log, "summary") if k[0] != "_"} == {"gen/n"}, "results alone"
    assert every[-1]["exit"]["exit_code"] == 0
    assert folder.rows()[3] == {"train/step": 2, "val/loss": None}


def test_energies_arrive_three_ways(folder):
    energies = [0.0, 0.1, 0.12, 0.4, 1.3, 7.0, math.nan]
    with Tracker(folder) as tracker:
        reported = tracker.energies("gen", energies)
    (log,) = logs(folder)
    (item,) = history(log)
    assert reported["gen/energy_median"] == item["gen/energy_median"] == np.median(energies[:-1])
    assert item["gen/energy_histogram._type"] == "histogram"
    assert sum(item["gen/energy_histogram.values"]) == 5, "7 eV lies outside the fixed bins"
    assert item["gen/energy_bins/+0000meV"] == 3
    assert item["gen/energy_bins/above"] == 1
    assert item["gen/energy_chart_table.nrows"] == 6
    charts = json.dumps(updates(log, "config"))
    assert "wandb/histogram/v0" in charts


def test_a_table_of_mixed_types_arrives(folder):
    rows = [[0, "complete", 0.001, None], [1, "failed", math.nan, "out of memory"], [2, 7, None, 3]]
    with Tracker(folder) as tracker:
        tracker.table("trials", ["number", "state", "eta", "reason"], rows)
        tracker.table("none", ["number"], [])
        with pytest.raises(ValueError, match=r"table t has 2 columns, but a row of 1: \[1\]"):
            tracker.table("t", ["a", "b"], [[1]])
    (log,) = logs(folder)
    item, empty = history(log)
    shown = json.loads((log.parent / "files" / item["tables/trials.path"]).read_text())
    assert shown["columns"] == ["number", "state", "eta", "reason"]
    assert shown["data"] == [[*rows[0]], [1, "failed", None, "out of memory"], rows[2]]
    assert empty["tables/none.nrows"] == 0
    assert [row["event"] for row in folder.rows()] == ["table", "table"]
    assert folder.rows()[0]["rows"] == shown["data"]


def test_a_dot_in_a_name_is_no_nesting(folder):
    params = {"params": {"sample.guide.eta_dt": 0.001}}
    folder.save_config(folder.config | params, may_change=["params"])
    with Tracker(folder) as tracker:
        tracker.log({"a.b": 1})
        tracker.summary({"param/sample.guide.eta_dt": 0.001})
    (log,) = logs(folder)
    assert history(log)[0]["a_b"] == 1
    assert updates(log, "summary")["param/sample_guide_eta_dt"] == 0.001
    assert updates(log, "config")["params"] == {"sample.guide.eta_dt": 0.001}
    assert folder.summary == {"param/sample.guide.eta_dt": 0.001}


def test_an_observer_sees_what_is_recorded_and_may_stop_the_run(folder):
    """As a sweep prunes: the row is kept, the run has ended well."""
    folder.log({"train/step": 0})
    seen = []

    def observe(row):
        assert folder.rows()[-1] == row
        seen.append(row)
        if row.get("val/loss") == 2.0:
            raise Stopped("worse than the others")

    def training():
        with Tracker(folder, observe=observe) as tracker:
            for step, loss in enumerate([math.nan, 2.0, 1.0], start=1):
                tracker.log({"train/step": step, "val/loss": loss})

    with pytest.raises(Stopped):
        training()
    assert seen == [{"train/step": 1, "val/loss": None}, {"train/step": 2, "val/loss": 2.0}]
    (log,) = logs(folder)
    assert [item["train/step"] for item in history(log)] == [0, 1, 2]
    assert records(log)[-1]["exit"]["exit_code"] == 0
    assert identity(folder)["exit_code"] == 0


def test_only_nan_energies_are_no_failure(folder, capsys):
    with Tracker(folder) as tracker:
        tracker.energies("gen", [math.nan, math.inf])
        tracker.energies("gen", [])
        tracker.log({"after": 1})
    assert history(logs(folder)[0])[-1]["after"] == 1
    assert capsys.readouterr().err == ""


def test_structures_arrive_as_picture_molecule_and_artifact(folder):
    broken = surface(9.0)
    broken.positions[-1] = math.nan
    with Tracker(folder) as tracker:
        tracker.structures("gen", [surface(-1.0), broken, surface(0.5)], ["best", "broken"])
        tracker.figure("energies", energy_histogram({"RSS": [0.0, 1.0]}))
    (log,) = logs(folder)
    shown, figure = history(log)
    assert shown["gen/molecules.captions"] == ["best"], "a molecule needs finite positions"
    assert shown["gen/structures._type"] == "image-file"
    assert figure["figures/energies._type"] == "image-file"
    files = log.parent / "files"
    for item, key in ((shown, "gen/structures.path"), (figure, "figures/energies.path")):
        assert (files / item[key]).read_bytes().startswith(b"\x89PNG")
    molecule = (files / shown["gen/molecules.filenames"][0]).read_text()
    assert molecule.count("ATOM") == 9 * 4, "two by two cells"
    artifact = next(r["artifact"] for r in records(log) if r["type"] == "artifact")
    assert (artifact["name"], artifact["type"]) == (f"{identity(folder)['id']}-gen", "structures")
    assert artifact["manifest"]["contents"][0]["path"] == "gen.extxyz"
    assert len(folder.structures("gen")) == 3
    for name in ("gen_structures.png", "gen_structures.svg", "energies.png", "energies.svg"):
        assert (folder.path / "figures" / name).stat().st_size > 1000
    assert folder.rows()[0]["picture"] == "figures/gen_structures.png"


def test_nothing_is_written_outside_the_folder(folder, tmp_path):
    def of_wandb():  # but where its own process listens, which it sets once
        return {n: v for n, v in os.environ.items() if n.startswith("WANDB") and "SERVICE" not in n}

    before = of_wandb()
    with Tracker(folder) as tracker:
        tracker.structures("gen", [surface(0.0)], ["best"])
        tracker.energies("gen", [0.0, 1.0])
        artifact = next((folder.path / "wandb" / "data").rglob("tmp*"))
    assert artifact.is_file()
    assert of_wandb() == before
    outside = [p for p in (tmp_path / "home").rglob("*") if p.is_file() and "wandb" in str(p)]
    assert outside == []


def test_a_repeated_command_continues_the_run(folder):
    """One log, with every row once, whatever an earlier one had lost."""
    with Tracker(folder) as tracker:
        tracker.log({"train/step": 0, "train/loss": 3.0})
        tracker.energies("gen", [0.0, 1.0])

    def failing():
        with Tracker(RunFolder(folder.path)) as tracker:
            tracker.log({"train/step": 1, "train/loss": 2.0})
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        failing()
    folder.log({"train/step": 2, "train/loss": 1.0})  # a row that W&B never saw
    with Tracker(RunFolder(folder.path)):
        pass
    (log,) = logs(folder)
    items = history(log)
    assert [item["_row"] for item in items] == [0, 1, 2, 3]
    assert [item.get("train/loss") for item in items] == [3.0, None, 2.0, 1.0]
    assert items[1]["gen/energy_mean"] == 0.5


def test_what_was_synced_is_not_sent_twice(folder):
    with Tracker(folder) as tracker:
        tracker.log({"train/step": 0})
        tracker.log({"train/step": 1})
    (first,) = logs(folder)
    Path(f"{first}.synced").touch()  # what `wandb sync` leaves
    with Tracker(RunFolder(folder.path)) as tracker:
        tracker.log({"train/step": 2})
    (second,) = set(logs(folder)) - {first}
    assert first.is_file()
    assert [item["_row"] for item in history(second)] == [2]


LONG_RUN = """
import sys, time
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.tracker import Tracker
with Tracker(RunFolder(sys.argv[1])) as tracker:
    for step in range(50):
        tracker.log({"train/step": step})
    print("logged", flush=True)
    time.sleep(60)
"""


def long_run(folder: RunFolder) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", LONG_RUN, str(folder.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout.readline() == "logged\n"
    return process


def test_two_processes_never_work_on_one_folder(folder):
    """The second is refused, whatever its mode; a kill frees the folder."""
    process = long_run(folder)
    assert identity(folder)["exit_code"] is None, "it runs"
    refused = subprocess.run(
        [sys.executable, "-c", LONG_RUN, str(folder.path)], cwd=ROOT, capture_output=True, text=True
    )
    assert f"Busy: another process works in {folder.path}" in refused.stderr
    with pytest.raises(ValueError, match="another process works in"):
        Tracker(folder, mode="disabled").__enter__()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    with Tracker(folder, mode="disabled"), pytest.raises(ValueError, match="another process"):
        Tracker(folder, mode="disabled").__enter__()
    assert len(folder.rows()) == 50
    with Tracker(folder, mode="disabled"):
        pass


def test_a_pipeline_and_its_stage_are_two_runs_at_once(folder):
    stage = RunFolder(folder / "train" / "score")
    with Tracker(folder, id="eta-0003", job_type="trial") as trial:
        trial.log({"a": 1})
        with Tracker(stage, id="eta-0003-score", job_type="train") as tracker:
            tracker.log({"b": 1})
            tracker.energies("gen", [0.0])
        trial.log({"a": 2})
    assert [item.get("a") for item in history(log_of(folder, "eta-0003"))] == [1, 2]
    shown = history(log_of(stage, "eta-0003-score"))
    assert shown[0]["b"] == 1
    assert shown[1]["gen/energy_bins/+0000meV"] == 1


def test_sigterm_closes_the_run_and_loses_nothing(folder):
    """As Slurm's time limit does it: the signal goes to every process of the group."""
    process = long_run(folder)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert errors == ""
    (log,) = logs(folder)
    assert [item["train/step"] for item in history(log)] == list(range(50))
    assert records(log)[-1]["exit"]["exit_code"] == 143


def test_sigkill_leaves_a_folder_that_rebuilds_the_mirror(folder):
    process = long_run(folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    with Tracker(RunFolder(folder.path)):
        pass
    (log,) = logs(folder)
    assert [item["train/step"] for item in history(log)] == list(range(50))


def test_wandb_failing_is_one_line_and_the_folder_goes_on(folder, capsys):
    with Tracker(folder) as tracker:
        tracker.log({"a": 1})
        tracker.mirror.run.finish()  # behind the tracker's back: every later call raises
        tracker.log({"a": 2})
        tracker.log({"a": 3})
        tracker.summary({"gen/n": 1})
    reported = capsys.readouterr().err
    assert reported.count("\n") == 1
    assert reported.startswith("W&B (offline) failed, the run continues")
    assert [row["a"] for row in folder.rows()] == [1, 2, 3]
    assert folder.summary == {"gen/n": 1}


def test_a_folder_that_wandb_cannot_write_to_is_no_failure(folder, capsys):
    (folder.path / "wandb").write_text("in the way")
    with Tracker(folder) as tracker:
        tracker.log({"a": 1})
    assert capsys.readouterr().err.count("\n") == 1
    assert folder.rows() == [{"a": 1}]


def test_online_without_network_falls_back_to_a_log(folder, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    code = "import experiments.harness.tracking.wandb_mirror as t; t.INIT_TIMEOUT = 1\n" + LONG_RUN
    done = subprocess.run(
        [sys.executable, "-c", code.replace("time.sleep(60)", "pass"), str(folder.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("logged\n", 0)
    assert done.stderr.count("W&B (online) failed, the run continues") == 1
    (log,) = [log for log in logs(folder) if log.parent.name.startswith("offline-")]
    assert len(history(log)) == 50


def test_disabled_keeps_the_folder_only(folder):
    with Tracker(folder, mode="disabled") as tracker:
        tracker.log({"a": 1})
        tracker.energies("gen", [1.0])
    assert len(folder.rows()) == 2
    assert not (folder.path / "wandb").exists()


def test_the_console_stays_quiet(folder):
    code = LONG_RUN.replace("time.sleep(60)", "pass")
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr, done.returncode) == ("logged\n", "", 0)


def test_modes_and_keys(folder, tmp_path, monkeypatch):
    assert not has_key()
    assert Tracker(folder).mode == "offline"
    with pytest.raises(ValueError, match="tracking.mode=onlin is not one of"):
        Tracker(folder, mode="onlin")
    with pytest.raises(ValueError, match="needs a W&B key"):
        Tracker(folder, mode="online")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine example.org login user password x\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert not has_key()
    netrc.write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    assert has_key()
    assert Tracker(folder).mode == "online"
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert has_key()


def test_an_id_is_read_by_people_and_belongs_to_one_folder(tmp_path):
    """Its place, below the output root alone, and an end that no other folder has."""

    def place_of(place: str, *runs: str) -> str:
        for run in runs:
            RunFolder(tmp_path / run).save_config({"seed": 0})
        ids = {new_id(RunFolder(tmp_path / place)) for _ in range(3)}
        assert len(ids) == 3
        (text,) = {re.fullmatch(r"(.*)-[0-9a-f]{8}", one)[1] for one in ids}
        return text

    assert place_of("runs/train/first") == place_of("elsewhere/deep/train/first") == "train-first"
    stages = ("train/score", "train/forcefield", "sample/Ag6O3", "evaluate/Ag6O3")
    for root in ("runs", "other"):
        found = [place_of(f"{root}/quickstart/mine/{s}", f"{root}/quickstart/mine") for s in stages]
        assert found == ["quickstart-mine-" + s.replace("/", "-") for s in stages]
    assert place_of("runs/sweeps/eta/0003/train/score", "runs/sweeps/eta/0003") == (
        "eta-0003-train-score"
    )
    assert place_of("train/a b/c") == "a-b-c"
    assert len(new_id(RunFolder(tmp_path / "train" / ("n" * 200)))) == 64


def test_a_folder_that_is_removed_and_made_again_is_another_run(folder):
    with Tracker(folder) as tracker:
        tracker.log({"a": 1})
    first = identity(folder)["id"]
    shutil.rmtree(folder.path)
    again = RunFolder(folder.path)
    again.save_config({"seed": 1})
    with Tracker(again) as tracker:
        tracker.log({"a": 2})
    assert identity(again)["id"] != first
    assert [item["a"] for item in history(log_of(again, identity(again)["id"]))] == [2]


def test_variables_of_wandb_win_over_defaults(folder, monkeypatch):
    wished = {
        "MODE": "offline", "PROJECT": "silver", "ENTITY": "surfaces-lab", "TAGS": "one, two",
        "NAME": "a name", "RUN_GROUP": "a group", "NOTES": "what I tried",
    }  # fmt: skip
    for name, value in wished.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)  # without a mode this would be online
    with Tracker(folder, tags=["mine", "two"]) as tracker:
        assert tracker.mode == "offline"
        tracker.log({"a": 1})
    (log,) = logs(folder)
    run = next(r["run"] for r in records(log) if r["type"] == "run")
    assert (run["project"], run["entity"], run["run_group"]) == (
        "silver", "surfaces-lab", "a group",
    )  # fmt: skip
    assert (run["display_name"], run["notes"]) == ("a name", "what I tried")
    assert run["tags"] == ["mine", "two", "one"]
    with Tracker(folder, mode="disabled", project="gold", group="other") as tracker:
        assert (tracker.about["project"], tracker.about["group"]) == ("gold", "other")
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ValueError, match="WANDB_MODE=sometimes"):
        Tracker(folder)


def test_what_was_run_and_by_which_code_arrives(folder):
    folder.save_config(folder.config, overrides=["seed=1", "model.features=64"])
    folder.save_environment()
    with Tracker(folder):
        pass
    (log,) = logs(folder)
    config = updates(log, "config")
    assert config["overrides"] == ["seed=1", "model.features=64"]
    assert config["environment"]["commit"] == folder.environment["commit"]
    assert config["environment"]["ase"]


def test_runs_that_build_on_each_other_share_a_group(tmp_path):
    """By hand: the samples are in the group of their model, the evaluation in that of its samples;
    within an experiment, all are in the experiment's."""
    train, sample, evaluate = (RunFolder(tmp_path / k) for k in ("t/score", "s/Ag6O3", "e/Ag6O3"))
    for run, follows in ((train, None), (sample, train.path), (evaluate, sample.path)):
        run.save_config({"seed": 0})
        with Tracker(run, mode="disabled", follows=follows):
            pass
        assert identity(run)["group"] == "score"
    stage = RunFolder(tmp_path / "mine/train/score")
    RunFolder(tmp_path / "mine").save_config({"seed": 0})
    assert group_of(stage, train.path) == "mine"


def test_a_page_and_pictures_in_a_table_arrive(folder):
    (folder / "report.html").write_text("<!doctype html><p>surfaces</p>")
    with Tracker(folder) as tracker:
        tracker.page("report", folder / "report.html")
        picture = {"picture": tracker.figure("energies", energy_histogram({"gen": [0.0, 1.0]}))}
        tracker.table("structures", ["picture", "formula"], [[picture, "Ag6O3"], [None, "AgO"]])
    (log,) = logs(folder)
    shown = {k: v for item in history(log) for k, v in item.items()}
    page = log.parent / "files" / shown["pages/report.path"]
    assert "<p>surfaces</p>" in page.read_text()
    (artifact,) = [r["artifact"] for r in records(log) if r["type"] == "artifact"]
    held = {one["path"]: Path(one["local_path"]) for one in artifact["manifest"]["contents"]}
    first, second = json.loads(held["tables/structures.table.json"].read_text())["data"]
    assert (first[1], second) == ("Ag6O3", [None, "AgO"])
    assert first[0]["path"] in held, "the picture goes with its table"


class Server:
    """Stands for an online run: W&B's service, which links artifacts, cannot run in a test."""

    offline = False

    def __init__(self):
        self.uploaded, self.used = [], []

    def log_artifact(self, artifact, aliases):
        self.uploaded.append((artifact.name, artifact.type, aliases))

    def use_artifact(self, artifact, type=None):
        self.used.append(artifact if isinstance(artifact, str) else artifact.name)


def test_what_one_run_made_is_what_another_one_used(tmp_path):
    import wandb

    train, sample = RunFolder(tmp_path / "train/score"), RunFolder(tmp_path / "sample/Ag6O3")
    for run in (train, sample):
        run.save_config({"seed": 0})
    (train.path / "model.pt").write_bytes(b"weights")
    mine = tmp_path / "mine.extxyz"
    mine.write_bytes(b"data")
    for _ in range(2):  # a continued run records each once
        with Tracker(train) as tracker:
            tracker.artifact(of_dataset("rss_c2x8", "3f9a"), uses=True)
            tracker.artifact(of_dataset(str(mine), "3f9a"), uses=True)
            tracker.artifact(of_model(train.path, "score"))
    with Tracker(sample) as tracker:
        tracker.artifact(of_model(train.path / "model.pt", "score"), uses=True)
        tracker.artifact(of_model("silver_oxide", "forcefield"), uses=True)
    servers = []
    for run in (train, sample):
        servers.append(Server())
        for row in run.rows():
            link(wandb, servers[-1], run, row)
    first, second = servers
    name = f"{identity(train)['id']}-model"
    content = hashlib.sha256(b"weights").hexdigest()[:12]
    assert first.uploaded == [(name, "model", ["latest", content])]
    assert first.used == ["rss_c2x8", "mine"], "nobody logs a user's file: its digest stands for it"
    assert second.used == [f"{name}:{content}", "silver_oxide-forcefield"]
    assert second.uploaded == []
    (log,) = logs(train)  # offline, what is made arrives, and what is used waits for sync
    (artifact,) = [r["artifact"] for r in records(log) if r["type"] == "artifact"]
    assert (artifact["name"], artifact["type"]) == (name, "model")


def test_no_row_uploads_a_file_of_elsewhere(folder, tmp_path):
    """A stranger's run folder, synced, must not send files of one's own."""
    import wandb

    (tmp_path / "key").write_text("mine")
    energy_histogram({"gen": [0.0]}).savefig(tmp_path / "mine.png")
    outside = {"picture": os.path.relpath(tmp_path / "mine.png", folder.path)}
    table = {"event": "table", "name": "t", "columns": ["a"], "rows": [[outside]]}
    shown = as_media(wandb, Server(), folder, table)["tables/t"]
    assert shown.data == [[None]]
    server = Server()
    uses = {"event": "uses", "type": "model", "name": "x", "version": "1", "file": "../../key"}
    link(wandb, server, folder, uses)
    assert (server.uploaded, server.used) == ([], ["x:1"])
    for event in ("uses", "makes", "page", "figure", "structures"):
        row = {"event": event, "type": "model", "name": "x", "file": "../../../key"}
        (folder.path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises(ValueError, match="leads out of the folder"):
            RunFolder(folder.path).rows()


def test_a_folder_keeps_its_run_for_good(folder, tmp_path):
    """Moved, renamed or given another id, and with the group it was last given."""
    with Tracker(folder, id="eta-0003", group="eta", job_type="trial", tags=["quick"]) as tracker:
        tracker.log({"a": 1})
    reported = json.loads((folder.path / "tracking.json").read_text())
    assert reported == {
        "id": "eta-0003", "project": "surfaces", "entity": None, "group": "eta",
        "job_type": "trial", "name": "first", "tags": ["quick"], "exit_code": 0,
    }  # fmt: skip
    moved = RunFolder(folder.path.rename(tmp_path / "moved"))
    with Tracker(moved, id="another", group="eta2") as tracker:
        tracker.log({"a": 2})
    assert [item["a"] for item in history(log_of(moved, "eta-0003"))] == [1, 2]
    assert (identity(moved)["id"], identity(moved)["group"]) == ("eta-0003", "eta2")
    with Tracker(RunFolder(tmp_path / "x"), id="a/b c", mode="disabled") as tracker:
        assert tracker.about["id"] == "a-b-c"


def test_statistics_and_bins_against_numpy():
    energies = np.random.default_rng(0).gamma(2.0, 0.6, size=200)
    reported = energy_statistics("gen", [*energies, math.nan, None])
    assert reported == {
        "gen/energy_mean": energies.mean(),
        "gen/energy_min": energies.min(),
        "gen/energy_p10": np.percentile(energies, 10),
        "gen/energy_median": np.median(energies),
        "gen/energy_p90": np.percentile(energies, 90),
        "gen/energy_std": energies.std(),
    }
    counts = bin_counts("gen", [*energies, math.nan])
    assert sum(counts.values()) == 200
    assert counts["gen/energy_bins/+0250meV"] == ((energies >= 0.25) & (energies < 0.5)).sum()
    assert counts["gen/energy_bins/above"] == (energies >= 5).sum()
    assert len(counts) == len(EDGES) + 1
    assert bin_counts("gen", [-0.6])["gen/energy_bins/below"] == 1
    assert all(math.isnan(value) for value in energy_statistics("gen", [math.nan]).values())
