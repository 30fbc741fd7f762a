"""The message sum of `painnx.messages_eager`, compiled by torch (Inductor) for any device."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from painnx.blocks import TORCH_UPDATE, UpdateKernels
from painnx.compiled_function import CompiledFunction
from painnx.messages_eager import EagerMessages, added, geometry, summed


@dataclass(frozen=True)
class InductorMessages(EagerMessages):
    """The same sums by compiled programs, each from the edge vectors to the sums."""

    update_kernels: ClassVar[UpdateKernels] = UpdateKernels(*map(CompiledFunction, TORCH_UPDATE))

    @classmethod
    def _per_edge(cls, vectors: Tensor, n_radial: int, cutoff: float) -> tuple[Tensor, ...]:
        return (vectors,)

    def __call__(
        self,
        contexts: Float[Tensor, "s 3 f"],
        vectors: Float[Tensor, "s 3 f"] | None,
        filters: Float[Tensor, "r 3 f"],
        to: tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"] | None] | None = None,
    ) -> tuple[Float[Tensor, "m f"], Float[Tensor, "m 3 f"]]:
        """Sum the messages of all neighbours; arguments as for `EagerMessages`."""
        one_per_row = contexts.new_empty(self.n_receivers if to is None else len(to[0]), 0)
        features = contexts, vectors, filters
        ends = self.senders, self.receivers, one_per_row
        return added(_sum(self.cutoff)(*self.per_edge, *features, *ends), to)


@cache
def _sum(cutoff: float) -> CompiledFunction:
    """The sum as a function of tensors alone: the number of its rows is a tensor's length."""
    return CompiledFunction(
        lambda r, x, v, w, senders, receivers, one_per_row: summed(
            *geometry(r, len(w) - 1, cutoff), x, v, w, senders, receivers, len(one_per_row)
        )
    )
