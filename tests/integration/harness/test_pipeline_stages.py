"""Commands as stages: how they are wired, checked, timed and watched."""

import contextlib
import json
import multiprocessing
import operator
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from experiments.harness.execution.signals import SOON, Stopped, sigterm_exits
from experiments.harness.pipeline import stages as pipeline
from experiments.harness.pipeline.promised import promised
from experiments.harness.runs.metrics import REPORTED
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.wandb_mirror import inspect
from experiments.harness.training.checkpoint import load
from tests.tiny import GUIDED, PATIENCE, SAMPLE, SEARCH, TRAIN, start, wait_for

TRAINING = [*TRAIN, "train.steps=12"]
ALL = {
    "evaluate": SEARCH,
    "sample": [*GUIDED, "composition=Ag2O"],
    "score": TRAINING,
    "forcefield": TRAINING,
}


def on(world, stages):
    """The same with small data to learn from."""
    data = [f"data.path={world.minima}", f"data.frames={world.frames}"]
    return {name: [*own, *data * (name in pipeline.NETWORKS)] for name, own in stages.items()}


def plan(stages, home=Path("runs/x"), **more):
    return {s.name: s for s in pipeline.plan(stages, home, **more)}


def test_stages_come_in_order_and_find_what_those_before_left():
    planned = plan(ALL, cores=3, common=["seed=5"])
    assert list(planned) == ["forcefield", "score", "sample", "evaluate"]
    sample, evaluate = planned["sample"].config, planned["evaluate"].config
    assert sample.forcefield == str(planned["forcefield"].folder) == "runs/x/train/forcefield"
    assert sample.score == str(planned["score"].folder) == "runs/x/train/score"
    assert evaluate.sample == str(planned["sample"].folder) == "runs/x/sample/Ag2O"
    assert str(planned["evaluate"].folder) == "runs/x/evaluate/Ag2O"
    assert [s.config.task.kind for s in list(planned.values())[:2]] == ["forcefield", "score"]
    for stage in planned.values():
        assert stage.config.seed == 5
        assert stage.config.output == "runs/x"
    assert evaluate.executor.max_workers == 3


def test_a_stage_comes_after_those_that_it_names():
    stages = {
        "forcefield_more": ["data.path={home}/label/far", "data.minus={home}/label/one"],
        "label_after": ["calculator=corrected", "calculator.path={home}/train/forcefield_more"],
        "label_far": ["structures=a.xyz"], "label_farther": ["structures=a.xyz"],
        "label_one": ["structures=a.xyz"], "score": [],
    }  # fmt: skip
    assert list(plan(stages)) == [
        "label_far", "label_one", "forcefield_more", "score", "label_after", "label_farther",
    ]  # fmt: skip


def test_a_ranking_is_of_all_labels_or_of_those_it_names():
    stages = {
        "label_one": ["structures=a.xyz"], "label_two": ["structures=a.xyz"], "rank": [],
        "rank_some": ["labels={mine: {home}/label/two}", "reference=mine"],
    }  # fmt: skip
    planned = plan(stages)
    assert planned["rank"].config.labels == {
        "one": "runs/x/label/one", "two": "runs/x/label/two"
    }  # fmt: skip
    assert planned["rank_some"].config.labels == {"mine": "runs/x/label/two"}


@pytest.mark.parametrize(
    ("wanted", "cores", "threads", "at_once"),
    [
        (pipeline.NETWORKS, 2, [1, 1], True),
        (pipeline.NETWORKS, 5, [2, 2], True),
        (pipeline.NETWORKS, 1, [1, 1], False),
        (pipeline.NETWORKS, None, [None, None], False),
        (("score",), 4, [4], False),
    ],
)
def test_two_trainings_share_the_cores(wanted, cores, threads, at_once):
    planned = plan({**dict.fromkeys(wanted, []), "sample": []}, cores=cores)
    assert [planned[name].config.threads for name in wanted] == threads
    turns = [planned[name].turn for name in (*wanted, "sample")]
    assert turns == ([0, 0, 1] if at_once else list(range(len(turns))))
    assert planned["sample"].config.threads == cores


