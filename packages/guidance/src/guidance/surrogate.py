"""Relaxation on an expensive reference potential with moves proposed by a cheap surrogate.

A trust-region method whose model function is a force field with a correction (Alexandrov, Dennis,
Lewis and Torczon, Struct. Optim. 15, 16 (1998); Nocedal & Wright, Numerical Optimization,
algorithm 4.1). At R_k the corrected surrogate has the forces of the reference; around R_k it
reproduces the changes of these forces between the last points (`guidance.difference`). It is
minimised near R_k, and the reference is evaluated once, at the end. The result is a minimum of the
reference, however poor the surrogate: the surrogate decides how many evaluations of the reference
are needed and, the more so the larger the trust radius, which minimum is found.
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

INITIAL_RADIUS = 0.3  # Å, of the first move, unless the largest radius is smaller
SMALLEST_RADIUS, LARGEST_RADIUS = 0.001, 1.0  # Å
SURROGATE_STEPS = 12  # moves on the surrogate for each evaluation of the reference
REAL, POOR, GOOD = 0.05, 0.25, 0.75  # realised shares of the predicted decrease in energy
MAX_FORCE_ERROR = 2.0  # eV/Å

Select = Callable[[G, Bool[Tensor, " b"]], G]
"""Selects structures of a batch by a mask."""


def refine(
    graph: G,
    reference: ForceField[G],
    surrogate: ForceField[G],
    select: Select[G],
    fmax: float = 0.05,
    max_steps: int = 200,
    trust_radius: float = LARGEST_RADIUS,
    fallback: Float[Tensor, "n 3"] | None = None,
    max_force_error: float = MAX_FORCE_ERROR,
    observe: Callable[[Relaxation[G]], None] | None = None,
) -> Relaxation[G]:
    """Move the mobile atoms until no force of the reference on them exceeds `fmax` (eV/Å).

    Args:
        graph: Starting positions, such as the result of `relax` on the surrogate.
        reference: The potential to be minimised; evaluated as rarely as possible.
        surrogate: The force field that proposes the moves.
        select: Selects structures of a batch by a mask; converged ones are no longer evaluated.
        max_steps: Evaluations of the reference, after the first, before a structure is left
            unconverged.
        trust_radius: Largest displacement (Å) of an atom per evaluation of the reference. A large
            one needs fewer evaluations and passes over shallow minima of the reference, in which
            a small one ends more often.
        fallback: Positions (Å) to start from instead where the surrogate is unreliable: where one
            of its forces at `graph` differs from the reference's by more than `max_force_error`.
        max_force_error: eV/Å; only used with `fallback`.
        observe: Called with the state after each evaluation of the reference. Where the move was
            rejected, the structure has its previous positions.

    Raises:
        ValueError: if `fmax`, `trust_radius` or `max_force_error` is not positive, or `max_steps`
            is negative.
    """
    if not (fmax > 0 and trust_radius > 0 and max_force_error > 0 and max_steps >= 0):
        raise ValueError(
            "fmax, trust_radius and max_force_error must be positive and max_steps not negative, "
            f"not {fmax}, {trust_radius}, {max_force_error} and {max_steps}."
        )
    batch, b = graph.batch, graph.n_structures
    evaluate_reference = Evaluation(graph, reference, select)
    evaluate_surrogate = Evaluation(graph, surrogate, select)
    all_structures = torch.ones(b, dtype=torch.bool, device=batch.device)
    steps = torch.zeros_like(all_structures, dtype=torch.int64)
    finite = all_structures

    def report() -> Relaxation[G]:
        force = longest(mobile_only(forces, graph), batch, b)
        state = Relaxation(
            graph.at(positions), energy, forces, force, steps, finite & (force <= fmax), finite
        )
        if observe is not None:
            observe(state)
        return state

    positions = graph.positions
    energy, forces = evaluate_reference(positions, all_structures)
    finite = is_finite(energy, forces, batch)
    state = report()
    expected, missing = _missing(evaluate_surrogate, positions, all_structures, forces, graph)
    if fallback is not None:
        error = longest(missing, batch, b)
        doubtful = finite & ~state.converged & ~(error <= max_force_error)
        if doubtful.any():
            positions = torch.where(doubtful[batch, None], fallback, positions)
            steps = steps + doubtful
            new_energy, new_forces = evaluate_reference(positions, doubtful)
            energy = torch.where(doubtful, new_energy, energy)
            forces = torch.where(doubtful[batch, None], new_forces, forces)
            finite = is_finite(energy, forces, batch)
            state = report()
            expected, missing = _missing(
                evaluate_surrogate, positions, all_structures, forces, graph
            )
    difference = Difference(graph)
    difference.add(positions, missing, finite)
    radius = positions.new_full((b,), min(INITIAL_RADIUS, trust_radius))
    while bool((running := state.finite & ~state.converged & (steps < max_steps)).any()):
        atoms = running[batch]
        part = select(state.graph, running)
        correction = difference.around(positions, missing, running)
        corrected = _Corrected(
            surrogate, part, expected[running], correction, radius[running], select
        )
        proposed, fall = _minimised(part, corrected, forces[atoms], fmax)
        trial = positions.index_put((atoms,), proposed)
        predicted = torch.ones_like(energy).index_put((running,), fall.to(energy))
        steps = steps + running
        new_energy, new_forces = evaluate_reference(trial, running)
        new_expected, new_missing = _missing(evaluate_surrogate, trial, running, new_forces, graph)
        sound = running & is_finite(new_energy, new_forces, batch)
        finite = finite & (sound | ~running)
        difference.add(trial, new_missing, sound)
        real = (energy - new_energy) / predicted
        there = longest(mobile_only(new_forces, graph), batch, b) <= fmax
        displacement = longest(trial - positions, batch, b)
        taken = sound & ((real > REAL) | there)
        far = displacement > 0.9 * radius
        wider = torch.where((real > GOOD) & far, (2 * radius).clamp(max=trust_radius), radius)
        narrower = (displacement / 2).clamp(min=min(SMALLEST_RADIUS, trust_radius))
        radius = torch.where(running, torch.where(real > POOR, wider, narrower), radius)
        energy = torch.where(taken, new_energy, energy)
        expected = torch.where(taken, new_expected, expected)
        taken_atoms = taken[batch, None]
        positions = torch.where(taken_atoms, trial, positions)
        forces = torch.where(taken_atoms, new_forces, forces)
        missing = torch.where(taken_atoms, new_missing, missing)
        state = report()
    return state


def _missing(
    evaluate_surrogate: Evaluation[G],
    positions: Float[Tensor, "n 3"],
    which: Bool[Tensor, " b"],
    forces: Float[Tensor, "n 3"],
    graph: G,
) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
    """Return the surrogate's energies, and the reference's forces on mobile atoms minus its own."""
    energy, predicted = evaluate_surrogate(positions, which)
    return energy, mobile_only(forces - predicted, graph)


class _Corrected(Generic[G]):
    """The surrogate with its correction around the current positions, where its energy is zero.

    Forces on frozen atoms are not corrected. A structure with an atom displaced by more than its
    trust radius has no forces, which ends the minimisation.
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
        self.running = torch.ones(graph.n_structures, dtype=torch.bool, device=graph.batch.device)

    def select(self, graph: G, which: Bool[Tensor, " b"]) -> G:
        self.running = which
        return self._select(graph, which)

    def __call__(self, part: G) -> tuple[Float[Tensor, " b"], Float[Tensor, "n 3"]]:
        atoms = self.running[self.graph.batch]
        displacement = part.positions - self.graph.positions[atoms]
        more, forces_more = self.correction(
            torch.zeros_like(self.graph.positions).index_put((atoms,), displacement)
        )
        energy, forces = self.surrogate(part)
        inside = longest(displacement, part.batch, len(energy)) <= self.radius[self.running]
        forces = torch.where(inside[part.batch, None], forces + forces_more[atoms], 0.0)
        return energy - self.start[self.running] + more[self.running], forces


def _minimised(
    graph: G, corrected: _Corrected[G], forces: Float[Tensor, "n 3"], fmax: float
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " b"]]:
    """Minimise the corrected surrogate within the trust radius (Å) of each structure.

    Returns the positions and the predicted decrease in energy (eV).
    """
    batch, b, radius = graph.batch, graph.n_structures, corrected.radius
    found = relax(graph, corrected, fmax / 2, SURROGATE_STEPS, select=corrected.select)
    displacement = found.graph.positions - graph.positions
    displacement = (
        displacement * (radius / longest(displacement, batch, b).clamp(min=radius))[batch, None]
    )
    corrected.running = torch.ones_like(corrected.running)
    energy, _ = corrected(graph.at(graph.positions + displacement))
    # Where that does not lower the energy: a step along the forces, short enough to lower it.
    down = mobile_only(forces, graph)
    down = down * (radius / longest(down, batch, b)).clamp(max=FIRST_SCALE)[batch, None]
    first_order = forces.new_zeros(b).index_add(0, batch, (down * forces).sum(1))
    lower = energy < 0
    displacement = torch.where(lower[batch, None], displacement, down)
    return graph.positions + displacement, torch.where(lower, -energy, first_order)
