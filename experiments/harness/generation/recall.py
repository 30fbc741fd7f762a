"""Noise and return: which known structures a score brings back, from which level of noise.

A structure that a score knows is a place to which denoising leads from nearby. How far that place
reaches is what this measures, without asking how often sampling from the prior ends there.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ase import Atoms

from experiments.harness.config.settings import Recall
from experiments.harness.execution.progress import progress
from experiments.harness.execution.torch_setup import device_of, prepare_torch
from experiments.harness.generation.generator import Generator
from experiments.harness.generation.process import Process, batches
from experiments.harness.generation.relaxation import relax
from experiments.harness.runs.atomic_io import write_text
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.runs.shipped_models import DEFAULT
from experiments.harness.runs.statistics import proportion
from experiments.harness.training.data import load_set
from sdedata import Graph, StructureSet, collate
from sdedata.dataset import distinct, inside_window
from sdedata.similarity import distance
from vpsde import denoise, generators, times

log = logging.getLogger(__name__)

MAY_CHANGE = (
    "tracking", "output", "device", "threads", "batch_size", "score", "forcefield", "structures",
)  # fmt: skip
RETURNED, TABLE = "returned", "recall.csv"
"""File of the structures that were denoised and relaxed; table of all draws."""


@dataclass(frozen=True)
class Trial:
    """One draw of the noise."""

    index: int
    structure: int
    sigma: float
    draw: int


def run(config: Recall, observe: Observe | None = None) -> dict[str, Any]:
    """Noise, denoise, relax and compare; returns the summary.

    Raises ValueError for networks or structures that cannot be used, and for a sigma that the
    score's process does not reach.
    """
    from experiments.harness.figures.recall import recall as draw
    from experiments.harness.tracking.tracker import Tracker

    process = _process(config)
    for sigma in config.sigmas:
        process.score.sde().time_of(sigma)
    known = _known(config, process)
    folder = RunFolder(Path(config.output) / "recall" / config.name)
    plain = config.plain()
    recorded = plain | {"digests": process.digests, "digest": known.digest}
    with (
        folder.recording(recorded, MAY_CHANGE, config.overrides, str(process.device)),
        Tracker(
            folder, **plain["tracking"], job_type="recall", name=config.name, observe=observe
        ) as tracker,
    ):
        _measure(config, process, known, folder, tracker)
        folder.tidy(RETURNED)
        found = _table(folder, known)
        write_text(folder / TABLE, found.to_csv(index=False))
        shares = _shares(found, config.tolerance)
        tracker.figure("recall", draw(shares, config.tolerance))
        tracker.table("recall", list(shares.columns), shares.to_numpy().tolist())
        tracker.summary(_summary(shares, len(known)))
    for row in shares.itertuples():
        log.info(
            f"sigma {row.sigma:g} Å: {row.back} of {row.n} come back ({row.low:.0%} to "
            f"{row.high:.0%}), median displacement {row.displacement:.2f} Å"
        )
    return folder.summary


def _process(config: Recall) -> Process:
    """Load the networks; ValueError without a force field to relax on."""
    score, field = config.score, config.forcefield
    if score is None and field is None:
        score = field = DEFAULT
    if score is None or field is None:
        missing = "score" if score is None else "forcefield"
        raise ValueError(f"a score denoises and a force field relaxes: give {missing}=FOLDER, too")
    prepare_torch(config.threads)
    return Generator.of(
        score, field, config.sampler, config.guide, device_of(config.device), False,
        config.neighbours,
    )  # fmt: skip


def _known(config: Recall, process: Process) -> StructureSet:
    """Select the lowest surfaces of each composition and cell that lie in the score's z range."""
    data = load_set(config.structures, Path(config.output) / "cache")
    inside = inside_window(data, process.score.window)
    if not inside.any():
        window = list(process.score.window)
        raise ValueError(f"{config.structures} has no overlayer in the score's z range {window} Å")
    data = distinct(data.select(inside))
    process.score.require_elements(data.elements)
    chosen: list[int] = []
    for group in np.unique(data.groups):
        members = np.flatnonzero(data.groups == group)
        chosen += members[np.argsort(data.energy[members], kind="stable")][: config.lowest].tolist()
    return data.select(chosen)


