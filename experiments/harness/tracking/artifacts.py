"""Lineage: data set -> model -> samples -> evaluation, as versioned artifacts of W&B.

A run records what it makes and what it uses as rows of its folder. A file is uploaded by the run
that made it, from its own folder alone, with a digest of its content as an alias; a run that uses
it names artifact and alias, so that no other file can be sent. W&B links what a run uses when it is
online; `surfdiff sync` does it for offline runs, once it has the maker's. Of a file that no run
made, such as a user's data set, W&B gets the name and a digest.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.harness.runs.atomic_io import file_digest
from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.runs.shipped_models import file_of
from experiments.harness.tracking.run_id import identity

log = logging.getLogger(__name__)

NAME_LENGTH = 128


def of_file(kind: str, file: Path) -> dict[str, Any]:
    """Describe a file as an artifact.

    Args:
        kind: of artifact, such as "model" or "structures".
        file: named after the run in whose folder it is; one that no run made, of which W&B gets
            name and digest alone, by itself.
    """
    folder = next((p for p in file.resolve().parents if (p / "tracking.json").is_file()), None)
    owner = identity(RunFolder(folder)).get("id") if folder is not None else None
    if owner is None:
        return {"type": kind, "name": file.stem, "digest": file_digest(file)}
    name = f"{owner}-{file.stem}"
    return {"type": kind, "name": name, "version": file_digest(file), "file": file}


def of_dataset(source: str, digest: str) -> dict[str, Any]:
    """Describe a data set: a file, or by its name and a digest of its content a shipped one."""
    if Path(source).is_file():
        return of_file("dataset", Path(source))
    return {"type": "dataset", "name": source, "digest": digest}


def of_model(source: str | Path, kind: str) -> dict[str, Any]:
    """Describe a network: its file, the folder of its training, or the name of a shipped one."""
    path = Path(source)
    shipped = None if path.exists() else file_of(str(source), kind)
    if shipped is not None:
        return {"type": "model", "name": f"{source}-{kind}", "digest": file_digest(shipped)}
    return of_file("model", path / "model.pt" if path.is_dir() else path)


def link(wandb: Any, run: Any, folder: RunFolder, row: Mapping[str, Any]) -> None:
    """Log to W&B an artifact that a run makes or uses; a file that is gone is left out."""
    name = _valid(row["name"])
    if row["event"] == "makes":
        if (folder.path / row["file"]).is_file():
            artifact = wandb.Artifact(name, type=row["type"])
            upload(run, artifact, folder / row["file"], Path(row["file"]).name)
    elif run.offline:
        return
    elif "digest" in row:  # what no run made: a file of the package, or of the user
        artifact = wandb.Artifact(name, type=row["type"], metadata={"digest": row["digest"]})
        with artifact.new_file("digest.txt") as file:
            file.write(row["digest"])
        run.use_artifact(artifact)
    else:
        try:
            run.use_artifact(f"{name}:{row['version']}", type=row["type"])
        except (wandb.errors.CommError, ValueError):
            log.info(f"no run has logged {name}, which this run uses: sync the one that made it")


def upload(run: Any, artifact: Any, file: Path, name: str) -> None:
    """Log an artifact of one file, findable by the content."""
    artifact.add_file(str(file), name=name, skip_cache=True)
    run.log_artifact(artifact, aliases=["latest", file_digest(file)])


def _valid(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[-NAME_LENGTH:]
