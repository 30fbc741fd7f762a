"""Weights & Biases as a mirror of the run folder; the only module that imports it.

Whatever a ``Tracker`` is told goes to the folder first, as one row of metrics.jsonl (histograms,
figures and structures too), and is then shown to W&B. So the mirror can be rebuilt at any time:

    with Tracker(RunFolder("runs/train/first")):
        pass

is all it takes, and is what happens whenever a command continues a run. W&B never stops a run: if
it fails, one line says so and the folder goes on.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from experiments.energies import HISTOGRAM_EDGES, bin_counts, energy_statistics, finite
from experiments.login import has_key
from experiments.runfolder import RunFolder

MODES = ("online", "offline", "disabled")
AXES = {name + "/*": "train/step" for name in ("train", "val", "forcefield")}


class Tracker:
    """Record a run: ``with Tracker(folder) as tracker: tracker.log({"train/loss": 0.1})``.

    mode      online, offline, disabled, or None: online if a key is there, else offline
    group     what this run is compared with (a sweep, an experiment); job_type: the entry point
    axes      which row entry is the x axis of which other entries
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        mode: str | None = None,
        project: str = "surfaces",
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        axes: Mapping[str, str] = AXES,
    ) -> None:
        mode = mode or ("online" if has_key() else "offline")
        if mode not in MODES:
            raise ValueError(f"tracking.mode={mode} is not one of {', '.join(MODES)}")
        if mode == "online" and not has_key():
            raise ValueError(
                "tracking.mode=online needs a W&B key: run `wandb login`, or use mode=offline"
            )
        self.folder = folder
        self.mode = mode
        self.axes = dict(axes)
        self.about = {
            "project": project,
            "entity": entity,
            "group": group,
            "job_type": job_type or folder.path.resolve().parent.name,
            "name": name or folder.name,
            "tags": list(tags),
        }
        self.run: Any = None  # the W&B run, None while there is none
        self._seen = 0  # rows of the folder that were already there, or mirrored since

    # What entry points call

    def log(self, row: Mapping[str, Any]) -> None:
        """One event: scalars by name, such as ``{"train/step": 3, "train/loss": 0.1}``."""
        self.folder.log(row)
        self._try(self._mirror, {**row})

    def summary(self, values: Mapping[str, Any]) -> None:
        """Results of the run, flat; merged into summary.json."""
        self.folder.update_summary(values)
        self._try(self._mirror_summary)

    def energies(self, name: str, values: Sequence[float]) -> dict[str, float]:
        """Energies (eV, relative to the reference) as quantiles, fixed bins and histograms.

        Returns the statistics, named for the summary: ``<name>/energy_min`` and so on.
        """
        statistics = energy_statistics(name, values)
        self.log({"event": "energies", "name": name, "energies": list(values), **statistics})
        return statistics

    def figure(self, name: str, figure: Any) -> Path:
        """Save a Matplotlib figure as figures/<name>.png and .svg, and show it."""
        from experiments.plots import save

        path = save(figure, self.folder / f"figures/{name}.png")
        self.log({"event": "figure", "name": name, "file": path})
        return path

    def structures(self, name: str, frames: Sequence[Any] | None = None, shown: int = 4) -> Path:
        """Record ASE atoms as structures/<name>.extxyz; None: the file is already there.

        W&B gets the file as an artifact, and of the first ``shown`` frames (give the best ones
        first) a picture from top and side, and a molecule.
        """
        path = self.folder / f"structures/{name}.extxyz"
        if frames is not None:
            self.folder.save_structures(name, frames)
        elif not path.is_file():
            raise ValueError(f"{path} does not exist: give the structures")
        self.log({"event": "structures", "name": name, "file": path, "shown": shown})
        return path

    # The run's beginning and end

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(signal.SIGTERM, _exit_on_sigterm)
        else:
            self._old_handler = None
        if self.mode != "disabled":
            self._try(self._start, starting=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            self._try(self._finish, 0 if kind is None else _exit_code(error))
        finally:
            if self._old_handler is not None:
                signal.signal(signal.SIGTERM, self._old_handler)

    def _try(self, action: Any, *arguments: Any, starting: bool = False) -> None:
        """Do something with W&B; on failure say so in one line and go on without it."""
        if self.run is None and not starting:
            return
        try:
            action(*arguments)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            print(f"W&B is off ({type(error).__name__}: {reason}); {self.folder.path} goes on "
                  "and can be mirrored later", file=sys.stderr)  # fmt: skip
            failed, self.run = self.run, None
            if failed is not None:
                _quietly(failed.finish, exit_code=1)

    def _start(self) -> None:
        home = self.folder.path.resolve() / "wandb"
        home.mkdir(exist_ok=True)
        # Else artifacts are staged in the user's home directory.
        os.environ.setdefault("WANDB_DATA_DIR", str(home / "data"))
        os.environ.setdefault("WANDB_CACHE_DIR", str(home / "cache"))
        import wandb

        run_id = _run_id(self.folder)
        settings: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "disable_git": True,  # environment.json has the commit
            "host": "",
            "init_timeout": 30,
        }
        if "x_transaction_log_flush_interval" in wandb.Settings.model_fields:
            # Else the offline log is written in blocks of 32 KiB, which a SIGKILL loses.
            settings["x_transaction_log_flush_interval"] = 1
        first = _drop_unsynced(home, run_id) if self.mode == "offline" else 0
        self.run = wandb.init(
            id=run_id,
            resume="allow",
            mode=self.mode,
            dir=str(self.folder.path.resolve()),
            config=self.folder.config,
            allow_val_change=True,
            reinit="create_new",
            settings=wandb.Settings(**settings),
            **self.about,
        )
        for entries, axis in self.axes.items():
            self.run.define_metric(axis)
            self.run.define_metric(entries, step_metric=axis)
        if self.mode == "online":  # a continued run knows how far it came
            first = self.run.summary.get("row", -1) + 1
        self._seen = first
        for row in self.folder.rows()[first:]:
            self._mirror(row)
        self._mirror_summary()

    def _finish(self, exit_code: int) -> None:
        self._mirror_summary()
        run, self.run = self.run, None
        run.finish(exit_code=exit_code)

    # Showing rows to W&B

    def _mirror(self, row: Mapping[str, Any]) -> None:
        """Show one row. Its number goes along, so that a resumed mirror knows where it stopped."""
        show = {"energies": _energies, "figure": _figure, "structures": _structures}.get(
            str(row.get("event")), _scalars
        )
        shown = show(self, row)
        self.run.log({**shown, "row": self._seen})
        self._seen += 1

    def _mirror_summary(self) -> None:
        self.run.summary.update(self.folder.summary)
