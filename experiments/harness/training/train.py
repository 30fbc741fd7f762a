"""Train a score network (task=score) or a force field (task=forcefield).

The run folder gets metrics, checkpoints and `model.pt`, one file from which the network, its
z range, elements and cutoff are rebuilt. The same command continues an interrupted run to the same
numbers.
"""

import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.config.instantiate import build
from experiments.harness.config.settings import Train
from experiments.harness.execution.progress import progress
from experiments.harness.execution.torch_setup import device_of, prepare_torch
from experiments.harness.runs.run_folder import Observe

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms

    from sdedata import StructureSet

log = logging.getLogger(__name__)

SHOWN = 4
VALIDATED = ("val", "forcefield")  # what a model's card records
MAY_CHANGE = (
    "tracking", "output", "device", "threads", "task.network.backend", "train.checkpoint_every"
)  # fmt: skip


def run(config: Train, observe: Observe | None = None) -> dict[str, Any]:
    """Train, validate and save; returns the summary."""
    from experiments.harness.figures.plots import learning_curves
    from experiments.harness.runs.run_folder import RunFolder
    from experiments.harness.tracking.artifacts import of_dataset, of_model
    from experiments.harness.tracking.tracker import Tracker
    from experiments.harness.training.checkpoint import CORRECTION, save_model
    from experiments.harness.training.data import source_of, training_data
    from experiments.harness.training.objectives import make_task
    from experiments.harness.training.trainer import Trainer, seeded

    device = device_of(config.device)
    prepare_torch(config.threads)
    build(config.sde)  # also for a force field: a wrong config is refused
    data = training_data(config, config.task.kind)
    train, val, facts, notes = data.train, data.val, data.facts, data.notes
    energies, examples, captions = _shown(data.structures)
    del data  # training needs the graphs alone
    seeded(config.seed)
    task = make_task(config, facts["elements"], train)
    plain = config.plain()
    recorded = plain | {"digest": facts["digest"]}
    tracking = plain["tracking"] | {"tags": [*plain["tracking"]["tags"], config.task.kind]}
    folder = RunFolder(Path(config.output) / "train" / config.name)
    with folder.recording(recorded, MAY_CHANGE, config.overrides, str(device)):
        folder.write_json("data.json", facts)
        for note in notes:
            log.info(note)
        log.info(
            f"{config.task.kind}: {facts['structures']} of {facts['of']} structures of "
            f"{facts['data']} (data.z_range, data.max_energy, data.oxygen); {len(train)} to "
            f"learn from, {len(val)} held out; "
            f"{sum(p.numel() for p in task.network.parameters()):,} parameters; {device}"
        )
        trainer = Trainer(
            task, train, val, config.train, config.data.max_repeats, config.seed, device
        )
        checkpoint = folder / "checkpoints/last.pt"
        if checkpoint.is_file():
            trainer.resume(checkpoint)
        with Tracker(
            folder, **tracking, job_type="train", name=config.name, observe=observe
        ) as tracker:
            if not any(row.get("event") == "structures" for row in folder.rows()):
                tracker.energies("data", energies.tolist())
                tracker.structures("examples", examples, captions)
            source = source_of(config.data, config.task.kind)
            tracker.artifact(of_dataset(source, facts["digest"]), uses=True)
            _train(trainer, checkpoint, tracker)
            losses = {k: v for k, v in trainer.last.items() if k.split("/")[0] in VALIDATED}
            card = facts | {"cutoff": config.cutoff, "steps": trainer.step, "sde": plain["sde"]}
            if (properties := plain["task"].get("properties")) is not None:
                card["properties"] = properties
            kind = config.task.kind if config.data.minus is None else CORRECTION
            save_model(folder / "model.pt", kind, trainer.best, card | {"losses": losses})
            tracker.artifact(of_model(folder.path, kind))
            tracker.figure("learning_curves", learning_curves(folder.rows()))
            reported = ("train/loss", *losses)
            tracker.summary({k: v for k, v in trainer.last.items() if k in reported})
    text = ", ".join(f"{k} {v:.4g}" for k, v in losses.items())
    log.info(f"{folder.path}/model.pt after {trainer.step} steps: {text}")
    return folder.summary


def _train(trainer: Any, checkpoint: Path, tracker: Any) -> None:
    """Take the steps that are left, and log those that have no row yet."""
    folder, reached = tracker.folder, trainer.last.get("train/step", 0)
    logged = max((row.get("train/step", 0) for row in folder.rows()), default=0)
    if logged < reached:
        log.warning(f"{folder.path}/metrics.jsonl lost its rows from step {logged} to {reached}")
        tracker.log(trainer.last)
    total = trainer.settings.steps
    with closing(trainer.run(checkpoint)) as steps:
        for row in progress(steps, "train", total, trainer.step):
            if len(row) > 1 and row["train/step"] > logged:
                tracker.log(row)
    if not trainer.last:  # of a checkpoint of 0.1, which did not keep them
        rows = [k_v for row in folder.rows() for k_v in row.items()]
        trainer.last = {k: v for k, v in rows if isinstance(v, int | float)}


def _shown(structures: "StructureSet") -> "tuple[np.ndarray, list[Atoms], list[str]]":
    """What is learned from: energies (eV) above the lowest of each stoichiometry; some lowest."""
    energies = structures.relative_energy
    first = energies.argsort(kind="stable")[:SHOWN]
    captions = [str(structures.compositions[i]) for i in first]
    return energies, [structures.atoms(int(i)) for i in first], captions
