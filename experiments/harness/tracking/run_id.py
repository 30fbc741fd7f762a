"""Which W&B run a folder is: kept in its tracking.json, drawn when it is first tracked."""

import hashlib
import re
import secrets
from pathlib import Path
from typing import Any

from experiments.harness.runs.records import read_record
from experiments.harness.runs.run_folder import RunFolder

ID_LENGTH = 64


def identity(folder: RunFolder) -> dict[str, Any]:
    """Read tracking.json: the W&B run that this is, and its exit code; empty if never tracked."""
    return read_record(folder.path / "tracking.json")


def new_id(folder: RunFolder) -> str:
    """Draw a W&B id for a folder that has none: its place, to be read by people, and a random end.

    runs/train/first becomes train-first-3f9a01c2, and the same place in another clone, or after the
    folder was removed, another run. runs/quickstart/mine/train/score, a run inside another one,
    becomes quickstart-mine-train-score-...
    """
    return valid_id(f"{_place(folder.path.resolve())}-{secrets.token_hex(4)}")


def _place(path: Path) -> str:
    own = f"{path.parent.name}-{path.name}"
    outer = outer_run(path)
    return own if outer is None else f"{_place(outer)}-{own}"


def outer_run(path: Path) -> Path | None:
    """Return the run folder that a stage's folder is in, as KIND/NAME; None for other runs."""
    parents = path.resolve().parents
    found = len(parents) > 1 and (parents[1] / "config.yaml").is_file()
    return parents[1] if found else None


def group_of(folder: RunFolder, follows: Path | None) -> str:
    """Return what a run is grouped with where no group is given.

    A stage is in the group of the experiment or trial whose folder it is in; a run that continues
    another's work (`follows`: the folder of its model or samples) in that one's group; any other
    begins a group of its own name.
    """
    for other in (outer_run(folder.path), follows):
        if other is not None and (other / "config.yaml").is_file():
            run = RunFolder(other)
            return identity(run).get("group") or group_of(run, None)
    return folder.name


def valid_id(text: str) -> str:
    """``text`` in characters that W&B takes; a long one keeps its end and a digest of the whole."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", text)
    if len(plain) <= ID_LENGTH:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return f"{digest}-{plain[-ID_LENGTH + 9 :]}"
