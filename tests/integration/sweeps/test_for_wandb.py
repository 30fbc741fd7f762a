"""W&B's own sweeps hold the same spaces, and what their agents would call runs a trial."""

import shutil
import subprocess
import sys

import pytest
import yaml

from sweeps.definition import for_wandb
from sweeps.definition.reader import load
from sweeps.execution.trial import by_hand
from tests.integration.sweeps.tiny_sweep import sampled, summaries, trained, write
from tests.tiny import ROOT

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_files_are_those_of_the_sweeps(file):
    """`surfdiff sweep agents` was called after the last change."""
    assert (ROOT / "sweeps/agents" / file.name).read_text() == for_wandb.written(load(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_spaces_are_the_same(file):
    content = yaml.safe_load((ROOT / "sweeps/agents" / file.name).read_text())
    sweep = load(file)
    assert content["parameters"].keys() == sweep.space.keys()
    for name, knob in sweep.space.items():
        parameter = content["parameters"][name]
        if knob.choices is not None:
            assert parameter == {"values": knob.choices}
        else:
            assert (parameter["min"], parameter["max"]) == (knob.low, knob.high)
            assert ("log" in parameter["distribution"]) == knob.log
    assert content["run_cap"] == sweep.trials


def agent_command(file, content, values):
    """What `wandb agent` starts for one point."""
    words = {"${env}": ["/usr/bin/env"], "${interpreter}": [sys.executable],
             "${args_no_hyphens}": [f"{k}={v}" for k, v in values.items()]}  # fmt: skip
    command = [w for part in content["command"] for w in words.get(part, [part])]
    return [str(file) if part.startswith("sweeps/") else part for part in command]


def test_an_agent_s_command_runs_the_trial_as_the_agent_s_run(world, tmp_path, monkeypatch):
    file = write(tmp_path / "agent.yaml", sampled(world))
    content = for_wandb.wandb_sweep(load(file), "sweeps/agent.yaml")
    # An agent writes whole numbers of some distributions as 3.0.
    command = agent_command(file, content, {"sample.sampler.steps": "3.0"})
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    subprocess.run([*command, f"runs={tmp_path}"], cwd=ROOT, check=True, timeout=300)
    summary = next(iter((tmp_path / "sweeps/agent").glob("r1/summary.json"))).read_text()
    assert '"optuna/state": "complete"' in summary
    assert '"gen_relaxed/energy_median"' in summary
    assert '"id": "r1"' in (tmp_path / "sweeps/agent/r1/tracking.json").read_text()


def test_a_point_by_hand_is_repeatable(world, tmp_path):
    file = write(tmp_path / "hand.yaml", sampled(world))
    point = [str(file), "sample.sampler.steps=3"]
    first = by_hand([*point, f"runs={tmp_path}/a"])
    second = by_hand([*point, f"runs={tmp_path}/b"])
    assert first.energies == second.energies
    shutil.rmtree(tmp_path / "a/sweeps/hand/by_hand-steps_3/evaluate")
    assert by_hand([*point, f"runs={tmp_path}/a"]).energies == first.energies
    assert summaries(tmp_path / "a/sweeps/hand") == {}  # no trial of a study


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "sample.sampler.steps is missing: give every knob"),
        (["sample.sampler.step=3"], "sample.sampler.step is no knob of"),
        (["sample.sampler.steps=-3"], "sampler.steps"),
    ],
)
def test_bad_input(world, tmp_path, arguments, sentence):
    file = write(tmp_path / "bad.yaml", sampled(world))
    with pytest.raises(ValueError, match=sentence):
        by_hand([str(file), *arguments, f"runs={tmp_path}/runs"])
    assert not (tmp_path / "runs").exists()


def test_a_training_can_be_a_point_too(tmp_path):
    file = write(tmp_path / "point.yaml", trained())
    result = by_hand([str(file), "score.train.learning_rate=0.002", f"runs={tmp_path}"])
    assert result.summary["score/loss"] > 0
