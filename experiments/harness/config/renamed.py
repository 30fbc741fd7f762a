"""Keys of configs that had another name in earlier versions."""

from collections.abc import Iterator
from typing import Any

RENAMED = {
    "data.within": "data.max_energy",
    "data.window": "data.z_range",
    "template.window": "template.z_range",
    "allow_other_window": "allow_other_z_range",
    "sampler.refine": "sampler.time_power",
    "task.refine_times": "task.time_power",
    "surrogate.leap": "surrogate.trust_radius",
    "task.network.messages": "task.network.backend",
    "hypothesis": "claim",
}
"""Keys as configs, data sets and models of earlier versions call them, and their names today."""


def renamed(node: Any, prefix: str = "") -> Any:
    """A nested mapping with today's names for the keys of `RENAMED`."""
    if not isinstance(node, dict):
        return node
    found = {}
    for key, value in node.items():
        path = f"{prefix}{key}"
        found[RENAMED.get(path, path).rpartition(".")[2]] = renamed(value, f"{path}.")
    return found


def former_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys of a nested mapping that have another name today."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if f"{prefix}{key}" in RENAMED:
            yield f"{prefix}{key}"
        yield from former_keys(value, f"{prefix}{key}.")


def new_name(key: str) -> str:
    """What to add to a complaint about an unknown key: its name today, if it had another."""
    return f"; it is called {RENAMED[key]} now" if key in RENAMED else ""
