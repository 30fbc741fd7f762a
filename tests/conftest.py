"""What every test needs, and what the tests of the commands share, made once."""

import os
import shutil
import socket
import sys
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages

import jaxtyping
import pytest
import torch
from filelock import FileLock

from experiments.harness.execution.logs import log_to_stderr
from tests.marks import marks
from tests.tiny import no_pictures, small_pictures

PACKAGES = ("sdedata", "painnx", "vpsde", "guidance")

# These sizes are too small for two threads: waiting for each other costs more than it saves.
torch.set_num_threads(1)

# Where it finds pytest, GPAW checks itself: numpy.empty is full of NaN and floating-point errors
# raise, for all libraries of the process, and matplotlib's subplots fail. Users meet none of that.
if find_spec("gpaw"):
    found = sys.modules.pop("pytest")
    import_module("gpaw")
    sys.modules["pytest"] = found

# Nobody is logged in, and nothing is reported, in this process and in those that it starts.
for variable in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
    del os.environ[variable]
os.environ["WANDB_ERROR_REPORTING"] = "false"


def _stay_on_this_machine(event, arguments):
    """Refuse connections to other machines."""
    if event == "socket.connect" and arguments[0].type == socket.SOCK_STREAM:
        address = arguments[1]
        if isinstance(address, tuple) and not _is_of_this_machine(address[0]):
            raise ConnectionRefusedError(f"a test connects to another machine: {address}")


@cache
def _is_of_this_machine(host):
    """Only an own address can be bound to: schedulers listen at the one that the host name has."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as own:
        try:
            own.bind((host, 0))
        except OSError:
            return False
    return True


sys.addaudithook(_stay_on_this_machine)


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in marks(item):
            item.add_marker(mark)


started: list[str] = []
"""What the test at work has started that needs a mark."""


def _watch(event, arguments):
    if event == "subprocess.Popen" and str(arguments[0]) == sys.executable:
        started.append("processes")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def marked(request):
    """Fail a test that starts Python or a compiler without its mark."""
    started.clear()
    yield
    if not any(map(request.node.get_closest_marker, ("notebook", "browser", "compile"))):
        missing = [mark for mark in started if not request.node.get_closest_marker(mark)]
        assert not missing, f"the test needs the mark {missing[0]}"


CHECKED = (
    "tests/unit/", "tests/integration/contracts/", "tests/integration/interface/",
    "tests/system/pipeline/test_pipeline.py",
)  # fmt: skip
"""Where shapes are checked at every call: in long runs that would take half of the time."""

for package in PACKAGES:  # what is imported while checks are off would never have them
    for module in walk_packages(import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


@contextmanager
def shapes_checked(wanted):
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", not wanted)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="module", autouse=True)
def shapes(request):
    with shapes_checked(request.node.nodeid.startswith(CHECKED)):
        yield


@pytest.fixture(scope="session", autouse=True)
def programs_without_checks():
    """What torch compiles it takes without the checks of types that tests wrap functions in."""
    plain = torch.compile

    def compile(function, **options):
        program = plain(function, **options)

        def run(*given):
            started.append("compile")
            with shapes_checked(False):
                return program(*given)

        return run

    torch.compile = compile
    yield
    torch.compile = plain


@pytest.fixture(scope="session", autouse=True)
def logs_as_commands_have_them():
    log_to_stderr()


PICTURES = ("test_plots", "test_page", "test_figures", "test_datasheet")
"""Modules whose tests look at pictures."""
DRAWN = (
    "test_compare", "test_evaluation_page", "test_label", "test_publish", "test_report",
    "test_pipeline", "test_tracking",
)  # fmt: skip
"""Modules that need pictures, of a few pixels; in all others they are blank."""


@pytest.fixture(scope="module", autouse=True)
def pictures(request):
    module = request.module.__name__.split(".")[-1]
    if module in PICTURES:
        yield
    else:
        with small_pictures() if module in DRAWN else no_pictures():
            yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A folder that `make(folder)` fills, once for all workers of a test run."""
    home = tmp_path_factory.getbasetemp()
    home = home.parent if "PYTEST_XDIST_WORKER" in os.environ else home

    def folder(name, make) -> Path:
        place, done = home / name, home / f"{name}.done"
        with FileLock(home / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                with small_pictures():
                    make(place)
                done.touch()
        return place

    return folder


@pytest.fixture(scope="session")
def world(made_once, tmp_path_factory):
    """See `tests.tiny.World`; each worker has a copy, to which tests may add runs."""
    from tests.tiny import World, make_world

    made = made_once("world", lambda folder: make_world(folder / "runs"))
    own = tmp_path_factory.mktemp("world") / "runs"
    shutil.copytree(made / "runs", own)
    return World(own)
