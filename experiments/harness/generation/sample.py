"""Generate surfaces with a trained score network, guided by a trained force field.

Starts from a uniform prior on any slab, goes N reverse steps (Eq. 2), pulled by the forces (Eq. 3),
and relaxes briefly. Each batch is written as it is done; the same command continues after a kill.
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from experiments.harness.config.instantiate import device_of, prepare_torch
from experiments.harness.config.settings import Sample
from experiments.harness.execution.progress import progress
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.training.checkpoint import Model, load_model
from guidance import Guide, descend, eta_from_step
from sdedata import Graph, Template, collate, parse_formula
from vpsde import SDE, generators, sample, times

log = logging.getLogger(__name__)

# The networks are known by their digests: their folders may have moved.
MAY_CHANGE = (
    "tracking", "output", "device", "threads", "compile", "batch_size", "n", "score", "forcefield"
)  # fmt: skip
PATH_TIMES = (1.0, 0.5, 0.0)
PRIORS = 32  # structures whose neighbours are counted for the padding
DIFFUSED, GENERATED, PATH = "diffused", "generated", "path"
"""Files: at the end of the reverse process, after the short relaxation, on the way."""


def run(config: Sample, observe: Observe | None = None) -> dict[str, Any]:
    """Generate `n` structures; returns the summary."""
    from experiments.harness.figures.plots import path as path_figure
    from experiments.harness.tracking.tracker import Tracker

    generator = Generator.of(config)
    plain = config.plain()
    folder = RunFolder(Path(config.output) / "sample" / config.name)
    recorded = plain | {
        "digests": generator.digests,
        "window": list(generator.window),
        "trained_on": generator.score.card["calculator"],
    }
    folder.save_config(recorded, MAY_CHANGE, config.overrides)
    folder.save_environment(str(generator.device))
    done = {int(atoms.info["index"]) for atoms in folder.structures(GENERATED)}
    if done and max(done) >= config.n:
        raise ValueError(
            f"{folder.path} holds {len(done)} structures already: n={config.n} is less"
        )
    missing = [k for k in range(config.n) if k not in done]
    batches = [
        missing[i : i + config.batch_size] for i in range(0, len(missing), config.batch_size)
    ]
    tracker = Tracker(
        folder, **plain["tracking"], job_type="sample", name=config.name, observe=observe
    )
    with tracker:
        total = (config.sampler.steps + generator.descent_steps) * len(batches)
        bar = progress(range(total), "sample", total)
        for batch in batches:
            started = time.perf_counter()
            result = generator.generate(batch, bar)
            seconds = time.perf_counter() - started
            folder.append_structures(DIFFUSED, result.diffused)
            folder.append_structures(PATH, result.path)
            folder.append_structures(GENERATED, result.generated)
            tracker.log({
                "event": "batch", "indices": batch, "finite": result.finite, "seconds": seconds
            })  # fmt: skip
        for _ in bar:
            pass
        frames = _tidy(folder)
        summary: dict[str, Any] = {}
        if len(frames[PATH]) >= len(PATH_TIMES):
            first = frames[PATH][: len(PATH_TIMES)]
            tracker.figure("path", path_figure(first, [a.info["t"] for a in first]))
        predicted = [a.info.get("energy_forcefield", math.nan) for a in frames[GENERATED]]
        if np.isfinite(predicted).any():  # of the force field's own mind, from its lowest
            relative = np.array(predicted) - np.nanmin(predicted)
            summary |= tracker.energies("gen_predicted", relative.tolist())
        tracker.structures(GENERATED, None, captions=_captions(frames[GENERATED][:4]))
        finite = [bool(a.info["finite"]) for a in frames[GENERATED]]
        summary |= {
            "gen/n": len(finite),
            "gen/frac_finite": float(np.mean(finite)),
            "gen/composition": config.composition,
        }
        rows = [row for row in folder.rows() if row.get("seconds")]  # of every batch, ever
        if rows:
            n = sum(len(row["indices"]) for row in rows)
            summary["gen/structures_per_second"] = n / sum(row["seconds"] for row in rows)
        tracker.summary(summary)
    broken = finite.count(False)
    log.info(
        f"{len(finite)} structures in {folder.path}/structures/{GENERATED}.extxyz"
        + (f"; {broken} turned non-finite on the way and were frozen" if broken else "")
    )
    return folder.summary


@dataclass(frozen=True)
class Batch:
    diffused: list[Atoms]
    generated: list[Atoms]
    path: list[Atoms]
    """Of the structure with index 0, if it is here."""
    finite: list[bool]

    def first(self, n: int) -> "Batch":
        return Batch(self.diffused[:n], self.generated[:n], self.path, self.finite[:n])

    def replace(self, places: list[int], others: "Batch") -> None:
        """Put the others at these places."""
        for k, place in enumerate(places):
            self.diffused[place], self.generated[place] = others.diffused[k], others.generated[k]
            self.finite[place] = others.finite[k]
        self.path[:] = others.path or self.path


@dataclass(frozen=True)
class Generator:
    """Everything that one structure needs: template, networks, reverse process."""

    config: Sample
    score: Model
    force_field: Model | None
    window: tuple[float, float]
    start: Graph
    """One structure with its overlayer anywhere in the window."""
    device: torch.device

    @classmethod
    def of(cls, config: Sample) -> "Generator":
        """Load and check all that the config names; ValueError for what does not fit together."""
        device = device_of(config.device)
        prepare_torch(config.threads)
        if config.score is None:
            raise ValueError("no score network: give score=FOLDER of a training run")
        if config.guide is not None and config.forcefield is None:
            raise ValueError("guidance needs a force field: give forcefield=FOLDER, or guide=none")
        if config.guide is None and config.forcefield is not None:
            raise ValueError("guide=none would ignore the force field: leave forcefield out")
        score = load_model(config.score, "score")
        field = None
        if config.forcefield is not None:
            field = load_model(config.forcefield, "forcefield")
        window = _window(config, score, field)
        template = Template.load(config.template.slab, window)
        template.require_vacuum(score.network.cutoff)  # or it would see the slab from below
        count = parse_formula(config.composition)
        needed = {int(z) for z in template.slab.numbers} | {atomic_numbers[s] for s in count}
        for model, path in ((score, config.score), (field, config.forcefield)):
            if model is not None and path is not None:
                model.require_elements(needed, path)
        middle = np.tile([0.0, 0.0, sum(template.window) / 2], (sum(count.values()), 1))
        start = Graph.from_atoms(
            template.surface(config.composition, middle),
            score.network.cutoff,
            template.window,
            config.neighbours,
        )
        if field is not None and field.network.cutoff != score.network.cutoff:
            raise ValueError(
                f"the force field's cutoff is {field.network.cutoff:g} Å, the score's "
                f"{score.network.cutoff:g} Å: they share one neighbour list, train with one cutoff"
            )
        for model in (score, field):
            if model is not None:
                model.network.to(device)
        if config.compile:
            start = replace(start, max_edges=_max_edges(start, score.sde(), config.seed))
        return cls(config, score, field, window, start, device)

    @property
    def digests(self) -> dict[str, str | None]:
        field = self.force_field.digest if self.force_field is not None else None
        return {"score": self.score.digest, "forcefield": field}

    @property
    def descent_steps(self) -> int:
        """Steps of the short relaxation; none without a force field or with eta = 0."""
        guide = self.config.guide
        return guide.descent_steps if guide is not None and guide.eta_dt > 0 else 0

    def generate(self, indices: list[int], bar: Any) -> Batch:
        """The structures with these indices; each depends on its own index alone."""
        n = len(indices)
        if self.start.max_edges is not None and self.config.n > self.config.batch_size:
            # a smaller last batch would want a program of its own: it is filled up
            indices = indices + [indices[-1] + 1 + k for k in range(self.config.batch_size - n)]
        batch = self._generate(self.start, indices, bar).first(n)
        broken = [k for k, fine in enumerate(batch.finite) if not fine]
        if self.start.max_edges is not None and broken:
            log.info(
                f"sample: {len(broken)} broke down, or had too many neighbours: "
                "generated again uncompiled"
            )
            plain = replace(self.start, max_edges=None)
            batch.replace(broken, self._generate(plain, [indices[k] for k in broken], iter(())))
        return batch

    def _generate(self, one: Graph, indices: list[int], bar: Any) -> Batch:
        start = collate([one] * len(indices)).to(self.device)
        settings, pull = self.config.sampler, self.config.guide
        guide = None
        if self.force_field is not None and pull is not None:
            eta = eta_from_step(pull.eta_dt, settings.steps)
            guide = Guide(self.force_field.network.on_mobile, eta, pull.max_force)
        states: Iterator[Any] = sample(
            self.score.network,
            start,
            self.score.sde(),
            times(settings.steps, settings.time_power),
            generators(self.config.seed, indices),
            guide=guide,
            noise=settings.noise,
            noisy_end=settings.noisy_end,
            compile=start.max_edges is not None,
        )
        wanted, path = list(PATH_TIMES), []
        for state in states:
            if state.t < 1.0:
                next(bar, None)
            while wanted and state.t <= wanted[0] + 1e-9:
                path += self._frames(state.graph, indices, state.finite, {"t": wanted.pop(0)})[:1]
        diffused = self._frames(state.graph, indices, state.finite)
        graph, finite = state.graph, state.finite
        if self.force_field is not None and pull is not None and pull.eta_dt > 0:
            relaxed = descend(
                graph, self.force_field.network.on_mobile, pull.eta_dt,
                pull.descent_steps, pull.max_force,
                observe=lambda _: next(bar, None),
            )  # fmt: skip
            graph, finite = relaxed.graph, finite & relaxed.finite
        generated = self._frames(graph, indices, finite)
        if self.descent_steps:
            for atoms, energy in zip(generated, relaxed.energy.tolist(), strict=True):
                atoms.info["energy_forcefield"] = energy
        return Batch(diffused, generated, path if 0 in indices else [], finite.tolist())

    def _frames(
        self,
        graph: Graph,
        indices: list[int],
        finite: torch.Tensor,
        more: dict[str, Any] | None = None,
    ) -> list[Atoms]:
        """As ASE atoms that say where they come from."""
        frames = graph.to_atoms()
        for atoms, index, fine in zip(frames, indices, finite.tolist(), strict=True):
            atoms.info.update(
                index=index, seed=self.config.seed, finite=fine, steps=self.config.sampler.steps,
                composition=self.config.composition, score=self.digests["score"],
                forcefield=self.digests["forcefield"] or "none", **(more or {}),
            )  # fmt: skip
        return frames


def _max_edges(start: Graph, sde: SDE, seed: int) -> int:
    """Number of edges to pad a structure to (see `Graph.padded`), whatever the batch."""
    prior = collate([start] * PRIORS)
    placed = prior.at(sde.prior(prior, generators(seed, range(PRIORS))))
    max_edges = placed.padded().max_edges
    assert max_edges is not None
    return max_edges


def _window(config: Sample, score: Model, field: Model | None) -> tuple[float, float]:
    """The score's own, unless another is asked for; the force field must have seen all of it."""
    if config.template.z_range is None:
        window = score.window
    else:
        low, high = config.template.z_range
        window = (float(low), float(high))
    if config.allow_other_z_range:
        return window
    if window != score.window:
        raise ValueError(
            f"the window {list(window)} is not the training's {list(score.window)} Å: leave "
            "template.z_range out, or say allow_other_z_range=true"
        )
    if field is not None and not field.window[0] <= window[0] < window[1] <= field.window[1]:
        raise ValueError(
            f"the force field in {config.forcefield} was trained in the window "
            f"{list(field.window)} Å, which does not hold {list(window)}: train it anew, or say "
            "allow_other_z_range=true"
        )
    return window


def _tidy(folder: RunFolder) -> dict[str, list[Atoms]]:
    """The files in order of index, each structure once (a kill may have left one in one file)."""
    tidy = {}
    for name in (DIFFUSED, GENERATED, PATH):
        frames = {(a.info["index"], -a.info.get("t", 0.0)): a for a in folder.structures(name)}
        tidy[name] = [frames[key] for key in sorted(frames)]
        if tidy[name]:
            folder.save_structures(name, tidy[name])
    return tidy


def _captions(frames: list[Atoms]) -> list[str]:
    return [f"index {atoms.info['index']}" for atoms in frames]
