"""A batch that does not fit into memory is halved, under a real limit."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.build import fcc111
from ase.constraints import FixAtoms
from ase.io import write

from experiments.harness.generation.sample import _halved
from experiments.harness.runs.run_folder import RunFolder
from tests.tiny import PATIENCE, ROOT, SAMPLE, run

CHILD = """
import json, resource, sys
from experiments.harness.config import compose
from experiments.harness.execution.logs import log_to_stderr
from experiments.harness.figures import spheres
from experiments.harness.generation import sample
from tests.tiny import run

log_to_stderr()
spheres.PIXELS = 4
common, more, room = json.loads(sys.argv[1])
run("sample", *common, "name=warm", "n=1")  # what is loaded once is loaded now
with open("/proc/self/statm") as file:
    limit = int(file.read().split()[0]) * resource.getpagesize() + room
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
run("sample", *common, *more)
"""
"""Sample with `room` bytes more of address space than one structure has needed."""


@pytest.fixture(scope="module")
def large(world, tmp_path_factory):
    """Overrides of a sampling in a cell of 500 atoms."""
    home = tmp_path_factory.mktemp("large")
    slab = fcc111("Ag", (16, 16, 2), a=4.15, vacuum=10.0, periodic=True)
    slab.set_constraint(FixAtoms(range(len(slab))))
    write(home / "slab.extxyz", slab)
    return [*SAMPLE, f"score={world.score}", "guide=none", "composition=Ag2O", "sampler.steps=2",
            f"template.slab={home}/slab.extxyz", f"output={home}"]  # fmt: skip


def test_a_batch_that_does_not_fit_is_halved(large, tmp_path):
    """Under a real limit of the address space; the structures are those of any batch."""
    more = ["name=limited", "n=160", "batch_size=160", f"output={tmp_path}"]
    given = json.dumps([large, more, 160 * 2**20])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, given], cwd=ROOT, capture_output=True, text=True,
        timeout=PATIENCE, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "out of memory: batch_size is 80 from here on (was 160)" in done.stderr
    folder = RunFolder(tmp_path / "sample/limited")
    sizes = [len(row["indices"]) for row in folder.rows() if row.get("event") == "batch"]
    assert sum(sizes) == 160
    assert max(sizes) <= 80
    run("sample", *large, "name=free", "n=12", "batch_size=5", f"output={tmp_path}")
    for ours, theirs in zip(
        folder.structures("generated", 12),
        RunFolder(tmp_path / "sample/free").structures("generated"),
        strict=True,
    ):
        np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), torch.OutOfMemoryError(), RuntimeError("can't allocate memory: you"),
        RuntimeError("could not create a primitive"),
    ],
)  # fmt: skip
def test_errors_of_memory(error):
    assert _halved([4, 5, 6], error) == 1
    with pytest.raises(ValueError, match="structure 4 does not fit into memory"):
        _halved([4], error)


def test_other_errors_are_raised():
    with pytest.raises(RuntimeError, match="another"):
        _halved([4, 5], RuntimeError("another"))
