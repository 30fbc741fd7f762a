"""Sampling by compiled steps, as a command."""

import subprocess
import sys

import numpy as np

from experiments.harness.runs.run_folder import RunFolder
from tests.tiny import GUIDED, ROOT, run, start


def positions(folder) -> np.ndarray:
    return np.array([atoms.positions for atoms in RunFolder(folder).structures("generated")])


def arguments(world, output) -> list[str]:
    return [*world.networks, *GUIDED, "composition=Ag2O", f"output={output}", "batch_size=2"]


def test_compiled_sampling_generates_the_same_structures_with_one_program(world, tmp_path):
    """In three batches, the last of which is smaller."""
    run("sample", *arguments(world, tmp_path), "name=plain", "n=5")
    programs = tmp_path / "programs"
    process = start(
        "sample", *arguments(world, tmp_path), "name=compiled", "compile=true", "n=5",
        env_more={"TORCH_LOGS": "recompiles", "TORCHINDUCTOR_CACHE_DIR": str(programs)},
    )  # fmt: skip
    _, reported = process.communicate()
    assert process.returncode == 0, reported
    assert list(programs.rglob("*.so")), "nothing was compiled"
    assert "recompil" not in reported.lower(), reported
    assert "generated again" not in reported
    plain, compiled = (positions(tmp_path / "sample" / name) for name in ("plain", "compiled"))
    assert len(plain) == 5
    np.testing.assert_allclose(compiled, plain, atol=1e-3)  # float32, and forces of up to 10 eV/Å


def test_where_room_is_too_small_structures_are_generated_without(world, tmp_path):
    """No neighbour is left out in silence: every structure breaks down, and is done again."""
    one_step = "sampler.steps=1"  # which is never compiled
    run("sample", *arguments(world, tmp_path), "name=plain", one_step)
    program = (
        "import experiments.harness.generation.generator as g; g.max_edges = lambda *_: 3; "
        "from experiments.harness.commands.main import main; main()"
    )
    more = "name=tight", "compile=true", one_step
    command = [sys.executable, "-c", program, "sample", *arguments(world, tmp_path), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generated again uncompiled" in done.stderr
    plain, again = (positions(tmp_path / "sample" / name) for name in ("plain", "tight"))
    np.testing.assert_allclose(again, plain, atol=1e-3)
