"""What every test needs, and what the tests of the entry points share, made once."""

import jaxtyping
import pytest
import torch

from experiments.harness.execution.logs import log_to_stderr

# These sizes are too small for two threads: waiting for each other costs more than it saves.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def programs_without_checks():
    """What torch compiles it takes without the checks of types that tests wrap functions in."""
    plain = torch.compile

    def compile(function, **options):
        program = plain(function, **options)

        def run(*given):
            jaxtyping.config.update("jaxtyping_disable", True)
            try:
                return program(*given)
            finally:
                jaxtyping.config.update("jaxtyping_disable", False)

        return run

    torch.compile = compile
    yield
    torch.compile = plain


@pytest.fixture(scope="session", autouse=True)
def logs_as_commands_have_them():
    log_to_stderr()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """See `tests.tiny.World`."""
    from tests.tiny import make_world

    return make_world(tmp_path_factory.mktemp("world") / "runs")
