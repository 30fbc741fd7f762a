"""Random structure search: relaxed minima, with their paths, from any ASE calculator.

Writes each candidate as it is done; the same command continues after a kill. At the end the minima
(npz and extxyz), frames of the relaxations, and the counts per stoichiometry (Fig. 2b).
"""

from concurrent.futures import as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from experiments import cli
from experiments.build import build, frozen_key
from experiments.progress import progress, say
from experiments.runfolder import RunFolder
from experiments.search import Candidate, read_trajectory, search
from experiments.workers import require_success, workers
from sdedata.dataset import concatenate, counts_table, thin
from sdedata.rss import random_surface
from sdedata.structures import StructureSet
from sdedata.template import Template


def run(config: DictConfig) -> dict[str, Any]:
    """Search, then pack what was found; returns the summary."""
    from experiments.plots import counts_per_stoichiometry
    from experiments.tracking import Tracker

    template = Template.load(config.template.slab, tuple(config.template.window or (1.0, 4.5)))
    candidates = plan(config, template, Path(config.output) / "generate_data" / config.name)
    build(config.calculator)  # a calculator that cannot be built is told before any worker starts
    folder = RunFolder(candidates[0].path.parents[1])
    folder.save_config(
        _plain(config), may_change=("n_per_composition", "executor", "tracking", "output")
    )
    folder.save_environment()
    with Tracker(folder, **_plain(config.tracking), name=config.name) as tracker:
        failed = _search_all(config, candidates, tracker)
        minima, frames = pack(candidates, config.frames_per_minimum, _meta(config))
        minima.write(folder / "minima.npz")
        minima.write(folder / "minima.extxyz")
        frames.write(folder / "frames.npz")
        counts = counts_by_subset(minima)
        folder.write_json("counts.json", counts)
        tracker.figure("counts", counts_per_stoichiometry(counts))
        tracker.energies("minima", minima.relative_energy.tolist())
        summary = {
            "data/minima": len(minima),
            "data/frames": len(frames),
            "data/candidates": len(candidates),
            "data/failed": failed,
            "data/relax_steps_mean": float(np.mean(minima.info["relax_steps"])),
            "data/digest": minima.digest,
        }
        tracker.summary(summary)
    say(f"{len(minima)} minima and {len(frames)} frames in {folder.path}")
    return summary


def plan(config: DictConfig, template: Template, folder: Path) -> list[Candidate]:
    """Every candidate of the search; its index decides its composition and all that is random."""
    compositions = list(config.compositions)
    for composition in compositions:  # what cannot be drawn is told before any worker starts
        random_surface(template, composition, np.random.default_rng(0), config.min_distances)
    return [
        Candidate(
            index=index,
            composition=compositions[index % len(compositions)],
            seed=config.seed,
            template=template,
            calculator=frozen_key(config.calculator),
            min_distances=_plain(config.min_distances),
            relaxation=_plain(config.relaxation),
            folder=str(folder / "candidates"),
        )
        for index in range(config.n_per_composition * len(compositions))
    ]


def pack(
    candidates: list[Candidate], frames_per_minimum: int, meta: dict[str, Any]
) -> tuple[StructureSet, StructureSet]:
    """The converged minima of the candidates, and thinned frames of all their relaxations."""
    minima, frames = [], []
    for candidate in candidates:
        if not candidate.path.is_file():
            continue
        trajectory, row = read_trajectory(candidate.path)
        facts = {
            "index": candidate.index,
            "seed": candidate.seed,
            "relax_steps": trajectory.steps,
            "energy_initial": float(trajectory.energies[0]),
        }
        if row["converged"]:
            minima.append(_set(trajectory, [trajectory.steps], facts))
        kept = thin(trajectory.energies, trajectory.forces, frames_per_minimum)
        frames.append(_set(trajectory, kept, facts))
    if not minima:
        raise ValueError("no candidate relaxed to a minimum: raise relaxation.max_steps")
    return replace(concatenate(minima), meta=meta), replace(concatenate(frames), meta=meta)


def counts_by_subset(minima: StructureSet) -> dict[str, dict[str, int]]:
    """Fig. 2b: for D, D_lowE and its halves, the number of structures of each stoichiometry."""
    table = counts_table(minima)
    subsets = [key for key in table[0] if key != "stoichiometry"]
    return {
        subset: {str(row["stoichiometry"]): int(row[subset]) for row in table} for subset in subsets
    }


def _set(trajectory: Any, which: Any, facts: dict[str, Any]) -> StructureSet:
    which = np.asarray(which)
    k, n = len(which), len(trajectory.numbers)
    return StructureSet(
        counts=np.full(k, n),
        numbers=np.tile(trajectory.numbers, k),
        positions=trajectory.positions[which].reshape(-1, 3).astype(float),
        fixed=np.tile(trajectory.fixed, k),
        cell=np.tile(trajectory.cell, (k, 1, 1)),
        pbc=np.tile(trajectory.pbc, (k, 1)),
        energy=trajectory.energies[which],
        forces=trajectory.forces[which].reshape(-1, 3).astype(float),
        info={key: np.full(k, value) for key, value in facts.items()} | {"step": which},
    )


def _search_all(config: DictConfig, candidates: list[Candidate], tracker: Any) -> int:
    """Carry out what is not done yet; returns how many failed. Too many failures stop the run."""
    missing = [c for c in candidates if not c.path.is_file()]
    if not missing:
        return 0
    failed, done = 0, len(candidates) - len(missing)
    reason = ""
    with workers(config.executor) as executor:
        futures = [executor.submit(search, candidate) for candidate in missing]
        finished = progress(as_completed(futures), "search", len(candidates), done)
        for n, future in enumerate(finished, start=1):
            row = future.result()
            tracker.log({"event": "candidate", **row})
            if "failed" in row:
                failed, reason = failed + 1, row["failed"]
                require_success(failed, done + n, reason)
    require_success(failed, len(candidates), reason, last=True)
    return failed


def _meta(config: DictConfig) -> dict[str, Any]:
    """Provenance: what somebody needs to judge these numbers, or to make more of them."""
    from experiments.runfolder import versions

    keys = ("seed", "template", "compositions", "min_distances", "relaxation", "calculator")
    return {
        "name": config.name,
        "optimizer": "guidance.LBFGS",
        **{key: _plain(config[key]) for key in keys},
        "versions": {
            k: v for k, v in versions().items() if k in ("ase", "chgnet", "torch", "numpy")
        },
    }


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


if __name__ == "__main__":
    cli.main("generate_data", run, __doc__, "n_per_composition=10 calculator=emt")
