"""Generation of structures with wanted properties: classifier-free guidance."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vpsde.protocols import Graph


@dataclass(frozen=True)
class ClassifierFree:
    """The score of structures with wanted properties, made more extreme by a weight.

    s = (1 + w) s(x | c) - w s(x), the gradient of log p(x | c) + w log p(c | x) up to a constant
    (Ho and Salimans 2022, arXiv:2207.12598, Eq. 6). A model of the kind that `vpsde.sample` takes.
    """

    score: Callable[[Graph, Tensor, Tensor], Tensor]
    """score(graph, t, properties): a NaN property is not asked for."""
    properties: Float[Tensor, "b p"]
    """c of each structure."""
    weight: float
    """w: 0 is the conditional score itself, in one call instead of two; -1 the one without c."""

    def __call__(self, graph: Graph, t: Float[Tensor, " b"]) -> Float[Tensor, "n 3"]:
        conditional = self.score(graph, t, self.properties)
        if self.weight == 0:
            return conditional
        free = self.score(graph, t, torch.full_like(self.properties, math.nan))
        return torch.lerp(free, conditional, 1 + self.weight)