def _measure(
    config: Recall, process: Process, known: StructureSet, folder: RunFolder, tracker: Any
) -> None:
    """Carry out the trials that no row of the folder tells of."""
    done = {row["index"] for row in folder.rows() if row.get("event") == RETURNED}
    every = [
        (sigma, structure, draw)
        for sigma in config.sigmas
        for structure in range(len(known))
        for draw in range(config.draws)
    ]
    trials = [Trial(index, s, sigma, draw) for index, (sigma, s, draw) in enumerate(every)]
    missing = [trial for trial in trials if trial.index not in done]
    if not missing:
        return
    ends = _relaxed(known.to_atoms(), config, process)
    graphs = known.graphs(process.score.network.cutoff, process.score.window, config.neighbours)
    bar = iter(progress(range(len(trials)), "recall", len(trials), len(done)))
    for sigma, group in groupby(missing, key=lambda trial: trial.sigma):
        some = list(group)
        for chunk in batches(range(len(some)), config.batch_size):
            batch = [some[k] for k in chunk]
            start = collate([graphs[trial.structure] for trial in batch])
            indices = [trial.index for trial in batch]
            denoised = _denoised(start, sigma, indices, config.seed, process)
            returned = _relaxed(denoised, config, process)
            _record(batch, returned, ends, folder, tracker)
            for _ in batch:
                next(bar, None)
    for _ in bar:
        pass


def _denoised(
    graph: Graph, sigma: float, indices: Iterable[int], seed: int, process: Process
) -> list[Atoms]:
    """Noise structures to sigma (Å) and denoise them; each depends on its own index alone."""
    sde, sampler = process.score.sde(), process.sampler
    graph, own, begin = graph.to(process.device), generators(seed, indices), sde.time_of(sigma)
    guide = process.pull(begin)
    t = torch.full((graph.n_structures,), begin, device=graph.positions.device)
    noised = graph.at(sde.perturb(graph, t.to(graph.positions), own))
    grid = [begin * t for t in times(sampler.steps, sampler.time_power)]
    *_, last = denoise(
        process.score.network, noised, sde, grid, own, guide, sampler.noise, sampler.noisy_end,
        solver=sampler.solver, corrector=sampler.corrector or 0.0,
    )  # fmt: skip
    return graph.at(last.positions).to_atoms()


def _relaxed(frames: list[Atoms], config: Recall, process: Process) -> list[Atoms]:
    assert process.force_field is not None  # `_process` has one
    return relax(frames, process.force_field, **config.relaxation.plain())


def _record(
    trials: Iterable[Trial],
    returned: list[Atoms],
    ends: list[Atoms],
    folder: RunFolder,
    tracker: Any,
) -> None:
    """Write what became of some trials: structures first, then the rows that count."""
    for trial, atoms in zip(trials, returned, strict=True):
        end, row = ends[trial.structure], {"event": RETURNED, **vars(trial)}
        if atoms.calc is not None and end.calc is not None:
            row["displacement"] = distance(atoms, end)
            row["energy"] = atoms.get_potential_energy() - end.get_potential_energy()
        atoms.info.update(vars(trial))
        folder.append_structures(RETURNED, [atoms])
        tracker.log(row)


def _table(folder: RunFolder, known: StructureSet) -> pd.DataFrame:
    """Tabulate all draws: displacement in Å, energy in eV above the known structure's; NaN if lost.

    Both are measured from the known structure as the force field relaxes it.
    """
    rows = {r["index"]: r for r in folder.rows() if r.get("event") == RETURNED}
    columns = ["index", "structure", "composition", "sigma", "draw", "displacement", "energy"]
    named = [
        {**rows[k], "composition": str(known.compositions[rows[k]["structure"]])}
        for k in sorted(rows)
    ]
    return pd.DataFrame(named).reindex(columns=columns)


def _shares(found: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Count at each sigma which draws came back, with Wilson's interval, and take the median."""
    rows = []
    for sigma, some in found.groupby("sigma"):
        back = int((some["displacement"] <= tolerance).sum())
        share = proportion(back, len(some))
        rows.append({
            "sigma": sigma, "n": len(some), "back": back, "share": share.value, "low": share.low,
            "high": share.high, "displacement": some["displacement"].median(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _summary(shares: pd.DataFrame, structures: int) -> dict[str, Any]:
    found: dict[str, Any] = {"recall/n": int(shares["n"].sum()), "recall/structures": structures}
    for row in shares.to_dict(orient="records"):
        sigma = f"{row.pop('sigma'):g}"
        found |= {f"recall/{sigma}/{key}": value for key, value in row.items()}
    return found
