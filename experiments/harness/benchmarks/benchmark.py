"""The measurement behind `surfdiff benchmark`, whose help describes it."""

import logging
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from experiments.harness.config.settings import Benchmark
from experiments.harness.execution.progress import progress
from experiments.harness.execution.torch_setup import device_of, prepare_torch
from experiments.harness.runs.run_folder import Observe, RunFolder

if TYPE_CHECKING:
    from experiments.harness.benchmarks.tables import Results

log = logging.getLogger(__name__)


def run(config: Benchmark, observe: Observe | None = None) -> dict[str, Any]:
    """Measure, write the run folder, print the tables; returns the summary.

    `observe` is not called: a benchmark logs no rows.
    """
    from experiments.harness.benchmarks import growth
    from experiments.harness.benchmarks.contest import TRAINING
    from experiments.harness.benchmarks.memory import peak_memories
    from experiments.harness.benchmarks.workloads import train_overrides
    from experiments.harness.execution.signals import sigterm_exits
    from experiments.harness.figures.plots import save
    from experiments.harness.runs.atomic_io import write_text

    device = device_of(config.device)
    prepare_torch(config.threads)
    with sigterm_exits(), ExitStack() as recording:
        folder, results = _timed(config, device, recording)
        log.info("benchmark: memory and growth")
        trainings = {name: train_overrides(config, kind, device) for kind, name in TRAINING.items()}
        results.memory = peak_memories(trainings)
        results.growth = growth.measure(config, device)
        save(growth.figure(results.growth), folder / "figures/growth.png")
        folder.write_json("benchmark.json", results.record())
        folder.write_json("summary.json", results.summary())  # nothing of an earlier one stays
        write_text(folder / "table.md", results.tables() + "\n")
    print(results.tables())
    log.info(f"benchmark: every time in {folder.path}/benchmark.json, growth in figures/growth.png")
    return folder.summary


def _timed(config: Benchmark, device: Any, recording: ExitStack) -> tuple[RunFolder, "Results"]:
    """Time all tasks in turn; once all can run, `recording` has the run folder's lock."""
    from experiments.harness.benchmarks.contest import contest, entrants
    from experiments.harness.benchmarks.machine import measure
    from experiments.harness.benchmarks.tables import Results

    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory()))
        entered = entrants(config, device, home, stack)
        folder = RunFolder(Path(config.output) / "benchmark" / config.name)
        recording.enter_context(
            folder.recording(config.plain(), ("output", "peers"), config.overrides, str(device))
        )
        results = Results(contest(config, device, home, entered))
        for _ in progress(range(config.rounds), "benchmark"):
            results.machines.append(measure(device))
            for name, timing in results.contest.round():
                results.times[name].append(timing)
    return folder, results
