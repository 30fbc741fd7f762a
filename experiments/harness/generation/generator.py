"""Generation of surfaces with a trained score, guided by a trained force field.

    generator = Generator.load("score.pt", forcefield="forcefield.pt")
    surfaces = generator.sample(slab, "Ag6O3", n=32, seed=0)

A structure depends on its seed and index alone, not on its batch.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from experiments.harness.config import settings
from experiments.harness.execution.progress import progress
from experiments.harness.execution.torch_setup import device_of, prepare_torch
from experiments.harness.generation.process import Generation, Process, batches, max_edges
from experiments.harness.runs.shipped_models import file_of
from experiments.harness.training.checkpoint import Model, load_model
from sdedata import Graph, Template, parse_formula
from vpsde import check_solver

log = logging.getLogger(__name__)

TRAININGS = {"score": "train/score", "forcefield": "train/forcefield"}
"""Where a pipeline's folder keeps its networks."""


@dataclass(frozen=True)
class Generator(Process):
    """A reverse process that makes surfaces of any composition on any slab."""

    compile: bool = False
    neighbours: str = "auto"

    @classmethod
    def load(
        cls,
        score: str | Path | Model,
        forcefield: str | Path | Model | None = None,
        *,
        steps: int = 25,
        time_power: float = 1.0,
        noise: Literal["ancestral", "euler"] = "ancestral",
        noisy_end: bool = False,
        solver: Literal["euler", "multistep", "heun"] = "multistep",
        corrector: float | None = None,
        eta_dt: float = 0.0,
        max_force: float | None = 10.0,
        descent_steps: int = 100,
        fmax: float | None = 0.05,
        device: str = "auto",
        threads: int | None = None,
        compile: bool = False,
        neighbours: str = "auto",
    ) -> "Generator":
        """Load the networks and fix the settings of the reverse process.

        Args:
            score: model file, folder of a training run, folder of a pipeline with both networks, or
                name of a shipped model with both, such as "silver_oxide".
            forcefield: likewise; without one there is no guidance, and no energies.
            steps: N, the number of reverse steps (the paper's 1000 and more).
            time_power: 1 for steps uniform in t (the paper); above 1 they are finer toward t = 0.
            noise: of a reverse step, "ancestral" or "euler" (the paper).
            noisy_end: whether the last step has noise too.
            solver: "euler" (Eq. 2; all that sde=vp has), or of second order "multistep" or "heun".
            corrector: share of the noise that is renewed after each step, with another score; None:
                no corrector.
            eta_dt: Å²/eV, strength of the guidance while the score generates (the paper's 0.001).
            max_force: eV/Å, to which longer forces are shortened; None: the paper's equation.
            descent_steps: steps of the short relaxation on the force field.
            fmax: eV/Å, relax by L-BFGS, with at most so many steps, until no force is longer; None:
                the paper's descent with steps of eta dt.
            device: "auto" (a GPU if there is one), "cpu", "cuda", ...
            threads: for torch; None leaves its choice.
            compile: compile the steps by torch; on a GPU one CUDA graph.
            neighbours: "auto", "torch" or "cluster".

        Raises:
            ValueError: for a file that is no such model, two cutoffs, or settings out of range.
        """
        prepare_torch(threads)
        if not isinstance(score, Model):
            score, forcefield = _both(score, forcefield)
        sampler = settings.Sampler.of(
            {
                "steps": steps,
                "time_power": time_power,
                "noise": noise,
                "noisy_end": noisy_end,
                "solver": solver,
                "corrector": corrector,
            }
        )
        guide = None
        if forcefield is not None:
            guide = settings.Guide.of(
                {
                    "eta_dt": eta_dt,
                    "max_force": max_force,
                    "descent_steps": descent_steps,
                    "fmax": fmax,
                }
            )
        return cls.of(score, forcefield, sampler, guide, device_of(device), compile, neighbours)

    @classmethod
    def of(
        cls,
        score: str | Path | Model,
        forcefield: str | Path | Model | None,
        sampler: settings.Sampler,
        guide: settings.Guide | None,
        device: torch.device,
        compile: bool,
        neighbours: str,
    ) -> "Generator":
        """Load the networks for checked settings; ValueError for what does not fit together."""
        network = score if isinstance(score, Model) else load_model(score, "score")
        field = forcefield
        if field is not None and not isinstance(field, Model):
            field = load_model(field, "forcefield")
        for model, kind in ((network, "score"), (field, "forcefield")):
            if model is not None and model.kind != kind:
                raise ValueError(f"{model.source} holds a {model.kind} network, not a {kind}")
        if field is not None and field.network.cutoff != network.network.cutoff:
            raise ValueError(
                f"the force field's cutoff is {field.network.cutoff:g} Å, the score's "
                f"{network.network.cutoff:g} Å: they share one neighbour list, train with one "
                "cutoff"
            )
        check_solver(network.sde(), sampler.solver, sampler.noise, sampler.noisy_end, compile)
        if guide is not None and guide.eta_dt > 0 and sampler.time_power != 1:
            log.warning(
                "the guide's pull (eta dt) is meant for steps uniform in t (sampler=ancestral or "
                f"paper); with time_power={sampler.time_power:g} the last steps have little of it"
            )
        taught = [model.card.get("calculator") for model in (network, field) if model is not None]
        if None not in taught and taught[0] != taught[-1]:
            log.warning(f"the score learned from {taught[0]}, the force field from {taught[-1]}")
        for model in (network, field):
            if model is not None:
                model.network.to(device)
        return cls(network, field, sampler, guide, device, compile, neighbours)

    def on(
        self,
        slab: Atoms | str | Path,
        composition: str,
        seed: int = 0,
        z_range: tuple[float, float] | None = None,
        allow_other_z_range: bool = False,
        condition: settings.Condition | None = None,
    ) -> "Generation":
        """Prepare the generation on one slab; arguments and errors as in `sample`."""
        self._require_known(condition)
        window = self._window(z_range, allow_other_z_range)
        load = Template.from_slab if isinstance(slab, Atoms) else Template.load
        template = load(slab if isinstance(slab, Atoms) else str(slab), window)  # type: ignore[arg-type]
        template.require_vacuum(self.score.network.cutoff)  # or it would see the slab from below
        count = parse_formula(composition)
        needed = {int(z) for z in template.slab.numbers} | {atomic_numbers[s] for s in count}
        for model in (self.score, self.force_field):
            if model is not None:
                model.require_elements(needed)
        middle = np.tile([0.0, 0.0, sum(template.window) / 2], (sum(count.values()), 1))
        surface = template.surface(composition, middle)
        start = Graph.from_atoms(
            surface,
            self.score.network.cutoff,
            template.window,
            self.neighbours,
        )
        if self.compile:
            start = replace(start, max_edges=max_edges(start, self.score.sde(), seed))
        return Generation(self, composition, seed, window, condition, surface, start)

    def sample(
        self,
        slab: Atoms | str | Path,
        composition: str,
        n: int = 1,
        seed: int = 0,
        *,
        z_range: tuple[float, float] | None = None,
        allow_other_z_range: bool = False,
        energy: float | None = None,
        condition_weight: float | None = None,
        batch_size: int = 16,
        show_progress: bool = False,
    ) -> list[Atoms]:
        """Generate n surfaces: the slab with an overlayer of this composition.

        Structure k is the same for every n and batch size, and that of `surfdiff sample` with the
        same networks, settings and seed.

        Args:
            slab: ASE atoms, a file that ASE reads, or a shipped slab (ag111_c2x8, ag111_p3x3,
                ag111_p4x4). Its substrate is that of `Template.from_slab`: the frozen atoms and
                free layers like theirs; all atoms if none is frozen.
            composition: formula of the overlayer, such as "Ag6O3".
            n: how many structures.
            seed: of all that is random.
            z_range: Å above the highest atom of the slab, the confinement; None: the training's.
            allow_other_z_range: whether it may differ from the training's.
            energy: eV per overlayer atom above the lowest of the composition: surfaces that a score
                trained with `task.properties` is asked for; None: any.
            condition_weight: of classifier-free guidance toward energy and composition; None: 1
                with an energy, else nothing is asked for.
            batch_size: structures computed at once; changes speed and memory alone.
            show_progress: whether to show a progress bar.

        Returns:
            n structures: slab first (under FixAtoms), then the overlayer in the order of the
            formula; the energy of the force field (eV) in `.calc`; in `.info` index, seed, finite
            (False: positions or forces overflowed, and the structure was left where it was),
            steps, composition, and the digests of the networks.

        Raises:
            ValueError: for an element that a network does not know, a slab without a periodic cell
                in the plane or with too little vacuum for the cutoff, another z_range, n < 1, an
                energy that the score cannot be asked for.
        """
        if n < 1 or batch_size < 1:
            raise ValueError(f"n and batch_size must be at least 1, not {n} and {batch_size}")
        condition = None
        if energy is not None or condition_weight is not None:
            weight = 1.0 if condition_weight is None else float(condition_weight)
            condition = settings.Condition.of({"energy": energy, "weight": weight})
        generation = self.on(slab, composition, seed, z_range, allow_other_z_range, condition)
        chunks = batches(range(n), batch_size)
        total = self.steps * len(chunks)
        bar = iter(progress(range(total), "sample", total) if show_progress else ())
        fill = batch_size if len(chunks) > 1 else 0
        made = [generation.generate(chunk, bar, fill).generated for chunk in chunks]
        for _ in bar:
            pass
        return [atoms for some in made for atoms in some]

    def _require_known(self, condition: settings.Condition | None) -> None:
        """Raise ValueError for a condition that the score has not learned."""
        if condition is None:
            return
        known = self.score.properties
        wanted = "energy" if condition.energy is not None else "composition"
        if wanted not in known:
            has = f"knows the {known[0]} alone" if known else "knows no properties"
            raise ValueError(
                f"the score in {self.score.source} {has} and cannot be asked for the {wanted}: "
                "train one with task.properties=[energy,composition]"
            )

    def _window(
        self, z_range: tuple[float, float] | None, allow_other: bool
    ) -> tuple[float, float]:
        """Return the confinement, Å above the slab: the score's own, unless another is given.

        ValueError if it is not what the networks were trained in.
        """
        own, field = self.score.window, self.force_field
        low, high = z_range or own
        window = (float(low), float(high))
        if allow_other:
            return window
        if window != own:
            raise ValueError(
                f"the z range {list(window)} is not the training's {list(own)} Å: leave z_range "
                "out, or set allow_other_z_range=true"
            )
        if field is not None and not field.window[0] <= window[0] < window[1] <= field.window[1]:
            raise ValueError(
                f"the force field in {field.source} was trained in the z range "
                f"{list(field.window)} Å, which does not hold {list(window)}: train it anew, or "
                "set allow_other_z_range=true"
            )
        return window


def _both(score: str | Path, forcefield: Any) -> tuple[str | Path, Any]:
    """Return the networks of a pipeline's folder or of a shipped model, if `score` is one."""
    places = {kind: Path(score) / place / "model.pt" for kind, place in TRAININGS.items()}
    if not Path(score).exists():
        places = {kind: file_of(str(score), kind) or place for kind, place in places.items()}
    if not places["score"].is_file():
        return score, forcefield
    if forcefield is None and places["forcefield"].is_file():
        forcefield = places["forcefield"]
    return places["score"], forcefield
