"""What every test needs, and what the tests of the entry points share, made once."""

import pytest
import torch

# These sizes are too small for two threads: waiting for each other costs more than it saves.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """See `tests.tiny.World`."""
    from tests.tiny import make_world

    return make_world(tmp_path_factory.mktemp("world") / "runs")
