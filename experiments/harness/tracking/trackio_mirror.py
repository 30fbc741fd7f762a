"""A run folder's rows in Trackio: W&B's interface on one's own machine, without an account.

`tracking=trackio`, then `trackio show --project surfaces`. All runs lie in one folder, TRACKIO_DIR
or the user's; a run is called by its id there, as Trackio continues runs by their names.
"""

from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from types import SimpleNamespace
from typing import Any

from experiments.harness.runs.run_folder import RunFolder
from experiments.harness.tracking.wandb_media import as_config, as_media, shown_name
from experiments.harness.tracking.wandb_mirror import ROW

INSTALL = "tracking=trackio needs another package: pip install -c constraints.txt trackio"


def local_mode(given: str | None) -> str:
    """Choose a run's mode: offline, if it is not given.

    Raises ValueError for "online", and if the package is missing.
    """
    if given == "online":
        raise ValueError(
            "tracking.mode=online is W&B's: Trackio keeps runs on this machine, or where its own "
            "TRACKIO_SERVER_URL or TRACKIO_SPACE_ID says"
        )
    if find_spec("trackio") is None:
        raise ValueError(INSTALL)
    return given or "offline"


class TrackioMirror:
    """One run of Trackio."""

    def __init__(self, folder: RunFolder, about: Mapping[str, Any]) -> None:
        import trackio

        self.folder, self.about = folder, about
        self.run: Any = None
        self._trackio, self._interface = trackio, _in_words_of_wandb(trackio)
        self._last = 0
        self._results: dict[str, float] = {}

    def start(self) -> int:
        """Begin or continue the run; return how many rows Trackio has."""
        from trackio import context_vars
        from trackio.sqlite_storage import SQLiteStorage

        project = self.about["project"]
        with redirect_stdout(StringIO()):
            context_vars.current_run.set(None)  # else Trackio ends the run around this one
            self.run = self._trackio.init(
                project,
                name=self.about["id"],
                group=self.about["group"],
                config=as_config(self.folder) | {"tags": self.about["tags"]},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            context_vars.current_run.set(None)  # and this one once more at the process's end
        self.run.offline = False  # for `artifacts.link`
        last = SQLiteStorage.get_max_step_for_run(project, run_id=self.run.id)
        return 0 if last is None else last + 1

    def show(self, row: Mapping[str, Any], number: int) -> None:
        """Show one row, at the step of its number; Trackio draws no molecules."""
        is_shipped = "digest" in row  # and links only what one of its runs has made
        media = {} if is_shipped else as_media(self._interface, self.run, self.folder, row)
        shown = {key: value for key, value in media.items() if not key.endswith("/molecules")}
        self.run.log({**shown, ROW: number}, step=number)
        self._last = number

    def show_summary(self, summary: Mapping[str, Any]) -> None:
        """Keep the results until the end: Trackio has no other place than a row for them."""
        self._results = {shown_name(k): v for k, v in summary.items() if isinstance(v, int | float)}

    def finish(self, exit_code: int) -> None:
        """Show the results and the exit code beside the last row, and end the run."""
        self.run.log({**self._results, "exit_code": exit_code}, step=self._last)
        with redirect_stdout(StringIO()):
            self.run.finish()

    def close(self) -> None:
        """Do nothing: all that a start takes is the run."""


def _in_words_of_wandb(trackio: Any) -> Any:
    """Give Trackio's classes the signatures by which `as_media` draws rows in W&B."""

    class Artifact(trackio.Artifact):  # type: ignore[misc]
        def add_file(self, path: str, name: str, skip_cache: bool = True) -> None:
            super().add_file(path, name)

    return SimpleNamespace(
        Artifact=Artifact,
        Image=trackio.Image,
        Html=trackio.Html,
        Histogram=trackio.Histogram,
        Table=trackio.Table,
        plot_table=lambda chart, table, fields, texts: table,
        Molecule=lambda text, caption, file_type: None,
        errors=SimpleNamespace(CommError=ValueError),
    )
