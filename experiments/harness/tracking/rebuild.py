"""Rebuild W&B runs from run folders, as after a kill: `surfdiff sync runs/...`.

Takes run folders, and folders that hold some at any depth. What W&B has already is left alone; an
incomplete offline log is replaced by a complete one. A run that a process works on is left alone.
Exit code 1 if not every run could be mirrored.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.run_id import identity
from experiments.harness.tracking.tracker import Tracker
from experiments.harness.tracking.wandb_media import shown_name
from experiments.harness.tracking.wandb_mirror import count_rows, inspect

KILLED = 128 + 9
"""The exit code of a run that never recorded its end."""


class NotSynced(Exception):
    """W&B did not take a run."""


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """The run folders at and below ``paths``, outer ones first; ValueError if one has none."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise ValueError(f"there is no folder {path}")
        below = list(_below(path))
        if not below:
            raise ValueError(f"{path} is no run folder and holds none: no config.yaml in it")
        found |= dict.fromkeys(below)
    return list(found)


def _below(path: Path) -> Iterable[Path]:
    for place, folders, files in os.walk(path):
        # W&B's own files are no runs, though there is a config.yaml among them.
        folders[:] = sorted(name for name in folders if name != "wandb" and name[0] != ".")
        if "config.yaml" in files:
            yield Path(place)


def sync(path: Path, mode: str | None = None) -> str:
    """Mirror the run at ``path`` as a Tracker would, and return in a few words what was done.

    ValueError if a process works on it or its files cannot be read; NotSynced if W&B failed.
    """
    folder = RunFolder.existing(path)
    rows, config = folder.rows(), folder.config
    if not rows and not folder.summary:
        return "nothing to show yet"
    about = identity(folder)
    ended = about.pop("exit_code", 0 if folder.summary else KILLED)
    about = about or _from_config(config)
    tracker = Tracker(folder, **about | {"mode": mode})
    if tracker.mode == "offline" and is_mirrored(folder, tracker.about["id"]):
        return "already complete"
    # The run ends here as it ended there: a killed one is not to look finished.
    with suppress(SystemExit), tracker:
        new = len(rows) - tracker.first
        raise SystemExit(KILLED if ended is None else ended)
    if tracker.failed:
        raise NotSynced(f"not synced, W&B failed ({tracker.mode})")
    files = {row[key] for row in rows for key in ("file", "picture") if row.get(key)}
    missing = sum(not (folder.path / name).is_file() for name in files)
    text = f"{len(rows)} rows"
    text += f" ({new} of them new to W&B)" if new < len(rows) else ""
    text += f", {len(files) - missing} files"
    text += f" ({missing} more are gone)" if missing else ""
    return f"{text}, {tracker.mode} as {tracker.about['id']}"


def _from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Who a run is that no Tracker has worked on."""
    tracking = config.get("tracking") or {}
    known = ("id", "project", "entity", "group", "tags")
    return {key: tracking[key] for key in known if tracking.get(key) is not None}


def is_mirrored(folder: RunFolder, run_id: str) -> bool:
    """Whether one of the folder's logs ends with its last row, its summary and its end."""
    summary = {shown_name(key): value for key, value in folder.summary.items() if value is not None}
    for log in (folder.path / "wandb").glob(f"*run-*/run-{run_id}.wandb"):
        logged = inspect(log)
        held = logged["summary"]
        if (
            logged["exit_code"] is not None
            and count_rows(held) == len(folder.rows())
            and all(held.get(key) == value for key, value in summary.items())
        ):
            return True
    return False


def sync_all(paths: Iterable[Path], mode: str | None = None) -> Iterator[tuple[Path, str, bool]]:
    """Mirror every run at and below the paths; yield its folder, the outcome, and if it succeeded.

    ValueError, before the first, for a path without runs or for mode="online" without a key.
    """
    folders = run_folders(paths)
    if mode == "online":
        Tracker(RunFolder(folders[0]), mode="online")  # refuses if there is no key
    for path in folders:
        try:
            yield path, sync(path, mode), True
        except (ValueError, OSError, NotSynced) as error:
            yield path, " ".join(str(error).split()), False