def test_a_stage_s_own_overrides_are_the_last_word():
    planned = plan({"score": ["threads=2", "seed=7"]}, cores=1, common=["seed=5"])
    assert (planned["score"].config.threads, planned["score"].config.seed) == (2, 7)


def test_models_stand_in_for_stages():
    models = {"score": "there/score", "forcefield": "there/forcefield"}
    sample = plan({"sample": []}, models=models)["sample"].config
    assert (sample.score, sample.forcefield) == ("there/score", "there/forcefield")
    unguided = plan({"sample": ["guide=none"]}, models=models)["sample"].config
    assert (unguided.score, unguided.forcefield) == ("there/score", None)
    trained = plan({"sample": [], "score": []}, models=models)["sample"].config
    assert (trained.score, trained.forcefield) == ("runs/x/train/score", "there/forcefield")


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({"dream": []}, "there is no stage 'dream': a stage is KIND or KIND_LABEL"),
        ({"score": ["train.steps=0"]}, "train.steps: .*greater than or equal to 1, got 0"),
        ({"score": ["train.stepz=1"]}, "there is no config key or group .*train.stepz"),
        ({"score": [], "sample": ["n=many"]}, "n: .*valid integer"),
    ],
)
def test_a_plan_is_checked_before_any_stage_begins(stages, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        plan(stages, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """Every stage, with what it reported on its way."""
    home = tmp_path_factory.mktemp("pipeline")
    stages, folder = list(plan(on(world, ALL), home).values()), RunFolder(home)
    rows = []
    result = pipeline.run(stages, folder, lambda stage, row: rows.append((stage, dict(row))))
    return stages, folder, rows, result


def test_a_pipeline_s_summary_is_that_of_its_stages(finished):
    stages, folder, _, result = finished
    assert folder.summary == result
    own = {s.name: RunFolder(s.folder).summary for s in stages}
    assert result["score/loss"] == own["score"]["val/loss"]
    assert result["forcefield/loss"] == own["forcefield"]["val/loss"]
    for key in ("forcefield/energy_mae", "forcefield/force_mae"):
        assert result[key] == own["forcefield"][key]
    for stage in ("sample", "evaluate"):
        for key, value in own[stage].items():
            assert result[key] == value
    parts = [result[f"seconds/{s.name}"] for s in stages]
    assert all(part > 0 for part in parts)
    assert result["seconds/all"] == pytest.approx(sum(parts), abs=0.21)  # tenths, rounded


def test_promised_metrics_are_those_that_stages_report(finished):
    """The names in `runs.metrics`, neither too many nor too few; this surface has no random
    search to compare with."""
    stages, _, rows, result = finished
    compared = {"gen/hit_rate", "gen/frac_below_reference"}
    named = promised(stages, referenced=True)
    absent = {name for name in named if name.startswith("rss/")} | compared
    numbers = {key for key, value in result.items() if not isinstance(value, str)}
    assert numbers == named - absent
    assert promised(stages) < numbers
    for stage, names in REPORTED.items():
        logged = {k for s, row in rows if s == stage and "event" not in row for k in row}
        assert logged == names


def test_an_observer_sees_every_row_of_every_stage(finished):
    stages, _, rows, _ = finished
    for stage in stages:
        assert [row for s, row in rows if s == stage.name] == RunFolder(stage.folder).rows()


def test_a_repeated_pipeline_has_nothing_to_do_but_to_add_its_seconds(finished):
    stages, folder, _, result = finished
    rows = []
    before = [RunFolder(s.folder).rows() for s in stages[:2]]
    again = pipeline.run(stages, folder, lambda stage, row: rows.append((stage, row)))
    for stage, rows_before in zip(stages, before, strict=False):
        assert RunFolder(stage.folder).rows()[: len(rows_before)] == rows_before
    assert not [row for _, row in rows if "train/step" in row]
    assert not [row for _, row in rows if row.get("event") in ("batch", "relaxed")]
    same = {k for k in result if not k.startswith("seconds/")}
    assert {k: again[k] for k in same} == {k: result[k] for k in same}
    for stage in stages:
        assert again[f"seconds/{stage.name}"] >= result[f"seconds/{stage.name}"]


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_signal_that_meets_a_finaliser_ends_the_run_all_the_same(times):
    """Python swallows exceptions there; nothing reports this one."""

    class Finalised:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)  # here the handler runs

    def work():
        with sigterm_exits():
            for _ in range(times):
                Finalised()
            if not times:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    outside: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: outside.append(number))
    try:
        with pytest.raises(SystemExit) as ended:
            work()
        time.sleep(3 * SOON)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 128 + signal.SIGTERM
    assert not outside


