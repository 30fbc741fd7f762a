"""The structures of a batch as a sequence that takes little memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import torch
from jaxtyping import Int

from sdedata.graph import Graph


@dataclass(frozen=True, eq=False)
class Graphs(Sequence[Graph]):
    """Structures of a batch, each a graph of its own from the moment it is asked for.

    The tensors of 30,000 such graphs need 0.2 GB, most of it not for numbers.
    """

    whole: Graph
    ends: Int[np.ndarray, " e"]
    """Index of each structure's first atom, and the number of all."""
    chosen: Int[np.ndarray, " k"]
    """Index of each element's structure in the batch."""

    @classmethod
    def of(cls, whole: Graph) -> "Graphs":
        """Make the sequence of all structures of a batch."""
        ends = np.append(0, whole.counts.cumsum(0).numpy())
        return cls(whole, ends, np.arange(whole.n_structures))

    def subset(self, which: Iterable[int]) -> "Graphs":
        """Select elements by their indices, in that order."""
        return replace(self, chosen=self.chosen[np.array(list(which), dtype=int)])

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, k: int) -> Graph: ...
    @overload
    def __getitem__(self, k: slice) -> list[Graph]: ...
    def __getitem__(self, k: int | slice) -> Graph | list[Graph]:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        b, whole = int(self.chosen[k]), self.whole
        atoms, one = slice(int(self.ends[b]), int(self.ends[b + 1])), slice(b, b + 1)
        return replace(
            whole,
            positions=whole.positions[atoms],
            numbers=whole.numbers[atoms],
            batch=torch.zeros_like(whole.batch[atoms]),
            mobile=whole.mobile[atoms],
            cell=whole.cell[one],
            pbc=whole.pbc[one],
            window=whole.window[one],
            energy=None if whole.energy is None else whole.energy[one],
            forces=None if whole.forces is None else whole.forces[atoms],
        )
