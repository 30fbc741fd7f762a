"""Run the command of a run folder again, on the same inputs, and compare what comes out."""

import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from experiments.harness.comparison.folder_diff import Difference, folder_differences
from experiments.harness.comparison.run_reader import parts
from experiments.harness.config.compose import load
from experiments.harness.config.settings import SCHEMAS
from experiments.harness.config.trust import require_known, require_no_resolver
from experiments.harness.pipeline.kinds import KINDS
from experiments.harness.runs.run_folder import OtherConfiguration, RunFolder
from experiments.harness.tracking.run_id import identity

MODULES = {kind.command: kind.module for kind in KINDS.values()}
TIMED = ("benchmark", "search_cost")
"""Commands whose results are times."""


@dataclass(frozen=True)
class Repetition:
    """A run folder beside what its command makes now."""

    path: Path
    command: str
    differences: list[Difference]
    remarks: list[str]
    """How code, versions and machine differ from those that made the folder."""

    def within(self, tolerance: float) -> bool:
        return all(one.largest <= tolerance for one in self.differences)


def verifiable(path: Path) -> list[RunFolder]:
    """Return the run at `path`, or those below it, that can be run again; ValueError if none."""
    top = [path] if (path / "config.yaml").is_file() else []
    found = [RunFolder(one) for one in (*top, *parts(path))] if path.is_dir() else []
    runs = [folder for folder in found if command_of(folder) is not None]
    if not runs:
        known = ", ".join(command for command in MODULES if command not in TIMED)
        raise ValueError(f"{path} holds no run that can be verified, one of {known}")
    return runs


def command_of(folder: RunFolder) -> str | None:
    """Return the command that made a folder; None if it is no single one, or its results times."""
    command = identity(folder).get("job_type") or folder.path.resolve().parent.name
    return command if command in MODULES and command not in TIMED else None


def repeat(
    folder: RunFolder, overrides: Mapping[str, Any] | None = None, trust: bool = False
) -> Repetition:
    """Run a folder's command again in a temporary folder, and compare.

    Args:
        folder: of a finished run; nothing is written there.
        overrides: keys that a continued run may change, such as batch_size or score.
        trust: whether to build what is on no list of ours (`config.trust`).

    Raises:
        ValueError: for a run that is not finished, an input that is not the one whose digest the
            folder records, another setting, or what the command itself refuses.
    """
    command = command_of(folder)
    assert command is not None
    if not folder.summary or identity(folder).get("exit_code", 0) != 0:
        raise ValueError(f"{folder.path} has not finished: repeat its command first")
    settings = _settings(folder, command, trust)
    with tempfile.TemporaryDirectory(prefix="surfdiff-verify-") as home:
        changed = {"output": home, "tracking.mode": "disabled", **(overrides or {})}
        again = RunFolder(Path(home) / command / settings.name)
        # beside its config, a run on other inputs is refused before it computes
        shutil.copy(folder.path / "config.yaml", again / "config.yaml")
        try:
            import_module(MODULES[command]).run(
                settings.changed(changed), observe=_Inputs(folder).check
            )
        except OtherConfiguration as error:
            raise ValueError(f"{folder.path} was made with other inputs: {error.how}") from error
        found = folder_differences(folder.path, again.path)
        return Repetition(folder.path, command, found, _remarks(folder, again))


def _settings(folder: RunFolder, command: str, trust: bool) -> Any:
    """Return the settings that a folder's config.yaml records; ValueError if they are not valid."""
    where, schema = str(folder.path / "config.yaml"), SCHEMAS[command]
    known = {key: value for key, value in folder.config.items() if key in schema.model_fields}
    try:
        settings = schema.of(known)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not trust:
        require_known(known, where)
        require_no_resolver(known, where)
        training = (known.get("surrogate") or {}).get("training")
        if training is not None:  # overrides, which may name anything
            require_known(load("train", training).plain(), where)
    return settings


class _Inputs:
    """The inputs whose digests a folder records."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path
        self.recorded = {_digest(row) for row in folder.rows() if row.get("event") == "uses"}

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise ValueError for an input that the folder does not record."""
        if row.get("event") == "uses" and self.recorded and _digest(row) not in self.recorded:
            kind, digest = _digest(row)
            known = " and ".join(str(d) for k, d in sorted(self.recorded) if k == kind)
            raise ValueError(
                f"{self.path} was made with other inputs: its {kind} had the digest "
                f"{known or 'of none'}, that of {row.get('name')} is {digest}"
            )


def _digest(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["type"]), str(row.get("version") or row.get("digest"))


def _remarks(folder: RunFolder, again: RunFolder) -> list[str]:
    """Return in what the environments of two runs differ."""
    then, now = folder.environment, again.environment
    return [
        f"{key} was {then.get(key)}, is now {now.get(key)}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]


def report(found: Repetition, tolerance: float) -> list[str]:
    """Return lines about each file, and whether the run was reproduced."""
    lines = [f"{found.path} ({found.command})", *(f"  {remark}" for remark in found.remarks)]
    width = max((len(one.file) for one in found.differences), default=0)
    for one in found.differences:
        if one.same_bytes:
            how = "equal byte for byte"
        elif one.largest == 0:
            how = "equal"
        elif one.largest <= tolerance:
            how = f"equal within {one.largest:.1e} ({one.where})"
        elif math.isinf(one.largest):
            how = f"different: {one.where}"
        else:
            how = f"differs by {one.largest:.1e} in {one.where}"
        lines.append(f"  {one.file:<{width}}  {how}")
    same = found.within(tolerance)
    return [*lines, f"  {'reproduced' if same else 'not reproduced'} within {tolerance:g}"]