def test_an_observer_may_end_a_stage_and_what_it_took_is_kept(world, tmp_path):
    wanted = on(world, {"score": TRAINING, "sample": SAMPLE})
    stages = list(plan(wanted, tmp_path).values())
    folder = RunFolder(tmp_path)

    def stop(stage, row):
        if row.get("train/step") == 5:
            raise Stopped("enough")

    with pytest.raises(Stopped, match="enough"):
        pipeline.run(stages, folder, stop)
    assert folder.summary["seconds/score"] > 0
    assert "score/loss" not in folder.summary
    rows = RunFolder(stages[0].folder).rows()
    assert [row["train/step"] for row in rows if "train/step" in row] == [1, 2, 3, 4, 5]
    reported = json.loads((stages[0].folder / "tracking.json").read_text())
    assert reported["exit_code"] == 0
    assert not stages[1].folder.exists()


def assert_same(stages, others):
    """The same weights, averages, optimiser and log, to the last bit."""
    for stage, other in zip(stages, others, strict=True):
        for file in ("model.pt", "checkpoints/last.pt"):
            assert_equal(load(stage.folder / file), load(other.folder / file))
        steps, expected = [
            {
                r["train/step"]: r["train/loss"]
                for r in RunFolder(s.folder).rows()
                if "train/step" in r
            }
            for s in (stage, other)
        ]
        assert steps == expected


def assert_equal(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"train/structures_per_second"}:
            assert_equal(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b)
    else:
        assert ours == theirs


def trainings(world, home, cores, *more):
    both = {name: [*TRAIN, *more] for name in pipeline.NETWORKS}
    return list(plan(on(world, both), home, cores=cores).values())


def test_two_trainings_at_once_are_those_one_after_the_other(world, finished, tmp_path):
    stages, folder, rows = trainings(world, tmp_path, 2, "train.steps=12"), RunFolder(tmp_path), []
    result = pipeline.run(stages, folder, lambda stage, row: rows.append((stage, row)))
    assert_same(stages, finished[0][:2])
    for stage in stages:
        assert [row for name, row in rows if name == stage.name] == RunFolder(stage.folder).rows()
    same = {k for k in result if not k.startswith("seconds/")}
    assert same == {
        "score/loss", "forcefield/loss", "forcefield/energy_mae", "forcefield/force_mae"
    }  # fmt: skip
    assert {k: result[k] for k in same} == {k: finished[3][k] for k in same}
    parts = [result[f"seconds/{stage.name}"] for stage in stages]
    assert min(parts) > 0
    assert max(parts) - 0.1 <= result["seconds/all"] < sum(parts)
    assert folder.summary == result
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("stopped", [True, False])
def test_the_first_of_two_trainings_that_fails_ends_the_other(world, tmp_path, stopped):
    """An observer ends one, or the system kills it, as when memory is short."""
    stages = trainings(world, tmp_path, 2, "train.steps=5000")
    at_work = set()

    def end_the_score(stage, row):
        if "train/step" in row:
            at_work.add(stage)
        if stage == "score" and len(at_work) == 2:
            if stopped:
                raise Stopped("enough")
            next(p for p in multiprocessing.active_children() if p.name == "score").kill()

    said = "enough" if stopped else "the process of score was killed by SIGKILL .* continues"
    with pytest.raises(Stopped if stopped else ValueError, match=said):
        pipeline.run(stages, RunFolder(tmp_path), end_the_score)
    assert not multiprocessing.active_children()
    codes = [json.loads((s.folder / "tracking.json").read_text())["exit_code"] for s in stages]
    assert codes == [128 + signal.SIGTERM, 0 if stopped else None]
    assert not (stages[0].folder / "model.pt").exists()
    assert RunFolder(tmp_path).summary["seconds/all"] > 0


