"""A run folder's rows in Weights & Biases; the only module that imports it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.wandb_media import MEDIA, as_config, as_media, shown_name
from experiments.harness.tracking.wandb_variables import variable

DATA = "data"
"""Energies of what is learned from, which are no result of a run."""
INIT_TIMEOUT = 30  # seconds that an online run waits for the network
FINISH_TIMEOUT = 300  # and that its end waits for uploads; what is left can be synced later
ROW = "_row"
"""The number of a row. Names with an underscore are private to W&B: no curve, no result."""


class WandbMirror:
    """One run of W&B, online or as a log in the folder.

    Args:
        folder: of the run.
        mode: online or offline.
        about: which run this is: id, project, entity, group, job_type, name, tags.
        axes: which number is the x axis of which others.
    """

    def __init__(
        self,
        folder: RunFolder,
        mode: str,
        about: Mapping[str, Any],
        axes: Mapping[str, str],
    ) -> None:
        self.folder, self.mode, self.axes = folder, mode, axes
        self.about = about
        self.run: Any = None
        self._wandb: Any = None
        self._defined: set[str] = set()  # numbers that W&B knows to be curves
        self._staged = ExitStack()

    def start(self) -> int:
        """Begin or continue the run; return how many rows W&B has."""
        home = (self.folder / "wandb").resolve()
        home.mkdir(exist_ok=True)
        self._stage_below(home)
        import wandb

        self._wandb = wandb
        held = _rows_held(home, self.about["id"]) if self.mode == "offline" else 0
        try:
            self.run = self._init(wandb, home.parent)
        except Exception:
            if self.mode == "online":  # else the failed start keeps the run's id in use
                with suppress(Exception):
                    wandb.teardown()
            raise
        for axis in self.axes.values():
            self.run.define_metric(axis, summary="none")
        if self.mode == "online":  # a continued run knows how far it came
            held = count_rows(self.run.summary)
        return held

    def _init(self, wandb: Any, folder: Path) -> Any:
        return wandb.init(
            resume="allow",
            dir=str(folder),
            config=as_config(self.folder),
            allow_val_change=True,
            reinit="create_new",
            notes=variable("NOTES"),
            settings=_settings(wandb),
            **dict(self.about) | {"mode": self.mode},
        )

    def show(self, row: Mapping[str, Any], number: int) -> None:
        """Show one row. Its number goes along, so that a continued run knows where it stopped."""
        media = as_media(self._wandb, self.run, self.folder, row)
        if row.get("event") not in MEDIA:
            self._define(media)
        elif row.get("name") == DATA:
            self._define(key for key, value in media.items() if isinstance(value, int | float))
        self.run.log({**media, ROW: number})

    def show_summary(self, summary: Mapping[str, Any]) -> None:
        """Show the results of the run."""
        self.run.summary.update({shown_name(key): value for key, value in summary.items()})

    def finish(self, exit_code: int) -> None:
        """End the run."""
        self.run.finish(exit_code=exit_code)

    def close(self) -> None:
        """Undo what `start` has set in this process."""
        self._staged.close()

    def _stage_below(self, home: Path) -> None:
        """Keep artifacts and caches in the folder; W&B would put them in the user's home."""
        for name, place in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache")):
            if name not in os.environ:
                os.environ[name] = str(home / place)
                self._staged.callback(os.environ.pop, name, None)

    def _define(self, names: Iterable[str]) -> None:
        """Declare numbers over time: their last value is no result of the run.

        W&B would make columns of its runs table of them, beside the results.
        """
        for name in set(names) - self._defined - set(self.axes.values()):
            axis = next((a for entries, a in self.axes.items() if fnmatch(name, entries)), None)
            self.run.define_metric(name, step_metric=axis, summary="none")
            self._defined.add(name)


def _settings(wandb: Any) -> Any:
    settings: dict[str, Any] = {
        "silent": True,
        "console": "off",
        "disable_git": True,  # environment.json has the commit
        "host": "",
        "init_timeout": INIT_TIMEOUT,
        "finish_timeout": FINISH_TIMEOUT,
        "finish_timeout_raises": True,
    }
    # A log is written in blocks of 32 KiB, which a SIGKILL loses; with this one, each second.
    # The command line may hold a password, of a sweep's storage; overrides.yaml has what it set.
    unofficial = {"x_transaction_log_flush_interval": 1, "x_disable_meta": True}
    known = wandb.Settings.model_fields
    return wandb.Settings(**settings, **{k: v for k, v in unofficial.items() if k in known})


def _rows_held(home: Path, run_id: str) -> int:
    """How many rows the logs hold that W&B's servers have. Other logs, which this offline run will
    replace with a complete one, are removed, so that syncing all of them shows no row twice."""
    held = 0
    for log in home.glob("*run-*/run-*.wandb"):
        if log.parent.name.startswith("offline-") and not Path(f"{log}.synced").exists():
            shutil.rmtree(log.parent)
        elif log.name == f"run-{run_id}.wandb":
            held = max(held, count_rows(inspect(log)["summary"]))
    return held


def count_rows(summary: Mapping[str, Any]) -> int:
    """Return how many rows W&B has of a run with this summary; older runs have the public name."""
    return max(summary.get(name, -1) for name in (ROW, "row")) + 1


def inspect(log: Path) -> dict[str, Any]:
    """Read a log by W&B's own reader: "summary", "exit_code" (None if it has no end), ..."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(log)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
