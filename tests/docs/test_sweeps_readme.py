"""What sweeps/README.md says is so: its commands, its table, its answers."""

import json
import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sweeps.analysis import report
from sweeps.definition.reader import load
from sweeps.definition.sweep import Sweep
from sweeps.execution import launch, run

ROOT = Path(__file__).parents[2]
README = (ROOT / "sweeps/README.md").read_text(encoding="utf-8")
FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.S)
LINES = [line for block in BLOCKS for line in block.splitlines()]
MAIN = (ROOT / "README.md").read_text(encoding="utf-8")
LINES += re.findall(r"^python -m sweeps\..*", MAIN, re.M)
COMMANDS = sorted({*LINES, *re.findall(r"`(python -m [^`]+)`", README + MAIN)})


def test_every_sweep_is_in_the_table_with_its_trials_and_objectives():
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(\1\.yaml\) \| (.*) \|$", README, re.M))
    assert rows.keys() == {file.stem for file in FILES}
    for file in FILES:
        sweep, row = load(file), rows[file.stem]
        assert re.search(rf"\b{sweep.trials}\b", row), row
        assert ("on a grid" in row) == sweep.is_grid, row
        assert row.count(",") >= len(sweep.objectives) - 1, row


@pytest.mark.parametrize("command", [c for c in COMMANDS if " sweeps." in c])
def test_commands_can_be_read(command):
    words = shlex.split(command)
    module, arguments = words[2], [a for a in words[3:] if a != "..."]
    if module == "sweeps.execution.launch":
        arguments = launch.parse(arguments)[1]
    if module in ("sweeps.execution.run", "sweeps.execution.launch", "sweeps.analysis.show"):
        file, _, overrides = run.parse(arguments)
        assert load(ROOT / file, overrides).question
    elif module == "sweeps.execution.trial":
        knobs = {a.partition("=")[0] for a in arguments[1:]}
        assert knobs == load(ROOT / arguments[0]).space.keys()
    else:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_settings_that_are_named_exist():
    for name in ("storage", "runs", "workers", "retry_failed", "heartbeat"):
        assert name in run.Settings.__dataclass_fields__
        assert f"{name}=" in run.__doc__


def test_the_example_is_a_sweep():
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    content = OmegaConf.to_container(OmegaConf.create(block))
    texts = dict.fromkeys(("hypothesis", "reading", "cost"), "...")
    tracking = {"mode": None, "project": "x", "entity": None, "group": None, "tags": [], "id": None}
    sweep = Sweep.model_validate({"name": "x", "tracking": tracking} | content | texts)
    assert sweep.trials == 20
    sweep.distributions()
    sweep.make_sampler(0)
    sweep.make_pruner()


def test_answers_are_those_of_the_records():
    records = sorted((ROOT / "docs/sweeps").glob("*.json"))
    assert {path.stem for path in records} >= {"eta", "steps", "beta_range", "repeats"}
    for path in records:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert report.section(record) in README
        now = load(ROOT / f"sweeps/{path.stem}.yaml").comparable()
        assert {key: record["definition"].get(key, {}) for key in now} == now
        assert len(record["trials"]) >= 8
