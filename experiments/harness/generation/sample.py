"""A sampling run: a folder with generated surfaces.

Each batch is written when it is complete; the same settings on the same folder continue a run that
was interrupted.
"""

import logging
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from experiments.harness.config.settings import Sample
from experiments.harness.execution.progress import progress
from experiments.harness.execution.torch_setup import device_of, out_of_memory, prepare_torch
from experiments.harness.generation.generator import Generator
from experiments.harness.generation.process import PATH_TIMES, Generation, batches
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.runs.shipped_models import DEFAULT
from experiments.harness.training.checkpoint import Model
from sdedata.frames import digest

log = logging.getLogger(__name__)

# The networks are known by their digests: their folders may have moved.
MAY_CHANGE = (
    "tracking", "output", "device", "threads", "compile", "batch_size", "n", "score", "forcefield"
)  # fmt: skip
SHOWN = 4
"""Structures of which a picture is drawn."""
DIFFUSED, GENERATED, PATH = "diffused", "generated", "path"
"""Files: at the end of the reverse process, after the short relaxation, on the way."""


def run(config: Sample, observe: Observe | None = None) -> dict[str, Any]:
    """Generate `n` structures into a run folder; returns the summary."""
    from experiments.harness.tracking.artifacts import of_model
    from experiments.harness.tracking.tracker import Tracker

    generation = prepare(config)
    process, plain = generation.process, config.plain()
    folder = RunFolder(Path(config.output) / "sample" / config.name)
    recorded = plain | {
        "digests": process.digests | {"slab": digest([generation.surface])},
        "window": list(generation.window),
        "trained_on": process.score.card["calculator"],
    }
    about = plain["tracking"] | {"job_type": "sample", "name": config.name}
    about |= {"follows": Path(config.score or DEFAULT)}
    with (
        folder.recording(recorded, MAY_CHANGE, config.overrides, str(process.device)),
        Tracker(folder, **about, observe=observe) as tracker,
    ):
        for model in filter(None, (process.score, process.force_field)):
            tracker.artifact(of_model(model.source, model.kind), uses=True)
        missing = _missing(folder, config.n)
        _generate(generation, missing, config, folder, tracker)
        for name in (DIFFUSED, GENERATED, PATH):
            folder.tidy(name)
        _show(folder, tracker)
        tracker.summary(_summary(config.composition, folder, tracker))
    n, share = (folder.summary[f"gen/{name}"] for name in ("n", "frac_finite"))
    frozen = n - round(share * n)
    log.info(
        f"{n} structures in {folder.path}/structures/{GENERATED}.extxyz"
        + (f"; {frozen} turned non-finite and were frozen" if frozen else "")
    )
    return folder.summary


def prepare(config: Sample) -> Generation:
    """Load and check all that the settings name; ValueError for what does not fit together."""
    if config.score is None and config.forcefield is None:
        config = config.changed(_shipped(config))
    if config.score is None:
        raise ValueError("no score network: give score=FOLDER of a training run")
    if config.guide is not None and config.forcefield is None:
        raise ValueError("guidance needs a force field: give forcefield=FOLDER, or guide=none")
    if config.guide is None and config.forcefield is not None:
        raise ValueError("guide=none would ignore the force field: leave forcefield out")
    prepare_torch(config.threads)
    generator = Generator.of(
        config.score,
        config.forcefield,
        config.sampler,
        config.guide,
        device_of(config.device),
        config.compile,
        config.neighbours,
    )
    template = config.template
    _require_known_slab(config, generator.score)
    return generator.on(
        template.slab,
        config.composition,
        config.seed,
        template.z_range,
        config.allow_other_z_range,
        config.condition,
    )


def _shipped(config: Sample) -> dict[str, str]:
    """The networks of the shipped model, for a command that names none."""
    log.info(f"the networks are those of the shipped model {DEFAULT}: score=... gives others")
    return {"score": DEFAULT} | ({} if config.guide is None else {"forcefield": DEFAULT})


def _require_known_slab(config: Sample, score: Model) -> None:
    """Raise ValueError if no slab was given, and the network does not know that of the default."""
    given = any(one.lstrip("+").startswith("template") for one in config.overrides)
    if not given and atomic_numbers["Ag"] not in score.elements:
        known = ", ".join(chemical_symbols[z] for z in score.elements)
        raise ValueError(
            f"no slab was given, and the default is Ag(111) ({config.template.slab}), while the "
            f"network in {score.source} knows {known}: give template.slab=FILE"
        )


