"""Weights & Biases, or Trackio, as a mirror of the run folder.

Whatever a ``Tracker`` receives goes to the folder first, as one row of metrics.jsonl (histograms,
figures and structures too), and is then shown to W&B. So the mirror can be rebuilt at any time:

    with Tracker(RunFolder("runs/train/first")):
        pass

is all it takes, and is what happens whenever a command continues a run; `surfdiff sync` does it
for many. A mirror never stops a run: if it fails, one line reports it and the run continues.

The folder's tracking.json records which W&B run it is (id, project, group, ...) and how it ended.
Its id holds for good, so a folder that is moved or renamed keeps its run.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from experiments.harness.execution.signals import exit_code, sigterm_exits
from experiments.harness.runs.energies import energy_statistics
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.tracking.run_id import group_of, identity, new_id, valid_id
from experiments.harness.tracking.trackio_mirror import TrackioMirror, local_mode
from experiments.harness.tracking.wandb_mirror import WandbMirror
from experiments.harness.tracking.wandb_variables import mode_of, tags_of_variable, variable

PROJECT = "surfaces"
AXES = {name + "/*": "train/step" for name in ("train", "val", "forcefield")}
SERVICES = {"wandb": "W&B", "trackio": "Trackio"}


class Mirror(Protocol):
    """Where the rows of a folder are shown."""

    def start(self) -> int: ...
    def show(self, row: Mapping[str, Any], number: int) -> None: ...
    def show_summary(self, summary: Mapping[str, Any]) -> None: ...
    def finish(self, exit_code: int) -> None: ...
    def close(self) -> None: ...


class Tracker:
    """Record a run: ``with Tracker(folder) as tracker: tracker.log({"train/loss": 0.1})``.

    service   where it is shown: wandb, or trackio, which is offline or disabled
    mode      online, offline, disabled, or None: online if a key is there, else offline
    id        of the W&B run; None: as in tracking.json, or drawn (see `new_id`)
    group     what this run is compared with (a sweep, an experiment); None: see `group_of`
    follows   folder of the run whose model or samples this one uses; job_type: the entry point
    axes      which row entry is the x axis of which other entries
    observe   is called with each new row once it is recorded, and may raise to end the run

    Where mode, project, entity, group or name is None, and for more tags, W&B's own variables
    count: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_RUN_GROUP, WANDB_NAME, WANDB_TAGS;
    WANDB_NOTES always does.

    Only one at a time works on a folder: entering raises ValueError if another process does.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        service: str = "wandb",
        mode: str | None = None,
        id: str | None = None,
        project: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        follows: Path | None = None,
        axes: Mapping[str, str] = AXES,
        observe: Observe | None = None,
    ) -> None:
        self.service = service
        self.folder = folder
        self.mode = local_mode(mode) if service == "trackio" else mode_of(mode)
        self.axes = dict(axes)
        self.observe = observe
        self.about: dict[str, Any] = {
            "id": identity(folder).get("id") or (valid_id(id) if id else new_id(folder)),
            "project": project or variable("PROJECT") or PROJECT,
            "entity": entity or variable("ENTITY"),
            "group": group or variable("RUN_GROUP") or group_of(folder, follows),
            "job_type": job_type or folder.path.resolve().parent.name,
            "name": variable("NAME") or name or folder.name,
            "tags": list(dict.fromkeys([*tags, *tags_of_variable()])),
        }
        self.mirror: Mirror | None = None
        self.failed = False  # whether the mirror has failed in the mode that it is in
        self.first = 0  # how many rows the mirror had when this began
        self._row = 0  # the number of the next row to mirror
        self._closing = ExitStack()  # what else to undo at the end

    # What entry points call

    def log(self, row: Mapping[str, Any]) -> None:
        """One event: scalars by name, such as ``{"train/step": 3, "train/loss": 0.1}``."""
        written = self.folder.log(row)
        self._try(lambda mirror: self._show(mirror, written))
        if self.observe is not None:
            self.observe(written)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Results of the run, flat; merged into summary.json."""
        self.folder.update_summary(values)
        self._try(lambda mirror: mirror.show_summary(self.folder.summary))

    def energies(self, name: str, values: Sequence[float]) -> dict[str, float]:
        """Energies (eV, relative to the reference) as quantiles, fixed bins and histograms.

        Returns the statistics, named for the summary: ``<name>/energy_min`` and so on.
        """
        statistics = energy_statistics(name, values)
        self.log({"event": "energies", "name": name, "energies": list(values), **statistics})
        return statistics

    def figure(self, name: str, figure: Any) -> Path:
        """Save a Matplotlib figure as figures/<name>.png and .svg, and show it."""
        from experiments.harness.figures.plots import save

        path = save(figure, self.folder / f"figures/{name}.png")
        self.log({"event": "figure", "name": name, "file": path})
        return path

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table, such as a study's trials. A column may mix types; None is no value."""
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(
                    f"table {name} has {len(columns)} columns, but a row of {len(row)}: {row}"
                )
        self.log({"event": "table", "name": name, "columns": list(columns), "rows": list(rows)})

    def structures(
        self, name: str, frames: Sequence[Any] | None = None, captions: Sequence[str] = ()
    ) -> Path:
        """Record ASE atoms as structures/<name>.extxyz; None: the file is already there.

        W&B gets the file as an artifact. The first frames, as many as there are ``captions`` (so
        give the best first), are also shown: from top and side in one picture, which is saved as
        figures/<name>_structures.png, and as molecules.
        """
        from experiments.harness.figures.plots import save, structures

        path = self.folder / f"structures/{name}.extxyz"
        if frames is not None:
            self.folder.save_structures(name, frames)
        elif not path.is_file():
            raise ValueError(f"{path} does not exist: give the structures")
        row = {"event": "structures", "name": name, "file": path, "captions": list(captions)}
        if captions:
            figure = structures(self.folder.structures(name, len(captions)), captions)
            row["picture"] = save(figure, self.folder / f"figures/{name}_structures.png")
        self.log(row)
        return path

    def page(self, name: str, path: Path) -> None:
        """Show a self-contained HTML file of the folder."""
        self.log({"event": "page", "name": name, "file": path})

    def artifact(self, row: Mapping[str, Any], uses: bool = False) -> None:
        """Record a file that this run makes or uses (see `artifacts`), once."""
        what = {"event": "uses", **row, "file": None} if uses else {"event": "makes", **row}
        written = self.folder.plain(what)
        if written not in self.folder.rows():
            self.log(what)

    # The run's beginning and end

    def __enter__(self) -> Self:
        self._closing.enter_context(self.folder.alone())
        self._closing.enter_context(sigterm_exits())
        self._remember(exit_code=None)
        if self.mode != "disabled":
            self._start()
        if self.mode == "online" and self.mirror is None:  # keep a log to be synced later
            self.mode, self.failed = "offline", False
            self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._closing:
            self._remember(exit_code(error))
            self._try(lambda mirror: self._finish(mirror, exit_code(error)))

    def _remember(self, exit_code: int | None) -> None:
        """Who this run is; ``exit_code`` None while it runs, and for ever if it is killed."""
        self.folder.write_json("tracking.json", self.about | {"exit_code": exit_code})

    def _start(self) -> None:
        self.mirror = self._new_mirror()
        self._try(self._show_folder)

    def _new_mirror(self) -> Mirror:
        if self.service == "trackio":
            return TrackioMirror(self.folder, self.about)
        return WandbMirror(self.folder, self.mode, self.about, self.axes)

    def _try(self, action: Callable[[Mirror], None]) -> None:
        """Do something with the mirror; if it fails, log one line and continue without."""
        if (mirror := self.mirror) is None:
            return
        try:
            action(mirror)
        except Exception as error:
            self.mirror, self.failed = None, True
            where = f"{SERVICES[self.service]} ({self.mode})"
            reason = " ".join(str(error).split())[:200]
            print(
                f"{where} failed, the run continues: {type(error).__name__}: {reason}",
                file=sys.stderr,
            )
            with suppress(Exception):
                mirror.finish(exit_code=1)
            mirror.close()

    def _show_folder(self, mirror: Mirror) -> None:
        self._row = self.first = mirror.start()
        for row in self.folder.rows()[self.first :]:
            self._show(mirror, row)
        mirror.show_summary(self.folder.summary)

    def _show(self, mirror: Mirror, row: Mapping[str, Any]) -> None:
        mirror.show(row, self._row)
        self._row += 1

    def _finish(self, mirror: Mirror, exit_code: int) -> None:
        mirror.show_summary(self.folder.summary)
        mirror.finish(exit_code)
        mirror.close()
        self.mirror = None
