"""Weights & Biases as a mirror of the run folder; the only module that imports it.

Whatever a ``Tracker`` receives goes to the folder first, as one row of metrics.jsonl (histograms,
figures and structures too), and is then shown to W&B. So the mirror can be rebuilt at any time:

    with Tracker(RunFolder("runs/train/first")):
        pass

is all it takes, and is what happens whenever a command continues a run; `surfdiff sync` does it
for many. W&B never stops a run: if it fails, one line reports it and the run continues.

The folder's tracking.json records which W&B run it is (id, project, group, ...) and how it ended.
Its id holds for good, so a folder that is moved or renamed keeps its run.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from fnmatch import fnmatch
from netrc import NetrcParseError, netrc
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from experiments.harness.execution.signals import exit_code, sigterm_exits
from experiments.harness.runs.energies import energy_statistics
from experiments.harness.runs.run_folder import Observe, RunFolder
from experiments.harness.tracking.run_id import group_of, identity, new_id, valid_id
from experiments.harness.tracking.wandb_media import MEDIA, as_media, shown_name

MODES = ("online", "offline", "disabled")
PROJECT = "surfaces"
HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # W&B's own, as `wandb login` names them
INIT_TIMEOUT = 30  # seconds that an online run waits for the network
FINISH_TIMEOUT = 300  # and that its end waits for uploads; what is left can be synced later
AXES = {name + "/*": "train/step" for name in ("train", "val", "forcefield")}


class Tracker:
    """Record a run: ``with Tracker(folder) as tracker: tracker.log({"train/loss": 0.1})``.

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
        mode = mode or _mode_of_wandb() or ("online" if has_key() else "offline")
        if mode not in MODES:
            raise ValueError(f"tracking.mode={mode} is not one of {', '.join(MODES)}")
        if mode == "online" and not has_key():
            raise ValueError(
                "tracking.mode=online needs a W&B key: run `wandb login`, or use mode=offline"
            )
        self.folder = folder
        self.mode = mode
        self.axes = dict(axes)
        self.observe = observe
        self.about: dict[str, Any] = {
            "id": identity(folder).get("id") or (valid_id(id) if id else new_id(folder)),
            "project": project or _of_wandb("PROJECT") or PROJECT,
            "entity": entity or _of_wandb("ENTITY"),
            "group": group or _of_wandb("RUN_GROUP") or group_of(folder, follows),
            "job_type": job_type or folder.path.resolve().parent.name,
            "name": _of_wandb("NAME") or name or folder.name,
            "tags": list(dict.fromkeys([*tags, *_tags_of_wandb()])),
        }
        self.run: Any = None  # W&B's run, None while there is none
        self.failed = False  # whether W&B has failed in the mode that it is in
        self.first = 0  # how many rows W&B had when this began
        self._wandb: Any = None
        self._defined: set[str] = set()  # numbers that W&B knows to be curves
        self._row = 0  # the number of the next row to mirror
        self._closing = ExitStack()  # what else to undo at the end

    # What entry points call

    def log(self, row: Mapping[str, Any]) -> None:
        """One event: scalars by name, such as ``{"train/step": 3, "train/loss": 0.1}``."""
        written = self.folder.log(row)
        self._try(lambda: self._mirror(written))
        if self.observe is not None:
            self.observe(written)

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
            self._try(self._start, always=True)
        if self.mode == "online" and self.run is None:  # no network: keep a log to be synced later
            self.mode, self.failed = "offline", False
            with suppress(Exception):
                self._wandb.teardown()  # else the failed start keeps the run's id in use
            self._try(self._start, always=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._closing:
            self._remember(exit_code(error))
            self._try(lambda: self._finish(exit_code(error)))

    def _remember(self, exit_code: int | None) -> None:
        """Who this run is; ``exit_code`` None while it runs, and for ever if it is killed."""
        self.folder.write_json("tracking.json", self.about | {"exit_code": exit_code})

    def _try(self, action: Callable[[], None], always: bool = False) -> None:
        """Do something with W&B; if it fails, log one line and continue without."""
        if self.run is None and not always:
            return
        try:
            action()
        except Exception as error:
            run, self.run, self.failed = self.run, None, True
            reason = " ".join(str(error).split())[:200]
            print(
                f"W&B ({self.mode}) failed, the run continues: {type(error).__name__}: {reason}",
                file=sys.stderr,
            )
            if run is not None:
                with suppress(Exception):
                    run.finish(exit_code=1)

    def _start(self) -> None:
        home = (self.folder / "wandb").resolve()
        home.mkdir(exist_ok=True)
        self._stage_below(home)
        import wandb

        self._wandb = wandb
        first = _rows_held(home, self.about["id"]) if self.mode == "offline" else 0
        self.run = wandb.init(
            resume="allow",
            dir=str(home.parent),
            config=self._config(),
            allow_val_change=True,
            reinit="create_new",
            notes=_of_wandb("NOTES"),
            settings=_settings(wandb),
            **self.about | {"mode": self.mode},
        )
        self._defined = set()
        for axis in self.axes.values():
            self.run.define_metric(axis, summary="none")
        if self.mode == "online":  # a continued run knows how far it came
            first = self.run.summary.get("row", -1) + 1
        self._row = self.first = first
        for row in self.folder.rows()[first:]:
            self._mirror(row)
        self._mirror_summary()

    def _config(self) -> dict[str, Any]:
        """What made the run: its configuration, what of it was overridden, code and versions."""
        more = {"overrides": self.folder.overrides, "environment": self.folder.environment}
        return self.folder.config | {key: value for key, value in more.items() if value}

    def _stage_below(self, home: Path) -> None:
        """Keep artifacts and caches in the folder; W&B would put them in the user's home."""
        for variable, name in (("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache")):
            if variable not in os.environ:
                os.environ[variable] = str(home / name)
                self._closing.callback(os.environ.pop, variable, None)

    def _finish(self, exit_code: int) -> None:
        self._mirror_summary()
        self.run.finish(exit_code=exit_code)
        self.run = None

    def _mirror(self, row: Mapping[str, Any]) -> None:
        """Show one row. Its number goes along, so that a continued run knows where it stopped."""
        media = as_media(self._wandb, self.run, self.folder, row)
        if row.get("event") not in MEDIA:
            self._define(media)
        self.run.log({**media, "row": self._row})
        self._row += 1

    def _define(self, names: Iterable[str]) -> None:
        """Declare numbers over time: their last value is no result of the run.

        W&B would make columns of its runs table of them, beside the results.
        """
        for name in set(names) - self._defined - set(self.axes.values()):
            axis = next((a for entries, a in self.axes.items() if fnmatch(name, entries)), None)
            self.run.define_metric(name, step_metric=axis, summary="none")
            self._defined.add(name)

    def _mirror_summary(self) -> None:
        summary = self.folder.summary
        self.run.summary.update({shown_name(key): value for key, value in summary.items()})


def _of_wandb(name: str) -> str | None:
    """The value of W&B's variable of this name; None if it is unset or empty."""
    return os.environ.get(f"WANDB_{name}") or None


def _mode_of_wandb() -> str | None:
    """The mode that W&B's variables set; ValueError for one that it does not know."""
    given = _of_wandb("MODE")
    mode = {"dryrun": "offline", "run": "online"}.get(given or "", given)
    if mode is not None and mode not in MODES:
        raise ValueError(f"WANDB_MODE={given} is not one of {', '.join(MODES)}")
    return mode


def _tags_of_wandb() -> list[str]:
    return [tag.strip() for tag in (_of_wandb("TAGS") or "").split(",") if tag.strip()]


def has_key() -> bool:
    """Whether W&B could log in without a prompt: a key in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    own = os.environ.get("WANDB_BASE_URL")
    hosts = [urlsplit(own).netloc] if own else HOSTS
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        with suppress(OSError, NetrcParseError):
            machines = netrc(str(path)).hosts
            if any(host in machines for host in hosts):
                return True
    return False


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
    if "x_transaction_log_flush_interval" in wandb.Settings.model_fields:
        settings["x_transaction_log_flush_interval"] = 1
    return wandb.Settings(**settings)


def _rows_held(home: Path, run_id: str) -> int:
    """How many rows the logs hold that W&B's servers have. Other logs, which this offline run will
    replace with a complete one, are removed, so that syncing all of them shows no row twice."""
    held = 0
    for log in home.glob("*run-*/run-*.wandb"):
        if log.parent.name.startswith("offline-") and not Path(f"{log}.synced").exists():
            shutil.rmtree(log.parent)
        elif log.name == f"run-{run_id}.wandb":
            held = max(held, inspect(log)["summary"].get("row", -1) + 1)
    return held


def inspect(log: Path) -> dict[str, Any]:
    """Read a log by W&B's own reader: "summary", "exit_code" (None if it has no end), ..."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(log)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
