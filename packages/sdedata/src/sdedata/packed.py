"""Named arrays, `info` and `meta` in one npz file without pickle."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdedata.arrays import PER_ATOM, PER_STRUCTURE, valid_arrays
from sdedata.files import require_file

MOST_PACKED = 200
"""How many times its size a file may unpack to, if that is more than `LARGE`."""
LARGE = 2**30
"""Bytes."""


def read_packed(path: Path) -> dict[str, Any]:
    """Read arrays by name, `info` (arrays) and `meta`; ValueError naming an invalid file."""
    require_file(path)
    try:
        _require_size(path)
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        if missing := {*PER_STRUCTURE, *PER_ATOM, "meta"} - stored.keys():
            raise ValueError(f"it has no array {min(missing)}")
        meta = json.loads(str(stored["meta"]))
        if not isinstance(meta, dict):
            raise ValueError(f"its meta is {type(meta).__name__}, not a mapping")
        prefix = "info."
        facts = [name for name in stored if name.startswith(prefix)]
        info = {name.removeprefix(prefix): stored[name] for name in facts}
        return {**valid_arrays(stored, info), "info": info, "meta": meta}
    except Exception as error:  # a broken archive raises nearly any exception
        raise ValueError(
            f"{path} is not a packed structure set: {error or type(error).__name__}"
        ) from error


def write_packed(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    info: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
) -> None:
    """Write what :func:`read_packed` returns, compressed."""
    facts = {f"info.{key}": value for key, value in info.items()}
    stored: dict[str, Any] = {**arrays, **facts, "meta": np.array(json.dumps(meta))}
    np.savez_compressed(path, **stored)


def _require_size(path: Path) -> None:
    """Raise ValueError for an archive that would unpack to far more than structures do."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(LARGE, MOST_PACKED * path.stat().st_size):
        raise ValueError(f"it would unpack to {unpacked / LARGE:.0f} GiB")
