"""The reverse process on one slab: what `Generator` and the sampling run share.

Starts from a uniform prior, takes N reverse steps (Eq. 2), pulled by the forces (Eq. 3), and
relaxes briefly on the force field.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from experiments.harness.config import settings
from experiments.harness.training.checkpoint import Model
from guidance import Guide, Relaxation, descend, eta_from_step, relax
from sdedata import Graph, collate
from sdedata.frozen import frozen_mask
from sdedata.properties import properties
from vpsde import SDE, ClassifierFree, generators, sample, times

log = logging.getLogger(__name__)

PATH_TIMES = (1.0, 0.5, 0.0)
PRIORS = 32  # structures whose neighbours are counted for the padding


@dataclass(frozen=True)
class Process:
    """A trained score with its reverse process, and the force field that guides it, if any."""

    score: Model
    force_field: Model | None
    sampler: settings.Sampler
    guide: settings.Guide | None
    device: torch.device

    @property
    def digests(self) -> dict[str, str | None]:
        """Of the two model files."""
        field = self.force_field.digest if self.force_field is not None else None
        return {"score": self.score.digest, "forcefield": field}

    def pull(self, begin: float = 1.0) -> Guide | None:
        """Return Eq. 3 for reverse steps from t = begin, each with eta dt of the force.

        None without a force field or a guide, or if it only relaxes in the end.
        """
        guide, field = self.guide, self.force_field
        if guide is None or field is None or (guide.eta_dt == 0 and guide.fmax is not None):
            return None
        eta = eta_from_step(guide.eta_dt, self.sampler.steps) / begin
        return Guide(field.network.on_mobile, eta, guide.max_force)

    def relaxed(
        self, graph: Graph, observe: Callable[[Any], None] | None = None
    ) -> Relaxation[Graph] | None:
        """Relax briefly on the force field: by L-BFGS, or by the paper's descent, with eta dt.

        None without a force field or a guide, or if it does neither.
        """
        guide, field = self.guide, self.force_field
        if guide is None or field is None or not self.relaxes:
            return None
        forces = field.network.on_mobile
        if guide.fmax is not None:
            return relax(
                graph, forces, guide.fmax, guide.descent_steps, select=Graph.select, observe=observe
            )
        return descend(
            graph, forces, guide.eta_dt, guide.descent_steps, guide.max_force, observe=observe
        )

    @property
    def relaxes(self) -> bool:
        """Whether the guide relaxes at all: with eta = 0 there is no descent."""
        guide = self.guide
        return guide is not None and (guide.eta_dt > 0 or guide.fmax is not None)

    @property
    def steps(self) -> int:
        """Network evaluations of a batch: reverse steps, and at most so many of the relaxation."""
        guide, reverse = self.guide, self.sampler.steps
        return reverse + (guide.descent_steps if guide is not None and self.relaxes else 0)


@dataclass(frozen=True)
class Batch:
    """Structures of one batch: at the end of the reverse process, then relaxed, and on the way."""

    diffused: list[Atoms]
    generated: list[Atoms]
    path: list[Atoms]
    """Of the structure with index 0, if it is here, at `PATH_TIMES`."""
    finite: list[bool]

    def first(self, n: int) -> "Batch":
        """Return the first n structures."""
        return Batch(self.diffused[:n], self.generated[:n], self.path, self.finite[:n])

    def replace(self, places: list[int], others: "Batch") -> None:
        """Put the structures of another batch at these places."""
        for k, place in enumerate(places):
            self.diffused[place], self.generated[place] = others.diffused[k], others.generated[k]
            self.finite[place] = others.finite[k]
        self.path[:] = others.path or self.path


@dataclass(frozen=True)
class Generation:
    """A reverse process on one slab, with the composition and seed that its structures share."""

    process: Process
    composition: str
    seed: int
    window: tuple[float, float]
    """Å above the slab."""
    condition: settings.Condition | None
    """What the score is asked for."""
    surface: Atoms
    """The slab with the overlayer anywhere in the window."""
    start: Graph
    """The same for the networks."""

    def generate(self, indices: list[int], bar: Iterator[Any], fill_to: int = 0) -> Batch:
        """Generate the structures with these indices; each depends on its own index alone.

        `bar` is advanced at every step. A compiled program has one batch size: with `fill_to`, a
        smaller batch is filled up to it with structures that are not returned.
        """
        n, compiled = len(indices), self.start.max_edges is not None
        if compiled:
            indices = indices + [indices[-1] + 1 + k for k in range(fill_to - n)]
        batch = self._generate(self.start, indices, bar).first(n)
        broken = [k for k, fine in enumerate(batch.finite) if not fine]
        if compiled and broken:
            log.info(
                f"sample: {len(broken)} turned non-finite or had more edges than the padding "
                "allows: generated again uncompiled"
            )
            plain = replace(self.start, max_edges=None)
            again = self._generate(plain, [indices[k] for k in broken], iter(()))
            batch.replace(broken, again)
        return batch

    def _generate(self, one: Graph, indices: list[int], bar: Iterator[Any]) -> Batch:
        own, sampler = self.process, self.process.sampler
        start = collate([one] * len(indices)).to(own.device)
        states: Iterator[Any] = sample(
            self._score(start),
            start,
            own.score.sde(),
            times(sampler.steps, sampler.time_power),
            generators(self.seed, indices),
            guide=own.pull(),
            noise=sampler.noise,
            noisy_end=sampler.noisy_end,
            solver=sampler.solver,
            corrector=sampler.corrector or 0.0,
            compile=start.max_edges is not None,
        )
        wanted, path = list(PATH_TIMES), []
        for state in states:
            if state.t < 1.0:
                next(bar, None)
            while wanted and state.t <= wanted[0] + 1e-9:
                path += self._frames(state.graph, indices, state.finite, {"t": wanted.pop(0)})[:1]
        diffused = self._frames(state.graph, indices, state.finite)
        graph, finite, energies = state.graph, state.finite, None
        relaxed = own.relaxed(graph, observe=lambda _: next(bar, None))
        if relaxed is not None:
            graph, finite, energies = relaxed.graph, finite & relaxed.finite, relaxed.energy
        generated = self._frames(graph, indices, finite)
        if energies is not None:
            for atoms, energy in zip(generated, energies.tolist(), strict=True):
                atoms.info["energy_forcefield"] = energy
                if atoms.info["finite"]:
                    atoms.calc = SinglePointCalculator(atoms, energy=energy)
        return Batch(diffused, generated, path if 0 in indices else [], finite.tolist())

    @property
    def _asked(self) -> dict[str, float]:
        """What the score is asked for, as it stands in the structures' `info`."""
        if self.condition is None:
            return {}
        energy = {} if self.condition.energy is None else {"asked_energy": self.condition.energy}
        return energy | {"condition_weight": self.condition.weight}

    def _score(self, graph: Graph) -> Any:
        """Return the score of the surfaces that are asked for."""
        model, asked = self.process.score, self.condition
        if asked is None:
            return model.network
        energy = None
        if asked.energy is not None:
            energy = graph.cell.new_full((graph.n_structures,), asked.energy)
        wanted = properties(graph, model.properties, model.network.elements, energy)
        return ClassifierFree(model.network, wanted, asked.weight)

    def _frames(
        self,
        graph: Graph,
        indices: Sequence[int],
        finite: torch.Tensor,
        more: dict[str, Any] | None = None,
    ) -> list[Atoms]:
        """Convert to ASE atoms with their provenance in `info`; the slab keeps all its digits."""
        frames, digests = graph.to_atoms(), self.process.digests
        fixed = frozen_mask(self.surface)
        for atoms, index, fine in zip(frames, indices, finite.tolist(), strict=True):
            atoms.cell = self.surface.cell
            atoms.positions[fixed] = self.surface.positions[fixed]
            atoms.info.update(
                index=index, seed=self.seed, finite=fine, steps=self.process.sampler.steps,
                composition=self.composition, score=digests["score"],
                forcefield=digests["forcefield"] or "none", **self._asked, **(more or {}),
            )  # fmt: skip
        return frames


def batches(indices: Iterable[int], size: int) -> list[list[int]]:
    """Split indices into lists of at most `size`."""
    found = list(indices)
    return [found[i : i + size] for i in range(0, len(found), size)]


def max_edges(start: Graph, sde: SDE, seed: int) -> int:
    """Count the edges that mobile atoms may have (see `Graph.padded`); not of some batch."""
    prior = collate([start] * PRIORS)
    most = prior.at(sde.prior(prior, generators(seed, range(PRIORS)))).padded().max_edges
    assert most is not None
    return most
