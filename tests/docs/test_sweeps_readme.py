"""The commands, the table and the results in sweeps/README.md are so."""

import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sweeps import commands, subcommands
from sweeps.analysis import results
from sweeps.definition.reader import load
from sweeps.definition.sweep import Sweep
from sweeps.execution.run import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "sweeps/README.md").read_text(encoding="utf-8")
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.S)
LINES = [line for block in BLOCKS for line in block.splitlines()]
COMMANDS = sorted({*LINES, *re.findall(r"`(surfdiff sweep [^`]+\.yaml[^`]*)`", README)})


def test_every_sweep_is_in_the_table_with_its_trials_and_objectives():
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(\1\.yaml\) \| (.*) \|$", README, re.M))
    assert rows.keys() == {file.stem for file in FILES}
    for file in FILES:
        sweep, row = load(file), rows[file.stem]
        assert re.search(rf"\b{sweep.trials}\b", row), row
        assert ("on a grid" in row) == sweep.is_grid, row
        assert row.count(",") >= len(sweep.objectives) - 1, row


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_can_be_read(command):
    words = [word for word in shlex.split(command)[2:] if word != "..."]
    name = words.pop(0) if words[0] in subcommands.COMMANDS else "run"
    if name == "launch":
        words = subcommands.parse_jobs(words)[1]
    if name == "trial":
        parameters = {word.partition("=")[0] for word in words[1:]}
        assert parameters == load(ROOT / words[0]).space.keys()
    else:
        file, _, overrides = subcommands.parse(words)
        assert load(ROOT / file, overrides).question


def test_the_help_lists_all_settings():
    for name in (*Settings.model_fields, *subcommands.Jobs.model_fields, *subcommands.COMMANDS):
        assert name == "more" or f"{name}=" in commands.__doc__ or f" {name} " in commands.__doc__


def test_the_example_is_a_sweep():
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    content = OmegaConf.to_container(OmegaConf.create(block))
    texts = dict.fromkeys(("claim", "reading", "cost"), "...")
    sweep = Sweep.model_validate({"name": "x"} | content | texts)
    assert sweep.trials == 20
    assert sweep.distributions.keys() == sweep.space.keys()
    sweep.make_sampler(0)
    sweep.make_pruner()


def test_results_are_computed_from_the_published_trials():
    files = sorted((ROOT / "sweeps/results").glob("*.json"))
    assert {path.stem for path in files} >= {"eta", "steps", "beta_range", "repeats"}
    for path in files:
        trials = results.load_record(path)
        assert results.section(trials) in README
        now = load(ROOT / f"sweeps/{path.stem}.yaml").comparable()
        assert {key: trials.definition.get(key, {}) for key in now} == now
        assert len(trials.trials) >= 8
