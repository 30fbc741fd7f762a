"""Relax many structures on the workers of a run; each result is written when it comes."""

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from ase import Atoms

from experiments.harness.config.instantiate import frozen_key
from experiments.harness.config.settings import Evaluate
from experiments.harness.execution.progress import progress
from experiments.harness.execution.workers import outcomes, workers
from experiments.harness.generation.relaxation import assess
from experiments.harness.runs.run_folder import RunFolder

BATCH = 8
"""Structures that a worker relaxes side by side, unless the calculator says; a kill costs so many
at most."""


def relax_all(
    images: Sequence[Atoms],
    config: Evaluate,
    folder: RunFolder,
    tracker: Any,
    relaxed: str,
    before: str | None = None,
    at_once: int = BATCH,
) -> list[Atoms]:
    """Relax the structures that are not done yet with the run's calculator.

    Args:
        images: with their numbers in `info["index"]`.
        config: names calculator, relaxation and executor.
        folder: holds what is done.
        tracker: gets a row for each, whose event is the name of `relaxed`.
        relaxed: file of the relaxed structures.
        before: file of the same as they came, with their energies, if they are wanted.
        at_once: structures of a task.

    Returns:
        The relaxed structures, by index; those that fail are missing.

    Raises:
        ValueError: if nearly all fail (`execution.workers.outcomes`), with the reason of the last.
    """
    files = [name for name in (before, relaxed) if name is not None]
    done = {int(a.info["index"]) for a in images}
    for name in files:
        done &= {int(a.info["index"]) for a in folder.structures(name)}
    missing = [atoms for atoms in images if int(atoms.info["index"]) not in done]
    if missing:
        _relax(missing, len(done), config, folder, tracker, files, at_once)
    for name in files:
        folder.tidy(name)
    return folder.structures(relaxed)


def _relax(
    missing: list[Atoms],
    n_done: int,
    config: Evaluate,
    folder: RunFolder,
    tracker: Any,
    files: Sequence[str],
    at_once: int,
) -> None:
    assert config.calculator is not None
    calculator, relaxation = frozen_key(config.calculator), config.relaxation.plain()
    calls = [
        partial(assess, missing[k : k + at_once], calculator, relaxation)
        for k in range(0, len(missing), at_once)
    ]
    bar = f"relax ({files[-1]})"
    with workers(config.executor) as executor:
        results = outcomes(executor, [calls], itemgetter(0), succeeded=n_done)
        for row, frames in progress(results, bar, n_done + len(missing), n_done):
            for name, frame in zip(files, frames[-len(files) :], strict=False):
                folder.append_structures(name, [frame])
            tracker.log({"event": files[-1], **row})
