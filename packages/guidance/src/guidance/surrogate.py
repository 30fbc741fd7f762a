"""Relaxation on an expensive potential, where a cheap one plans every move.

A trust-region method whose model function is a force field with a correction (Alexandrov, Dennis,
Lewis and Torczon, Struct. Optim. 15, 16 (1998); Nocedal & Wright, Numerical Optimization,
algorithm 4.1). At R_k the corrected surrogate has the forces of the reference, and around it their
changes between the last points, as far as these tell (`guidance.difference`). It is minimised near
R_k, and the reference is asked once, at the end. What comes out is a minimum of the reference,
whatever the surrogate is worth: that decides how often the reference is asked and, the more the
longer the leaps, which minimum it is.
"""

from collections.abc import Callable
from typing import Generic

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guidance.difference import Difference, Quadratic
from guidance.guide import mobile_only
from guidance.protocols import ForceField, G
from guidance.relax import FIRST_SCALE, Evaluation, Relaxation, is_finite, longest, relax

RADIUS = 0.3  # Å, how far the first plan may take an atom, if it may leap so far
SMALLEST_RADIUS, LEAP = 0.001, 1.0  # Å
PLAN_STEPS = 12  # moves on the surrogate for one on the reference
REAL, POOR, GOOD = 0.05, 0.25, 0.75  # shares of the predicted fall in energy that come true
TRUST = 2.0  # eV/Å

Select = Callable[[G, Bool[Tensor, " b"]], G]
"""The batch of those structures that are True."""


def refine(
    graph: G,
    reference: ForceField[G],
    surrogate: ForceField[G],
    select: Select[G],
    fmax: float = 0.05,
    max_steps: int = 200,
    leap: float = LEAP,
    otherwise: Float[Tensor, "n 3"] | None = None,
    trust: float = TRUST,
    observe: Callable[[Relaxation[G]], None] | None = None,
) -> Relaxation[G]:
    """Move the mobile atoms until no force of the reference on them exceeds `fmax` (eV/Å).

    Args:
        graph: Where to begin, for instance where `relax` on the surrogate has come to.
        max_steps: Calls of the reference, after the first, before a structure is left unconverged.
        leap: The farthest (Å) that an atom may go from where it is, for one call. Long leaps need
            fewer calls, and pass over shallow minima of the reference, in which short ones end
            more often.
        otherwise: Positions (Å) to begin from where the surrogate is not to be believed: where, at
            those of `graph`, a force of its own misses the reference's by more than `trust` (eV/Å).
        select: Makes the batch of those structures that are True: the others are finished.
        observe: Is shown the state after each evaluation of the reference. Where that was no
            progress, the structure is where it was before.

    Raises:
        ValueError: if `fmax`, `leap` or `trust` is not positive, or `max_steps` is negative.
    """
    if not (fmax > 0 and leap > 0 and trust > 0 and max_steps >= 0):
        raise ValueError(
            "fmax, leap and trust must be positive and max_steps not negative, not "
            f"{fmax}, {leap}, {trust} and {max_steps}."
        )
    batch, b = graph.batch, graph.n_structures
    ask, guess = (Evaluation(graph, f, select) for f in (reference, surrogate))
    everything = torch.ones(b, dtype=torch.bool, device=batch.device)
    steps = torch.zeros_like(everything, dtype=torch.int64)
    finite = everything

    def shown() -> Relaxation[G]:
        force = longest(mobile_only(forces, graph), batch, b)
        state = Relaxation(
            graph.at(positions), energy, forces, force, steps, finite & (force <= fmax), finite
        )
        if observe is not None:
            observe(state)
        return state

    positions = graph.positions
    energy, forces = ask(positions, everything)
    finite = is_finite(energy, forces, batch)
    state = shown()
    expected, missing = _missing(guess, positions, everything, forces, graph)
    if otherwise is not None:
        error = longest(missing, batch, b)
        doubtful = finite & ~state.converged & ~(error <= trust)
        if doubtful.any():
            positions = torch.where(doubtful[batch, None], otherwise, positions)
            steps = steps + doubtful
            new_energy, new_forces = ask(positions, doubtful)
            energy = torch.where(doubtful, new_energy, energy)
            forces = torch.where(doubtful[batch, None], new_forces, forces)
            finite = is_finite(energy, forces, batch)
            state = shown()
            expected, missing = _missing(guess, positions, everything, forces, graph)
    difference = Difference(graph)
    difference.learn(positions, missing, finite)
    radius = energy.new_full((b,), min(RADIUS, leap))
    while bool((running := state.finite & ~state.converged & (steps < max_steps)).any()):
        atoms = running[batch]
        part = select(state.graph, running)
        correction = difference.near(positions, missing, running)
        corrected = _Corrected(
            surrogate, part, expected[running], correction, radius[running], select
        )
        planned, fall = _plan(part, corrected, forces[atoms], fmax)
        trial = positions.index_put((atoms,), planned)
        predicted = torch.ones_like(energy).index_put((running,), fall)
        steps = steps + running
        new_energy, new_forces = ask(trial, running)
        new_expected, new_missing = _missing(guess, trial, running, new_forces, graph)
        sound = running & is_finite(new_energy, new_forces, batch)
        finite = finite & (sound | ~running)
        difference.learn(trial, new_missing, sound)
        real = (energy - new_energy) / predicted
        there = longest(mobile_only(new_forces, graph), batch, b) <= fmax
        way = longest(trial - positions, batch, b)
        taken = sound & ((real > REAL) | there)
        far = way > 0.9 * radius
        wider = torch.where((real > GOOD) & far, (2 * radius).clamp(max=leap), radius)
        narrower = (way / 2).clamp(min=min(SMALLEST_RADIUS, leap))
        radius = torch.where(running, torch.where(real > POOR, wider, narrower), radius)
        energy = torch.where(taken, new_energy, energy)
        expected = torch.where(taken, new_expected, expected)
        taken_atoms = taken[batch, None]
        positions = torch.where(taken_atoms, trial, positions)
        forces = torch.where(taken_atoms, new_forces, forces)
        missing = torch.where(taken_atoms, new_missing, missing)
        state = shown()
    return state