@pytest.fixture
def small_quickstart(world):
    """The command's arguments, to train long enough to be ended thrice."""

    network = [o for o in TRAIN if not o.startswith(("threads", "tracking"))]
    both = on(world, dict.fromkeys(pipeline.NETWORKS, [*network, "train.steps=600"]))
    return [
        *(f"{name}.{override}" for name, own in both.items() for override in own),
        "score.data.max_energy=2.0",  # as other trainings, instead of the quickstart's own
        "sample.composition=Ag2O",
        "sample.n=2",
        "sample.sampler.steps=3",
        "evaluate.calculator=emt",
        "evaluate.executor=threads",
    ]


def steps_of(home):
    """That a kill would leave of the force field and of the score."""
    time.sleep(0.05)  # polling shall leave the cores to those who work
    files = [home / f"train/{name}/checkpoints/last.pt" for name in pipeline.NETWORKS]
    return [load(file)["step"] if file.is_file() else 0 for file in files]


def at_work(group):
    """How many processes of this group are."""
    found = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, its_group = file.read_text().rsplit(")")[-1].split()[:3]
            found += int(its_group) == group and state != "Z"
    return found


def test_two_trainings_survive_being_ended(world, small_quickstart, tmp_path):
    """Killed, interrupted and stopped in turn, the command goes on to the networks that it
    trains undisturbed and one after the other; and what W&B is shown is whole."""
    command = [*small_quickstart, f"output={tmp_path}/ended", "threads=2"]
    home, steps = tmp_path / "ended/quickstart/ag6o3", [0, 0]
    for number, code, said in [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGINT, 130, "quickstart: interrupted; the same command continues"),
        (signal.SIGTERM, 128 + signal.SIGTERM, ""),
    ]:
        process = start(
            "quickstart", *command, "tracking_mode=disabled", start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        wait_for(lambda s=steps: all(map(operator.gt, steps_of(home), s)), process)
        assert at_work(process.pid) >= 3
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        reported = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == code
        assert said in reported
        assert "Traceback" not in reported
        for _ in range(500):
            if not at_work(process.pid):
                break
            time.sleep(0.02)
        assert not at_work(process.pid)
        names = {
            line.split("] ")[0] for line in reported.splitlines() if not line.startswith("quick")
        }
        assert names == {"[1/4", "[2/4", "[forcefield", "[score"}
        steps = steps_of(home)
        assert all(0 < step < 600 for step in steps)
    steps = ["train.steps=600"]
    ended = trainings(world, home, 2, *steps, "tracking.mode=offline")
    summary = pipeline.run(ended, RunFolder(home))
    assert summary["seconds/all"] < summary["seconds/score"] + summary["seconds/forcefield"]
    alone = trainings(world, tmp_path / "alone", 1, *steps)
    pipeline.run(alone, RunFolder(tmp_path / "alone"))
    for stage, undisturbed in zip(ended, alone, strict=True):
        models = [load(s.folder / "model.pt")["state"] for s in (stage, undisturbed)]
        assert_equal(*models)
        (log,) = stage.folder.glob("wandb/offline-run-*/*.wandb")
        assert inspect(log)["exit_code"] == 0
        assert inspect(log)["summary"]["_row"] == len(RunFolder(stage.folder).rows()) - 1
