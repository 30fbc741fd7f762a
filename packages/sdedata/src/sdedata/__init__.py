"""Surface structures: graphs, templates, random structure search, labelled data sets.

The central object is a batch of slabs whose atoms are frozen or mobile, confined to a window in z
and periodic in the plane (:class:`Graph`). Everything else here makes, stores, repeats or compares
such objects.
"""

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
