"""Compositions of overlayers, such as Ag6O3."""

from functools import lru_cache

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.formula import Formula
from jaxtyping import Integer

MOST_ATOMS = 100_000
"""Of an overlayer: what would fill the memory is no composition."""


def parse_formula(formula: str) -> dict[str, int]:
    """Parse a composition, "Ag6O3" -> {"Ag": 6, "O": 3}; ValueError for an invalid one."""
    try:
        count = dict(Formula(formula).count())
    except Exception as error:  # ASE raises several kinds, some of them not ValueError
        raise ValueError(f"cannot read {formula!r} as a chemical formula such as Ag6O3") from error
    unknown = [symbol for symbol in count if atomic_numbers.get(symbol, 0) < 1]
    if unknown:
        raise ValueError(f"the formula {formula!r} names no element: {', '.join(unknown)}")
    if not count or min(count.values()) < 1:
        raise ValueError(f"the formula {formula!r} holds no atoms: give one such as Ag6O3")
    if sum(count.values()) > MOST_ATOMS:
        raise ValueError(f"the formula {formula!r:.40} holds more than {MOST_ATOMS} atoms")
    return count


def formula(numbers: Integer[np.ndarray, " n"]) -> str:
    """Write atomic numbers as a formula, metals first as in the paper, e.g. Ag6O3."""
    return _formula(tuple(sorted(int(z) for z in numbers)))


@lru_cache(maxsize=4096)
def _formula(numbers: tuple[int, ...]) -> str:
    return Formula.from_list([chemical_symbols[z] for z in numbers]).format("metal")
