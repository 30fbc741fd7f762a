"""Learning curves of a training, as rows of the run that it is a part of."""

from typing import Any

from experiments.harness.runs.run_folder import RunFolder


def axes(name: str) -> dict[str, str]:
    """What the rows of `log_curves` are drawn against (see `Tracker.axes`)."""
    return {f"curves/{name}/*": f"curves/{name}/step"}


def log_curves(name: str, training: RunFolder, tracker: Any) -> None:
    """Log the validation errors of a training as curves/NAME/..., each row once."""
    axis = f"curves/{name}/step"
    logged = sum(axis in row for row in tracker.folder.rows())
    validated = [row for row in training.rows() if "val/loss" in row]
    for row in validated[logged:]:
        errors = {
            f"curves/{name}/{key.split('/')[1]}": value
            for key, value in row.items()
            if key.startswith(("val/", "forcefield/"))
        }
        tracker.log({axis: row["train/step"], **errors})
