"""What is kept in `info` and in arrays: what every file format of the project returns.

The measure is extxyz, in ASE's own words: a key or value that its reader does not return as it was
(an empty text, None, "12e3", a name of a label such as `energy`) is left out of every format, so
that a file holds the same in each.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from io import StringIO
from typing import Any

import numpy as np
from ase import Atoms

LARGEST = 2**31 - 1
"""Of integers: extxyz reads longer ones as text or as numbers of another kind on some systems."""
OF_ASE = "adsorbate_info"
"""Entry in which ASE's builders keep the sites of a slab; nothing to report if it is lost."""
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def kept_info(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Select the single values that files keep: texts, numbers and booleans, as plain Python."""
    found = {}
    for key, value in info.items():
        if isinstance(value, np.generic) or isinstance(value, np.ndarray) and value.ndim == 0:
            value = value.item()
        if isinstance(value, str | bool | int | float) and _returns(key, value):
            found[key] = value
    return found


def _returns(key: Any, value: str | bool | int | float) -> bool:
    """Test whether an extxyz file returns this entry, between others, as it was."""
    if not isinstance(key, str) or not _is_free_name(key):
        return False
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) <= LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    return _text_returns(value)


@lru_cache(maxsize=4096)
def _is_free_name(key: str) -> bool:
    """Test whether a name in `info` means nothing else to extxyz, to ASE's databases or to npz."""
    if not PLAIN_NAME.fullmatch(key):
        return False
    probe = Atoms("H", cell=np.eye(3), info={key: 1})
    try:
        return bool(_through_extxyz(probe).info == {key: 1})
    except Exception:  # ASE's reader raises nearly anything
        return False


@lru_cache(maxsize=65536)
def _text_returns(text: str) -> bool:
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

    if not text.isprintable():
        return False
    entry = {"before": 1, "text": text, "after": 2}
    try:
        return bool(key_val_str_to_dict(key_val_dict_to_str(entry)) == entry)
    except Exception:  # ASE's reader raises nearly anything
        return False


def lost_arrays(atoms: Atoms, keeps_arrays: bool) -> list[str]:
    """Name the per-atom arrays that a file would not return: those of odd names, kinds or texts.

    `keeps_arrays`: whether the format keeps arrays that ASE does not know.
    """
    return [
        name
        for name, array in atoms.arrays.items()
        if name not in STANDARD and not (keeps_arrays and _array_returns(name, array))
    ]


STANDARD = ("numbers", "positions", "tags", "momenta", "masses", "initial_magmoms",
            "initial_charges")  # fmt: skip
"""Arrays that each format of ASE has a place for."""


def _array_returns(name: str, array: np.ndarray) -> bool:
    kind = array.dtype.kind
    if array.ndim > 2 or not _column_returns(str(name), kind, array.shape[1:]):
        return False
    if kind == "U":  # a blank would begin another column, and shift those behind it
        return all(text and text.isprintable() and not re.search(r"\s", text) for text in array)
    return kind != "i" or bool((abs(array) <= LARGEST).all())


@lru_cache(maxsize=256)
def _column_returns(name: str, kind: str, shape: tuple[int, ...]) -> bool:
    """Test whether an extxyz file returns an array of this name, kind and shape per atom."""
    if not PLAIN_NAME.fullmatch(name) or (kind == "U" and shape):
        return False
    probe, value = Atoms("H2", cell=np.eye(3)), "x" if kind == "U" else 0
    try:
        array = np.full((2, *shape), value, dtype=None if kind == "U" else kind)
        probe.set_array(name, array)
        found = _through_extxyz(probe)
        back = found.arrays[name]
        known = found.calc is None and set(found.arrays) == set(probe.arrays)
        return known and back.dtype.kind == kind and np.array_equal(back, array)
    except Exception:  # ASE's writer and reader raise nearly anything
        return False


def _through_extxyz(atoms: Atoms) -> Atoms:
    from ase.io import read, write

    text = StringIO()
    write(text, atoms, format="extxyz")
    text.seek(0)
    found = read(text, format="extxyz")
    assert isinstance(found, Atoms)
    return found
