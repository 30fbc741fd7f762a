"""Lineage: data set -> model -> samples -> evaluation, as versioned artifacts of W&B.

A run records what it makes and what it uses as rows of its folder. Both sides build the same
artifact of the same name and content, so that W&B recognises it, whichever of the runs it hears of
first. W&B links what a run uses when it is online; `surfdiff sync` does it for offline runs.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.run_id import identity

NAME_LENGTH = 128


def of_file(kind: str, file: Path) -> dict[str, Any]:
    """Describe a file as an artifact.

    Args:
        kind: of artifact, such as "model" or "structures".
        file: named after the run in whose folder it is, else by itself.
    """
    folder = next((p for p in file.resolve().parents if (p / "tracking.json").is_file()), None)
    owner = identity(RunFolder(folder)).get("id") if folder is not None else None
    return {"type": kind, "name": "-".join(filter(None, [owner, file.stem])), "file": file}


def of_dataset(source: str, digest: str) -> dict[str, Any]:
    """Describe a data set: a file, or by its name and a digest of its content a shipped one."""
    if Path(source).is_file():
        return of_file("dataset", Path(source))
    return {"type": "dataset", "name": source, "digest": digest}


def of_model(source: str | Path) -> dict[str, Any]:
    """Describe a model: its file, or the folder of its training."""
    path = Path(source)
    return of_file("model", path / "model.pt" if path.is_dir() else path)


def link(wandb: Any, run: Any, folder: RunFolder, row: Mapping[str, Any]) -> None:
    """Tell W&B of an artifact that a run makes or uses; a file that is gone is left out."""
    artifact = wandb.Artifact(_valid(row["name"]), type=row["type"])
    if "digest" in row:
        artifact.metadata = {"digest": row["digest"]}
        with artifact.new_file("digest.txt") as file:
            file.write(row["digest"])
    else:
        path = folder.path / row["file"]
        if not path.is_file():
            return
        artifact.add_file(str(path), name=path.name, skip_cache=True)
    if row["event"] == "makes":
        run.log_artifact(artifact)
    elif not run.offline:
        run.use_artifact(artifact)


def _valid(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[-NAME_LENGTH:]
