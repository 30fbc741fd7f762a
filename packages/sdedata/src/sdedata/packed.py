"""Named arrays, `info` and `meta` in one npz file without pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdedata.files import require_file


def read_packed(path: Path) -> dict[str, Any]:
    """Read arrays by name, `info` (arrays) and `meta`; ValueError naming an invalid file."""
    require_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        meta = json.loads(str(stored.pop("meta")))
    except Exception as error:  # a broken archive raises nearly any exception
        raise ValueError(f"{path} is not a packed structure set: {error}") from error
    facts = [name for name in stored if name.startswith("info.")]
    info = {name.removeprefix("info."): stored.pop(name) for name in facts}
    return {**stored, "info": info, "meta": meta}


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