def _missing(
    guess: Evaluation[G],
    positions: Float[Tensor, "n 3"],
    which: Bool[Tensor, " b"],
    forces: Float[Tensor, "n 3"],
    graph: G,
) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
    """The surrogate's energies, and what its forces on mobile atoms lack to be the reference's."""
    energy, guessed = guess(positions, which)
    return energy, mobile_only(forces - guessed, graph)


class _Corrected(Generic[G]):
    """The surrogate with its correction around where a plan begins, at which its energy is zero.

    What it says of frozen atoms is not corrected. A structure with an atom farther than its radius
    from there feels no forces, which ends the plan.
    """

    def __init__(
        self,
        surrogate: ForceField[G],
        graph: G,
        start: Float[Tensor, " b"],
        correction: Quadratic,
        radius: Float[Tensor, " b"],
        select: Select[G],
    ) -> None:
        self.surrogate, self.graph, self.start = surrogate, graph, start
        self.correction, self.radius, self._select = correction, radius, select
        self.kept = torch.ones(graph.n_structures, dtype=torch.bool, device=graph.batch.device)

    def select(self, graph: G, which: Bool[Tensor, " b"]) -> G:
        self.kept = which
        return self._select(graph, which)

    def __call__(self, part: G) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
        atoms = self.kept[self.graph.batch]
        way = part.positions - self.graph.positions[atoms]
        more, forces_more = self.correction(
            torch.zeros_like(self.graph.positions).index_put((atoms,), way)
        )
        energy, forces = self.surrogate(part)
        inside = longest(way, part.batch, len(energy)) <= self.radius[self.kept]
        forces = torch.where(inside[part.batch, None], forces + forces_more[atoms], 0.0)
        return energy - self.start[self.kept] + more[self.kept], forces


def _plan(
    graph: G, corrected: _Corrected[G], forces: Float[Tensor, "n 3"], fmax: float
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " b"]]:
    """Where the corrected surrogate would go, no atom farther than its structure's radius (Å), and
    the fall in energy (eV) that this promises.
    """
    batch, b, radius = graph.batch, graph.n_structures, corrected.radius
    found = relax(graph, corrected, fmax / 2, PLAN_STEPS, select=corrected.select)
    way = found.graph.positions - graph.positions
    way = way * (radius / longest(way, batch, b).clamp(min=radius))[batch, None]
    corrected.kept = torch.ones_like(corrected.kept)
    energy, _ = corrected(graph.at(graph.positions + way))
    # Where that would be no fall: a step along the forces, which is one if it is short enough.
    down = mobile_only(forces, graph)
    down = down * (radius / longest(down, batch, b)).clamp(max=FIRST_SCALE)[batch, None]
    first_order = energy.new_zeros(b).index_add(0, batch, (down * forces).sum(1))
    lower = energy < 0
    way = torch.where(lower[batch, None], way, down)
    return graph.positions + way, torch.where(lower, -energy, first_order)