def _missing(folder: RunFolder, n: int) -> list[int]:
    """Return the indices below n of which a file lacks a frame; ValueError if more than n are done.

    A kill or damage may have cut any of the files.
    """
    found = {name: _frames_of(folder, name) for name in (DIFFUSED, GENERATED, PATH)}
    done = found[GENERATED]
    if done and max(done) >= n:
        raise ValueError(f"{folder.path} holds {len(done)} structures already: n={n} is less")
    on_path = {0: len(PATH_TIMES)}  # frames on the way, of the first structure alone
    return [
        k for k in range(n)
        if not (done[k] and found[DIFFUSED][k]) or found[PATH][k] < on_path.get(k, 0)
    ]  # fmt: skip


def _frames_of(folder: RunFolder, name: str) -> Counter[int]:
    """Count the frames of each index in a file."""
    known = {(a.info["index"], a.info.get("t")) for a in folder.iterate(name)}
    return Counter(int(index) for index, _ in known)


def _generate(
    generation: Generation, missing: list[int], config: Sample, folder: RunFolder, tracker: Any
) -> None:
    """Generate the missing structures batch by batch; each is written when it is complete.

    A batch that does not fit into memory is halved, and with it those that follow.
    """
    size = config.batch_size
    total = generation.process.steps * len(batches(missing, size))
    bar = progress(range(total), "sample", total)
    while missing:
        batch, started = missing[:size], time.perf_counter()
        try:
            result = generation.generate(batch, bar, size if config.n > size else 0)
        except Exception as error:
            size = _halved(batch, error)
            continue
        seconds, missing = time.perf_counter() - started, missing[size:]
        folder.append_structures(DIFFUSED, result.diffused)
        folder.append_structures(PATH, result.path)
        # copies, which have no calculator: the file holds no energies that may pass for references
        folder.append_structures(GENERATED, [atoms.copy() for atoms in result.generated])
        tracker.log({
            "event": "batch", "indices": batch, "finite": result.finite, "seconds": seconds
        })  # fmt: skip
    for _ in bar:
        pass


def _halved(batch: list[int], error: Exception) -> int:
    """Return half the size of a batch that was out of memory; any other error is raised again.

    ValueError if it was a single structure.
    """
    if not out_of_memory(error):
        raise error
    if len(batch) == 1:
        raise ValueError(
            f"structure {batch[0]} does not fit into memory: a smaller cell, or a device with more "
            "memory, is needed"
        ) from error
    log.warning(f"out of memory: batch_size is {len(batch) // 2} from here on (was {len(batch)})")
    return len(batch) // 2


def _show(folder: RunFolder, tracker: Any) -> None:
    """Draw the path and the first structures."""
    from experiments.harness.figures.plots import path as path_figure

    first = folder.structures(PATH, len(PATH_TIMES))
    if len(first) == len(PATH_TIMES):
        tracker.figure("path", path_figure(first, [a.info["t"] for a in first]))
    captions = [f"index {atoms.info['index']}" for atoms in folder.structures(GENERATED, SHOWN)]
    tracker.structures(GENERATED, None, captions=captions)


def _summary(composition: str, folder: RunFolder, tracker: Any) -> dict[str, Any]:
    """Return the metrics of the run; its energies are the force field's, above the lowest."""
    summary: dict[str, Any] = {}
    known = [
        (atoms.info.get("energy_forcefield", math.nan), bool(atoms.info["finite"]))
        for atoms in folder.iterate(GENERATED)
    ]
    predicted, finite = zip(*known, strict=True)
    if np.isfinite(predicted).any():
        relative = np.array(predicted) - np.nanmin(predicted)
        summary |= tracker.energies("gen_predicted", relative.tolist())
    summary |= {
        "gen/n": len(finite),
        "gen/frac_finite": float(np.mean(finite)),
        "gen/composition": composition,
    }
    rows = [row for row in folder.rows() if row.get("seconds")]  # of every batch, ever
    if rows:
        n = sum(len(row["indices"]) for row in rows)
        summary["gen/structures_per_second"] = n / sum(row["seconds"] for row in rows)
    return summary
