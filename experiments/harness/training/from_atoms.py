"""Training from Python, on structures in memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ase import Atoms

from experiments.harness.config.compose import load
from experiments.harness.config.settings import Train
from experiments.harness.training.checkpoint import Model, load_model
from experiments.harness.training.train import run
from sdedata import StructureSet


def train(
    frames: Sequence[Atoms],
    task: Literal["score", "forcefield"] = "score",
    *,
    name: str | None = None,
    output: str | Path = "runs",
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> Model:
    """Train a network on labelled surfaces, in the run folder <output>/train/<name>.

    The same call continues a run that was interrupted, and loads one that is finished.

    Args:
        frames: with energies (eV) and forces (eV/Å) in `.calc`, and the substrate frozen.
            A score learns relaxed minima, a force field also the frames on the way to them.
        task: what to train: "score" (generates) or "forcefield" (guides and relaxes).
        name: of the run; None: the task's.
        output: folder of all runs.
        seed: of weights, batches, noise, and of which frames are held out.
        changes: values of the command's config by dotted key, such as {"train.steps": 500,
            "cutoff": 5.0, "data.z_range": (1.0, 4.0)}; `surfdiff train --help` lists them.

    Returns:
        The trained model, for `Generator.load` and `relax`; its file is model.pt in the folder.

    Raises:
        ValueError: for no frames, a frame that lacks labels or fixed atoms, an overlayer outside
            data.z_range, unknown keys, or a folder that holds another run.
    """
    config: Train = load("train", [f"task={task}"])
    config = config.changed({"name": name or config.name})
    home = Path(output) / "train" / config.name
    structures = StructureSet.from_atoms(frames, "frames")
    data = Path(output) / f"data/{structures.digest}.npz"
    structures.write(data)
    given = {"output": str(output), "seed": seed, "data.path": str(data)}
    run(config.changed({"tracking.mode": "disabled", **(changes or {}), **given}))
    return load_model(home, task)
