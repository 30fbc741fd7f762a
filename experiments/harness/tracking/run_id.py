"""Which W&B run a folder is: said in its tracking.json, or made of its place."""

import hashlib
import json
import re
from typing import Any

from experiments.harness.runs.run_folder import RunFolder

ID_LENGTH = 64


def identity(folder: RunFolder) -> dict[str, Any]:
    """What tracking.json says: which W&B run this is, and its exit code; empty if never tracked."""
    path = folder.path / "tracking.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def run_id_of(folder: RunFolder) -> str:
    """The W&B id of a run that was given none: the same for the same place below the output root.

    runs/train/first is train-first. A run inside another one, as a pipeline's stage is, adds its
    place to that one's id: runs/quickstart/mine/train/score is quickstart-mine-train-score.
    """
    path = folder.path.resolve()
    own = f"{path.parent.name}-{path.name}"
    outer = path.parents[1] if len(path.parents) > 1 else path.parent
    if not (outer / "config.yaml").is_file():
        return valid_id(own)
    around = RunFolder(outer)
    return valid_id(f"{identity(around).get('id') or run_id_of(around)}-{own}")


def valid_id(text: str) -> str:
    """``text`` in characters that W&B takes; a long one keeps its end and a digest of the whole."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", text)
    if len(plain) <= ID_LENGTH:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return f"{digest}-{plain[-ID_LENGTH + 9 :]}"
