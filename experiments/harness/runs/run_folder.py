"""The run folder: everything a command did, on disk, before any tracker receives it.

    config.yaml       the resolved configuration
    metrics.jsonl     one row per event, flushed as it happens
    summary.json      the results, flat, names as in W&B
    environment.json  commit, versions, device
    structures/ checkpoints/ figures/

A process may be killed at any point. Files are replaced whole, rows and frames are appended and a
half-written last one is ignored by readers and cut by the next writer. Repeating a command on its
folder therefore continues it. ``Path`` objects are stored relative to the folder, so that a folder
can be moved.
"""

import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from experiments.harness.runs.atomic_io import (
    alone,
    last_whole_line,
    naming,
    remove_unfinished,
    whole_frames,
    write_text,
)
from experiments.harness.runs.config_keys import differences
from experiments.harness.runs.frames import iterate_frames, lowest_frames, sort_frames
from experiments.harness.runs.provenance import git_commit, versions
from experiments.harness.runs.records import FORMS, Row, checked_as, read_record, refuse
from experiments.harness.runs.strict_parsing import parse_json

WRITTEN_ALONE = ("structures", "checkpoints", "figures")
"""Folders in which none but the process that has the lock writes."""
LABELLED = "labelled"
"""File of a labelling run: structures with their energies and forces."""
EXPLAINS = "learned_from"
"""The key that tells a reader in words what a digest beside it stands for; it may be reworded."""
Observe = Callable[[Mapping[str, Any]], None]
"""Called with every row of a run as it is written; what it raises ends the run."""


class OtherConfiguration(ValueError):
    """A folder holds a run with another configuration; ``how`` names the keys that differ."""

    def __init__(self, path: Path, how: str) -> None:
        super().__init__(
            f"{path} holds a run with another configuration ({how}): give this run another name, "
            "or remove the folder"
        )
        self.how = how


