"""All that is timed, in its order: ours and another's in turn, and which of them are compared."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ase.io import write

from experiments.harness.benchmarks.machine import Cost, cost
from experiments.harness.benchmarks.neighbours import Lister, agreeing
from experiments.harness.benchmarks.peer import SERVERS, Peer
from experiments.harness.benchmarks.relaxation import (
    OPTIMIZERS,
    OURS,
    Relaxing,
    relaxing,
    relaxing_on,
)
from experiments.harness.benchmarks.results import Goal, Pair
from experiments.harness.benchmarks.workloads import (
    KINDS,
    Sampling,
    Timing,
    Training,
    Workload,
    batch_size,
    save,
    train_overrides,
    training,
)
from experiments.harness.config.settings import Benchmark
from experiments.harness.training.data import training_data
from sdedata import collate
from vpsde import generators

log = logging.getLogger(__name__)

ORDER_STREAM = 2**31 + 2  # a random stream that no training step uses
LISTS = 64  # structures whose neighbours are listed
TRAINING = {"score": "training score", "forcefield": "training force field"}
PEERS = {"agedi": "AGeDi"}


@dataclass
class Contest:
    """Contenders by name, each with its unit; `costs` of those of ours that are networks."""

    device: torch.device
    timers: dict[str, Callable[[], Timing]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    costs: dict[str, Cost] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, Any] = field(default_factory=dict)
    """Of the peers."""
    moves: dict[str, list[int]] = field(default_factory=dict)
    """That each relaxation took, in the batch and in ASE's loops."""
    relaxations: dict[str, Relaxing] = field(default_factory=dict)
    """On universal potentials, by name."""

    def ours(self, workload: Workload) -> None:
        """Take a workload and warm it up; of a network, count what it needs."""
        log.info(f"benchmark: warming up {workload.name}")
        workload.work(workload.brief)
        if workload.definition is not None:
            self.costs[workload.name] = cost(partial(workload.definition, workload.brief))
        self.timers[workload.name] = partial(workload.timed, self.device)
        self.units[workload.name] = workload.unit

    def theirs(
        self, who: str, task: str, timer: Callable[[], Timing], *ours: str, goal: Goal | None = None
    ) -> None:
        """Take somebody else's way to do what those of ours do."""
        pair = Pair(task, ours, who, goal)
        self.timers[pair.theirs] = timer
        self.units[pair.theirs] = self.units[ours[0]]
        self.pairs.append(pair)

    def round(self) -> Iterator[tuple[str, Timing]]:
        """Everything once."""
        for name, timer in self.timers.items():
            yield name, timer()

    def goal(self, on_cpu: float) -> Goal:
        """Against a peer: what is aimed at depends on the device."""
        return Goal(5, on_cpu if self.device.type == "cpu" else 20)


@dataclass(frozen=True)
class Entrants:
    """What is opened before anything is timed: all that can be wrong is found here."""

    trained: dict[str, Training]
    sampling: dict[str, list[Sampling]]
    """Of each cell without and with guidance."""
    peers: dict[str, Peer]


def entrants(config: Benchmark, device: torch.device, home: Path, stack: ExitStack) -> Entrants:
    """Networks, templates and peers; `stack` closes them, `home` keeps their files."""
    trained = {
        kind: stack.enter_context(training(train_overrides(config, kind, device), home))
        for kind in KINDS
    }
    models = {kind: save(one, home / f"{kind}.pt") for kind, one in trained.items()}
    sampling: dict[str, list[Sampling]] = {
        cell: [Sampling.of(config, cell, guided, models, home, device) for guided in (False, True)]
        for cell in config.cells
    }
    peers = {}
    for name, python in config.peers:
        if python is not None:
            log.info(f"benchmark: starting {PEERS[name]}")
            setup = _setup(config, device, home, trained["score"], sampling)
            peers[PEERS[name]] = stack.enter_context(Peer(name, python, SERVERS[name], setup))
    return Entrants(trained, sampling, peers)


def contest(config: Benchmark, device: torch.device, home: Path, entrants: Entrants) -> Contest:
    """Every contender of a config, warmed up."""
    made = Contest(device, versions={name: peer.versions for name, peer in entrants.peers.items()})
    absent = [name for name, python in config.peers if python is None]
    made.notes += [f"not compared with {PEERS[n]}: give peers.{n}=PYTHON (--help)" for n in absent]
    _add_training(made, config, entrants)
    _add_sampling(made, entrants)
    _add_neighbours(made, config, entrants.trained["score"])
    _add_relaxation(made, config, home)
    return made


