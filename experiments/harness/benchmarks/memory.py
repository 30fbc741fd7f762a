"""Peak memory of training, in a process of its own: nothing else has left its traces there.

    python -m experiments.harness.benchmarks.memory task=score train.batch_size=64

prints the largest resident memory (bytes) of this process during a few steps of that training.
"""

import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[3]
STEPS = 20  # batches of other numbers of atoms: what libraries keep for each adds up


def peak_memories(trainings: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Bytes of each training, given by its overrides, all at once: memory knows no hurry."""
    with ThreadPoolExecutor() as threads:
        return dict(zip(trainings, threads.map(peak_memory, trainings.values()), strict=True))


def peak_memory(overrides: Sequence[str]) -> int:
    """Bytes that `surfdiff train` with these overrides needs; ValueError if it fails."""
    command = [sys.executable, "-m", "experiments.harness.benchmarks.memory", *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise ValueError(f"training failed when its memory was measured: {last}")
    return int(done.stdout.split()[-1])


def largest_so_far() -> int:
    """Bytes of resident memory at most until now.

    Not `ru_maxrss` on Linux, which begins with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * int(lines["VmHWM"].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    from experiments.harness.benchmarks.workloads import training
    from experiments.harness.execution.torch_setup import prepare_torch

    with TemporaryDirectory() as home, training(sys.argv[1:], Path(home)) as trained:
        prepare_torch(trained.config.threads)
        trained.steps(STEPS)
    print(largest_so_far())


if __name__ == "__main__":
    main()
