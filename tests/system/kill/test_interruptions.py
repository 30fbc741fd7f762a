"""Some disturbances of each kind; `make faults` tries many more (`tests.system.kill.trial`)."""

import numpy as np
import pytest

from tests.system.kill.commands import PROCESSES, make_commands
from tests.system.kill.trial import attempt, undisturbed_run

CASES = {
    "train": ("SIGTERM", "folder moved"),
    "sample": ("SIGKILL", "second command"),
    "generate_data": ("SIGTERM, then SIGKILL", "disk full"),
}


@pytest.fixture(scope="module")
def commands(world, tmp_path_factory):
    assert PROCESSES.get_start_method() == "forkserver"
    home = tmp_path_factory.mktemp("commands")
    return {command.name: command for command in make_commands(world, home)}


@pytest.mark.parametrize("name", CASES)
def test_a_disturbed_command_ends_as_an_undisturbed_one(name, commands, tmp_path):
    undisturbed = undisturbed_run(commands[name], tmp_path)
    met = []
    for fault in CASES[name]:
        rng = np.random.default_rng([*map(ord, fault)])
        tries = attempt(commands[name], fault, undisturbed, tmp_path / str(len(met)), rng, 1)
        assert [wrong for _, wrong in tries] == [""], fault
        met += [at_work for at_work, _ in tries]
    assert any(met), "every command was over before"
