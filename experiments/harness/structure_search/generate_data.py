"""Random structure search: relaxed minima, with their paths, from any ASE calculator.

Once there are some minima, a force field is trained on their paths, the surrogate for the
relaxations of the others, each of which ends on the calculator (`guidance.refine`). The same
command continues after a kill. At the end the minima (npz and extxyz), frames of the relaxations,
and the counts per stoichiometry (Fig. 2b).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from experiments.harness.config import compose, settings
from experiments.harness.config.instantiate import calculator_for, frozen_key
from experiments.harness.config.settings import GenerateData
from experiments.harness.execution.progress import progress
from experiments.harness.execution.workers import outcomes, require_success, workers
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.structure_search.basin_hopping import Hopping
from experiments.harness.structure_search.batch_relaxation import Surrogate
from experiments.harness.structure_search.found_set import (
    SAME,
    Found,
    counts_by_subset,
    extended,
    marked_surfaces,
    pack,
)
from experiments.harness.structure_search.search import Task, read, search
from experiments.harness.structure_search.target import target_structure
from experiments.harness.training.calculator import identified
from experiments.harness.training.checkpoint import Model, load_model
from sdedata import parse_formula
from sdedata.adsorption import RANGE
from sdedata.dataset import distinct, inside_window
from sdedata.frames import digest
from sdedata.rss import random_surface
from sdedata.similarity import SAME as SAME_SURFACE
from sdedata.similarity import distance
from sdedata.template import Template

log = logging.getLogger(__name__)

HOPS = 10
"""Of a walk in one task: a kill loses no more, and progress is seen."""
MAY_CHANGE = ("n_per_composition", "target", "executor", "tracking", "output", "calculator.path")


def run(config: GenerateData, observe: Observe | None = None) -> dict[str, Any]:
    """Search, then pack what was found; returns the summary."""
    from experiments.harness.figures.plots import counts_per_stoichiometry
    from experiments.harness.tracking.artifacts import of_file
    from experiments.harness.tracking.tracker import Tracker

    template = template_of(config)
    for composition in config.compositions:  # refuse what cannot be drawn first
        random_surface(template, composition, np.random.default_rng(0), config.min_distances)
    calculator_for(config.calculator, elements(config, template))  # likewise an unusable calculator
    config = config.changed({"calculator": identified(config.calculator).plain()})
    given_model = given(config, template)
    target = wanted(config, template)
    base = extended(config)
    done = 0 if base is None else 1 + int(base.frames.info["index"].max())
    total = config.n_per_composition * len(config.compositions)
    if total < done:
        raise ValueError(
            f"extend={config.extend} has {done} candidates, more than the {total} asked for: give "
            f"n_per_composition={-(-done // len(config.compositions))} or more"
        )
    folder = RunFolder(Path(config.output) / "generate_data" / config.name)
    plain, tasks = config.plain(), list[Task]()
    digests = {
        "slab": digest([template.slab]),
        "surrogate": None if given_model is None else given_model.digest,
        "extend": None if base is None else base.minima.digest,
    }
    with (
        folder.recording(plain | {"digests": digests}, MAY_CHANGE, config.overrides),
        Tracker(folder, **plain["tracking"], name=config.name, observe=observe) as tracker,
    ):
        for start, stop in rounds(done, total, config.surrogate):
            surrogate = None
            if (options := config.surrogate) is not None:
                model = options.model
                if model is None and start >= options.first:
                    home = folder.path / f"surrogate/{start}"
                    model = trained(config, options.training, base, tasks, home)
                if model is not None:
                    surrogate = Surrogate(model, options.trust_radius)
            new = plan(config, template, folder.path, range(start, stop), surrogate)
            _search_all(config, new, start, total, tracker)
            tasks += new
        found = pack(base, tasks, config.frames_per_minimum)
        require_success(len(found.failed), total - done, (found.failed or [""])[-1], last=True)
        meta = _meta(config, given_model)
        labelled = marked_surfaces(found.minima, found.frames)
        minima, frames = (replace(s, meta=meta) for s in labelled)
        minima.write(folder / "minima.npz")
        minima.write(folder / "minima.extxyz")
        frames.write(folder / "frames.npz")
        counts = counts_by_subset(minima)
        folder.write_json("counts.json", counts)
        tracker.figure("counts", counts_per_stoichiometry(counts))
        tracker.energies("minima", minima.relative_energy.tolist())
        summary = {
            "data/minima": len(minima),
            "data/surfaces": len(distinct(minima)),
            "data/frames": len(frames),
            "data/candidates": total,
            "data/failed": len(found.failed),
            "data/relax_steps_mean": float(np.mean(minima.info["relax_steps"])),
            "data/relax_steps": found.relax_steps,
            "data/cpu_seconds": round(found.cpu_seconds, 1),
            "data/digest": minima.digest,
        }
        if len(config.compositions) == 1:  # energies of others do not compare
            summary["data/energy_min_abs"] = float(minima.energy.min())
            summary["data/energy_median_abs"] = float(np.median(minima.energy))
        if target is not None:
            distances = np.array([distance(atoms, target) for atoms in minima.to_atoms()])
            summary["data/target_hits"] = int((distances <= SAME_SURFACE).sum())
            summary["data/target_closest"] = float(distances.min())
        for name in ("minima.npz", "frames.npz"):
            tracker.artifact(of_file("dataset", folder.path / name))
        tracker.summary(summary)
    log.info(f"{len(minima)} minima and {len(frames)} frames in {folder.path}")
    return summary


def template_of(config: GenerateData) -> Template:
    return Template.load(config.template.slab, config.template.z_range or (1.0, 4.5))


def elements(config: GenerateData, template: Template) -> set[int]:
    """Return the atomic numbers of the slab and of all overlayers."""
    overlayers = {atomic_numbers[s] for c in config.compositions for s in parse_formula(c)}
    return overlayers | {int(z) for z in template.slab.numbers}


def given(config: GenerateData, template: Template) -> Model | None:
    """The force field that `surrogate.model` names; ValueError if it is not for these atoms."""
    if config.surrogate is None or config.surrogate.model is None:
        return None
    model = load_model(config.surrogate.model, "forcefield")
    model.require_elements(elements(config, template))
    template.require_vacuum(model.network.cutoff)
    return model


def wanted(config: GenerateData, template: Template) -> Atoms | None:
    """The structure that is looked for; ValueError if it cannot be among what is searched."""
    if config.target is None:
        return None
    if len(config.compositions) > 1:
        raise ValueError("a target is of one composition: give composition=FORMULA")
    (composition,) = config.compositions
    example = random_surface(template, composition, np.random.default_rng(0), config.min_distances)
    return target_structure(config.target, example)


def rounds(
    done: int, total: int, surrogate: settings.Surrogate | None
) -> Iterator[tuple[int, int]]:
    """Ranges of candidates: the surrogate, if any, is trained anew before each that follows on
    enough of them, and so whenever there are `growth` times more; one that is given stays.
    """
    while done < total:
        stop = total
        if surrogate is not None and surrogate.model is None:
            stop = min(total, max(done + 1, surrogate.first, int(done * surrogate.growth)))
        yield done, stop
        done = stop


def plan(
    config: GenerateData,
    template: Template,
    folder: Path,
    indices: range,
    surrogate: Surrogate | None,
) -> list[Task]:
    """The search for these candidates; an index decides composition and all that is random."""
    compositions = list(config.compositions)
    hopping = None if config.basin_hopping is None else Hopping(**config.basin_hopping.plain())
    at_once = size = part = config.task_size
    if hopping is not None:  # walkers keep their composition
        at_once = max(1, size // len(compositions)) * len(compositions)
        size, part = at_once * (1 + hopping.hops), at_once * HOPS
    task = partial(
        Task,
        seed=config.seed,
        template=template,
        calculator=frozen_key(config.calculator),
        min_distances=config.min_distances,
        relaxation=config.relaxation.plain(),
        surrogate=surrogate,
        folder=str(folder / "candidates"),
        hopping=hopping,
        side_by_side=at_once,
    )
    tasks: list[Task] = []
    for first in range(0, len(indices), size):
        walk = indices[first : first + size]
        parts: list[Task] = []
        for k in range(0, len(walk), part):
            own = tuple((i, compositions[i % len(compositions)]) for i in walk[k : k + part])
            parts.append(task(candidates=own, before=tuple(one.path for one in parts)))
        tasks += parts
    return tasks


def trained(
    config: GenerateData,
    overrides: Sequence[str],
    base: Found | None,
    tasks: Sequence[Task],
    home: Path,
) -> str:
    """A force field that learnt the frames of these, as a file; it is trained but once."""
    from experiments.harness.training import train

    model = home / "train/forcefield/model.pt"
    if not model.is_file():
        data = home / "frames.npz"
        frames = pack(base, tasks, config.frames_per_minimum).frames
        frames.select(inside_window(frames, RANGE)).write(data)
        command = [
            "task=forcefield", "name=forcefield", f"output={home}", f"data.path={data}",
            f"data.z_range=[{RANGE[0]},{RANGE[1]}]", "data.max_repeats=1", f"seed={config.seed}",
            "tracking.mode=disabled", *overrides,
        ]  # fmt: skip
        train.run(compose.load("train", command))
    return str(model)


def _search_all(
    config: GenerateData, tasks: Sequence[Task], start: int, total: int, tracker: Any
) -> None:
    """Carry out what is not done yet; too many failures stop the search."""
    missing = _missing(tasks)
    if not missing:
        return
    done = [row for task in tasks if task not in missing for row in read(task.path)[1]]
    succeeded = sum("failed" not in row for row in done)
    turns = [
        [partial(search, task) for task in some]
        for _, some in groupby(sorted(missing, key=_turn), key=_turn)
    ]
    with workers(config.executor) as executor:
        rows = outcomes(executor, turns, dict, succeeded)
        for row in progress(rows, "search", total, start + len(done)):
            tracker.log({"event": "candidate", **row})


def _missing(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks that are not done, and those that went on with what is searched anew."""
    missing: dict[Path, Task] = {}
    for task in tasks:
        if not task.path.is_file() or missing.keys() & set(task.before):
            missing[task.path] = task
    return list(missing.values())


def _turn(task: Task) -> int:
    return len(task.before)


def _meta(config: GenerateData, given_model: Model | None) -> dict[str, Any]:
    """Return the provenance: what these numbers depend on, and what makes more of them."""
    from experiments.harness.runs.provenance import versions

    plain = config.plain()
    surrogate = plain["surrogate"]
    if given_model is not None:  # a path means nothing elsewhere
        surrogate = {
            "model": given_model.digest,
            "trained_on": given_model.card["data"],
            "trust_radius": surrogate["trust_radius"],
        }
    return {
        "name": config.name,
        **{key: plain[key] for key in SAME},
        "surrogate": surrogate,
        "basin_hopping": plain["basin_hopping"],
        "extend": config.extend,
        "versions": {
            k: v
            for k, v in versions().items()
            if k in ("ase", "chgnet", "sevenn", "torch", "numpy")
        },
    }
