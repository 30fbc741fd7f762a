"""Surface structures: graphs, templates, random structure search, labelled data sets.

The central object is a batch of slabs whose atoms are frozen or mobile, confined to a window in z
and periodic in the plane (:class:`Graph`). Everything else here makes, stores, repeats or compares
such objects.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdedata import shipped
    from sdedata.augment import repeat
    from sdedata.composition import parse_formula
    from sdedata.dataset import StructureSet, low_energy, oxygen_poor, oxygen_rich
    from sdedata.graph import Graph, collate
    from sdedata.neighbours import neighbour_list
    from sdedata.template import Template

__all__ = [
    "Graph",
    "StructureSet",
    "Template",
    "collate",
    "low_energy",
    "neighbour_list",
    "oxygen_poor",
    "oxygen_rich",
    "parse_formula",
    "repeat",
    "shipped",
]

_HOMES = {
    "Graph": "graph",
    "StructureSet": "dataset",
    "Template": "template",
    "collate": "graph",
    "low_energy": "dataset",
    "neighbour_list": "neighbours",
    "oxygen_poor": "dataset",
    "oxygen_rich": "dataset",
    "parse_formula": "composition",
    "repeat": "augment",
}
"""Module of each name: they are imported when used, as most of them bring torch."""


def __getattr__(name: str) -> Any:
    if name == "shipped":
        return import_module("sdedata.shipped")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"sdedata.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