def _setup(
    config: Benchmark,
    device: torch.device,
    home: Path,
    trained: Training,
    sampling: dict[str, list[Sampling]],
) -> dict[str, Any]:
    """What a peer must know to do the same: structures, templates, sizes."""
    structures = training_data(trained.config, "score").structures
    (generator,) = generators(config.seed, [ORDER_STREAM])
    order = torch.randperm(len(structures), generator=generator)  # they come sorted by formula
    write(home / "structures.extxyz", [structures.atoms(int(i)) for i in order])
    plain = {cell: both[0] for cell, both in sampling.items()}
    (window,) = {one.window for one in plain.values()}
    return {
        "structures": str(home / "structures.extxyz"),
        "templates": {cell: str(one.slab) for cell, one in plain.items()},
        "window": list(window),
        "threads": config.threads,
        "device": device.type,
        "cutoff": config.cutoff,
        "features": config.network.features,
        "blocks": config.network.blocks,
        "batch": batch_size(config, device),
        "cells": {
            cell: {"n": one.n, "composition": one.composition, "steps": one.steps}
            for cell, one in plain.items()
        },
    }


def _add_training(made: Contest, config: Benchmark, entrants: Entrants) -> None:
    score, field = TRAINING["score"], TRAINING["forcefield"]
    # AGeDi's larger network learns scores and forces in one pass: it is compared with both of ours.
    for kind, task, label, ours in (
        ("score", "score", score, [score]),
        ("forcefield", "forces", f"{score} and force field", [score, field]),
    ):
        work = entrants.trained[kind].steps
        made.ours(
            Workload(TRAINING[kind], "structures", work, config.training_steps, definition=work)
        )
        for who, peer in entrants.peers.items():
            timer = partial(peer.timed, f"train {task}")
            made.theirs(who, label, timer, *ours, goal=made.goal(12))


def _add_sampling(made: Contest, entrants: Entrants) -> None:
    for cell, both in entrants.sampling.items():
        for how, one in zip(("plain", "guided"), both, strict=True):
            name = f"sampling {cell}" + (" guided" if how == "guided" else "")
            unit = "structure\N{MIDDLE DOT}steps"
            # the first step is never compiled, the second is, and the third makes a CUDA graph
            made.ours(Workload(name, unit, one.work, one.steps, brief=4, definition=one.plain))
            for who, peer in entrants.peers.items():
                task = f"sample {how} {cell}"
                peer.timed(task, steps=2)
                made.theirs(who, name, partial(peer.timed, task), name, goal=made.goal(15))


def _add_neighbours(made: Contest, config: Benchmark, trained: Training) -> None:
    graphs = trained.trainer.train
    (generator,) = generators(config.seed, [ORDER_STREAM])
    chosen = torch.randperm(len(graphs), generator=generator)[:LISTS].tolist()
    graph = collate([graphs[i] for i in chosen]).to(made.device)
    found, _, notes = agreeing(graph, config.threads)
    made.notes += notes

    def lists(lister: Lister, times: int) -> float:
        for _ in range(times):
            lister()
        return times * graph.n_structures

    for who, lister in found.items():
        work = partial(lists, lister)
        if who == "ours":
            made.ours(Workload("neighbour lists", "lists", work, steps=5))
        else:
            other = Workload(who, "lists", work, steps=5)
            work(1)
            timer = partial(other.timed, made.device)
            made.theirs(who, "neighbour lists", timer, "neighbour lists")


def _add_relaxation(made: Contest, config: Benchmark, home: Path) -> None:
    log.info("benchmark: training the force field that structures are relaxed on")
    relaxed = relaxing(config, made.device, home)
    most = config.relaxation.max_steps
    batch = relaxed.batch
    made.ours(Workload("relaxation", "structures", batch, most, brief=most, definition=batch))
    for who in OPTIMIZERS:
        loop = Workload(who, "structures", partial(relaxed.loop, who), most)
        goal = Goal(5, 20) if who == "ASE" else None
        made.theirs(who, "relaxation", partial(loop.timed, made.device), "relaxation", goal=goal)
    made.moves = relaxed.moves
    for name in config.relaxation.potentials:
        task = f"relaxation, {name}"
        made.relaxations[name] = one = relaxing_on(name, config)
        made.ours(Workload(task, "structures", one.batch, most, brief=1))
        loop = Workload(OURS, "structures", partial(one.loop, OURS), most)
        timer = partial(loop.timed, made.device)
        made.theirs("ASE's loop", task, timer, task, goal=Goal(2, 4))
