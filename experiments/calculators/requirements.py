"""What a calculator needs before it computes anything: a package, its weights, known elements."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols

FEW = 10
"""Elements that an error lists."""
INSTALL = {
    "sevenn": "pip install sevenn",
    "chgnet": "pip install chgnet",
    "mace": "pip install mace-torch, in an environment of its own (SevenNet needs another e3nn)",
    "mattersim": "pip install mattersim",
    "orb_models": "pip install orb-models",
    "fairchem": "pip install fairchem-core",
    "gpaw": "pip install gpaw, which compiles with libxc and BLAS (on Debian: apt install gpaw "
    "gpaw-data)",
}
"""How to install the package that a module belongs to, by the first part of the module's name."""


def module(name: str) -> Any:
    """Import a module of an optional package.

    Raises:
        ImportError: with the line that installs the package, if it is missing or broken.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == package
        reason = "is not installed" if missing else f"cannot be imported ({error})"
        raise ImportError(f"the package {package} {reason}: {INSTALL[package]}") from error


@contextmanager
def weights(model: str, remedy: str) -> Iterator[None]:
    """Turn whatever a package raises while it loads or downloads weights into one sentence.

    Raises:
        ValueError: naming the model, the reason and the remedy.
    """
    try:
        yield
    except Exception as error:  # packages raise anything where a download fails
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"the weights of {model} cannot be loaded ({type(error).__name__}: {reason}); {remedy}"
        ) from error


def require_elements(calculator: Calculator, numbers: Iterable[int]) -> None:
    """Refuse atomic numbers that a calculator does not know, as far as it lists those it knows.

    Raises:
        ValueError: naming the elements.
    """
    known = _elements(calculator)
    if known is None:
        return
    if unknown := set(map(int, numbers)) - known:
        only = f": it knows {_symbols(known)}" if len(known) <= FEW else ""
        name = type(calculator).__name__
        raise ValueError(f"the calculator {name} does not know {_symbols(unknown)}{only}")


def _symbols(numbers: Iterable[int]) -> str:
    return ", ".join(chemical_symbols[z] for z in sorted(numbers))


def _elements(calculator: Calculator) -> frozenset[int] | None:
    from ase.calculators import emt

    if type(calculator) is emt.EMT:
        return frozenset(chemical_symbols.index(symbol) for symbol in emt.parameters)
    return getattr(calculator, "elements", None)
