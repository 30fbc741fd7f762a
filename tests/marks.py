"""Which marks a test gets: those of what it uses, found in its code, its fixtures and helpers.

A mark written by hand would be forgotten; `slow` alone is written by hand, where a measurement
asks for it.
"""

import inspect
import multiprocessing
import subprocess
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import BaseContext
from types import CodeType
from typing import Any

import pytest

PLACES = {
    "tests/system/notebooks/": "notebook",
    "tests/integration/contracts/test_compiled_steps.py": "compile",
    "tests/system/pipeline/test_compiled.py": "compile",
    "tests/unit/painnx/test_compiled_function.py": "compile",
    "tests/integration/sweeps/test_launch.py": "processes",
    "tests/integration/harness/test_benchmark.py": "processes",
}
"""Marks of whole files and folders."""

PARAMETERS = {"postgresql": "server", "inductor": "compile", "speed": "processes"}
"""Marks of tests with these fixtures or parameters: a database, a backend, an experiment."""


def marks(item: pytest.Function) -> set[str]:
    """Return the names of the marks of a test."""
    found = {mark for place, mark in PLACES.items() if item.nodeid.startswith(place)}
    for used in _reached([*_functions(item), *_parameters(item)]):
        if used is subprocess or used is multiprocessing or isinstance(used, BaseContext):
            found.add("processes")
        elif getattr(used, "__name__", "") == "Browser":
            found.add("browser")
        elif getattr(used, "__name__", "") == "InductorMessages":
            found.add("compile")
        elif getattr(used, "__name__", "") in ("HTTPServer", "ThreadingHTTPServer", "psycopg"):
            found.add("server")
    given = {*item.fixturenames, *(value for value in _parameters(item) if isinstance(value, str))}
    return found | {mark for name, mark in PARAMETERS.items() if name in given}


def _parameters(item: pytest.Function) -> Iterable[Any]:
    return item.callspec.params.values() if hasattr(item, "callspec") else ()


def _functions(item: pytest.Function) -> Iterator[Callable[..., Any]]:
    """Yield the test itself and the fixtures of the tests' own that it uses."""
    yield item.function
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        yield definitions[-1].func


def _reached(functions: Iterable[Any]) -> list[Any]:
    """Return what their code names, followed through the tests' own functions and classes."""
    stack, seen = list(functions), {}
    while stack:
        thing = stack.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if (getattr(thing, "__module__", None) or "").startswith("tests"):
            thing = inspect.unwrap(thing) if callable(thing) else thing
            members = vars(thing).values() if isinstance(thing, type) else [thing]
            for function in members:
                function = getattr(function, "fget", None) or function
                if code := getattr(function, "__code__", None):
                    scope = function.__globals__
                    stack += [scope[name] for name in _names(code) if name in scope]
    return list(seen.values())


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names of a function and of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