class RunFolder:
    """One run at ``path``, which is made if missing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._checked: set[Path] = set()  # files whose end this object has made whole
        self._is_reserved = False  # whether the next `alone` has the lock already

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Open a run that must be there; ValueError if it is not."""
        if not (Path(path) / "config.yaml").is_file():
            raise ValueError(f"{path} is not a run folder: it has no config.yaml")
        return cls(path)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def __truediv__(self, name: str) -> Path:
        """A path inside the folder, its parents made; ValueError if a link leads it elsewhere."""
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{path} leads out of the folder: replace the link by what it names")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def relative(self, path: str | os.PathLike[str]) -> str:
        """``path`` as it is stored: relative to the folder."""
        return os.path.relpath(Path(path).resolve(), self.path.resolve())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, nobody else works on this run: Busy, a ValueError, if somebody does."""
        if self._is_reserved:
            self._is_reserved = False
            try:
                yield
            finally:
                self._is_reserved = True
            return
        with alone(self / ".lock", f"another process works in {self.path}"):
            for name in ("", *WRITTEN_ALONE):
                remove_unfinished(self / name)
            yield

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Inside, this object's `alone` is the only one that succeeds: for what comes before it.

        Raises ValueError, before any work, for a record of this run that is damaged.
        """
        with self.alone():
            for name in FORMS:
                read_record(self.path / name)
            self.rows()
            self._is_reserved = True
            try:
                yield
            finally:
                self._is_reserved = False

    @contextmanager
    def recording(
        self,
        config: Mapping[str, Any],
        may_change: Iterable[str] = (),
        overrides: Sequence[str] | None = None,
        device: str = "cpu",
    ) -> Iterator["RunFolder"]:
        """Inside, a command makes or continues this run, alone; first its lock, then its files.

        Arguments and errors as in `save_config` and `save_environment`; before anything is written,
        Busy if another process works on the run, and ValueError for a record that is damaged.
        """
        with self.reserved():
            self.save_config(config, may_change, overrides)
            self.save_environment(device)
            yield self

    # Configuration

    def save_config(
        self,
        config: Mapping[str, Any],
        may_change: Iterable[str] = (),
        overrides: Sequence[str] | None = None,
    ) -> None:
        """Write ``config`` (nested), or check it against the one that made this folder.

        ``may_change`` names keys ("train.epochs", or a whole group "tracking") that a continued
        run may set anew. Any other difference is a ValueError, an `OtherConfiguration`.
        ``overrides``, what was set by KEY=VALUE, goes to overrides.yaml, as Hydra does it.
        """
        new, old = self.plain(config), self.config
        allowed = tuple(may_change)
        differing = [
            line
            for key, line in differences(old, new)
            if key.rpartition(".")[2] != EXPLAINS
            and not any(key == name or key.startswith(name + ".") for name in allowed)
        ]
        if old and differing:
            raise OtherConfiguration(self.path, "; ".join(differing))
        self._write_yaml("config.yaml", new)
        if overrides is not None:
            self._write_yaml("overrides.yaml", list(overrides))

    def _write_yaml(self, name: str, content: Any) -> None:
        write_text(self / name, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    @property
    def config(self) -> dict[str, Any]:
        """What made this folder, empty if nothing has; ValueError for a file that is damaged."""
        return read_record(self.path / "config.yaml")

    @property
    def overrides(self) -> list[str]:
        """What the command line set: KEY=VALUE; empty if nothing, or if it is not known."""
        return list(read_record(self.path / "overrides.yaml"))

    @property
    def environment(self) -> dict[str, Any]:
        """What `save_environment` wrote; empty if nothing."""
        return read_record(self.path / "environment.json")

    # Events

    def log(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Append one event to metrics.jsonl and return it as written: NaN and infinity are null."""
        written = self.plain(row)
        text = self._json(written) + "\n"
        self._append(self / "metrics.jsonl", text, lambda file: last_whole_line(file.read()))
        return written

    def rows(self) -> list[dict[str, Any]]:
        """All events; a half-written last line is not one."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        whole = path.read_bytes()
        lines = whole[: last_whole_line(whole)].split(b"\n")[:-1]  # not where Unicode ends lines
        return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]

    # Results

    @property
    def summary(self) -> dict[str, Any]:
        """The results so far; ValueError for a file that is damaged."""
        return read_record(self.path / "summary.json")

    def update_summary(self, values: Mapping[str, Any]) -> None:
        """Add flat results, such as ``{"gen/n": 64}``."""
        new = self.plain(values)
        nested = [name for name, value in new.items() if isinstance(value, (dict, list))]
        if nested:
            raise ValueError(f"a summary is flat: {', '.join(nested)} must be one number or text")
        self.write_json("summary.json", self.summary | new)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace a JSON file in the folder whole."""
        write_text(self / name, self._json(content, indent=2) + "\n")

    def save_environment(self, device: str = "cpu") -> None:
        """Write what the numbers may depend on besides the configuration; no host name."""
        import torch

        self.write_json(
            "environment.json",
            {
                "commit": git_commit(),
                "python": platform.python_version(),
                "platform": f"{platform.system()} {platform.machine()}",
                "device": str(device),
                "threads": torch.get_num_threads(),
                **versions(),
            },
        )

    # Structures

    def save_structures(self, name: str, frames: Iterable[Any]) -> Path:
        """Replace structures/<name>.extxyz by these ASE atoms."""
        path = self / f"structures/{name}.extxyz"
        from sdedata.files import extxyz

        write_text(path, extxyz(frames))
        return path

    def append_structures(self, name: str, frames: Iterable[Any]) -> Path:
        """Add ASE atoms to structures/<name>.extxyz, after the last whole frame."""
        path = self / f"structures/{name}.extxyz"
        from sdedata.files import extxyz

        self._append(path, extxyz(frames), lambda file: sum(map(len, whole_frames(file))))
        return path

    def structures(self, name: str, first: int | None = None) -> list[Any]:
        """The first, or all, whole frames of structures/<name>.extxyz; none if there is no file.

        Raises ValueError for a frame that cannot be read, or that lacks what it is known by.
        """
        return list(islice(self.iterate(name), first))

    def lowest(self, name: str, count: int) -> list[Any]:
        """Return the structures of structures/<name>.extxyz with the lowest energies, sorted."""
        return lowest_frames(self.path / f"structures/{name}.extxyz", count)

    def iterate(self, name: str) -> Iterator[Any]:
        """Yield what `structures` returns, one frame in memory at a time."""
        return iterate_frames(self.path / f"structures/{name}.extxyz")

    def tidy(self, name: str) -> None:
        """Sort structures/<name>.extxyz by index and falling t.

        Each is there once, as it was first: a kill may have left a structure in one file and not in
        the next, and the continued run has appended it again.
        """
        path = self.path / f"structures/{name}.extxyz"
        if path.is_file():
            sort_frames(path, lambda atoms: (atoms.info["index"], -atoms.info.get("t", 0.0)))

    def _append(self, path: Path, text: str, whole_end: Callable[[BinaryIO], int]) -> None:
        """Append ``text``, the first time after cutting what a killed writer left half-written."""
        if path not in self._checked and path.is_file():
            with open(path, "rb") as file:
                end = whole_end(file)
            os.truncate(path, end)
        self._checked.add(path)
        with naming(path), open(path, "a", encoding="utf-8") as file:
            file.write(text)

    def plain(self, value: Any) -> Any:
        """``value`` as JSON knows it: arrays to lists, paths to relative text, NaN to None."""
        if isinstance(value, Mapping):
            return {str(key): self.plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.plain(item) for item in value]
        if isinstance(value, os.PathLike):
            return self.relative(value)
        if hasattr(value, "tolist"):  # NumPy arrays and scalars, torch tensors
            return self.plain(value.tolist())
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    def _json(self, value: Any, indent: int | None = None) -> str:
        return json.dumps(self.plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _parse(path: Path, number: int, line: bytes) -> dict[str, Any]:
    where, remedy = f"{path}, line {number},", "remove that line"
    try:
        content = parse_json(line)
    except (ValueError, RecursionError):
        refuse(where, "is not JSON", remedy)
    return checked_as(Row, content, where, remedy)
