"""Random numbers for mobile atoms: from one generator, or from one per structure."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vpsde.protocols import Graph

Generators = torch.Generator | Sequence[torch.Generator]


def generators(seed: int, indices: Iterable[int]) -> list[torch.Generator]:
    """Make one CPU generator for each structure, a function of (seed, index) alone.

    torch uses 32 bits of a seed, so that independent hashes would soon collide. Indices are instead
    permuted: two structures of one seed never share a stream.
    """
    key = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return [torch.Generator().manual_seed(_permute(_permute(k) ^ key)) for k in indices]


def draw(
    distribution: Callable[..., Tensor], graph: Graph, generators: Generators
) -> Float[Tensor, "m 3"]:
    """Draw float64 numbers by torch.randn or torch.rand for the mobile atoms, on their device.

    Frozen atoms use no numbers: the stream does not depend on the thickness of the slab. Raises
    ValueError if the number of generators is not that of the structures.
    """
    return draws(graph, generators)(distribution)


def draws(
    graph: Graph, generators: Generators
) -> Callable[[Callable[..., Tensor]], Float[Tensor, "m 3"]]:
    """Return `draw` as a function of the distribution; it does not depend on the positions."""
    if isinstance(generators, torch.Generator):
        sources, counts = [generators], [len(graph.mobile_indices)]
    else:
        owners = graph.batch[graph.mobile_indices]
        sources = list(generators)
        counts = torch.bincount(owners, minlength=graph.n_structures).tolist()
    if len(sources) != len(counts):
        raise ValueError(
            f"{len(counts)} structures need one generator or {len(counts)}, got {len(sources)}"
        )

    def draw(distribution: Callable[..., Tensor]) -> Tensor:
        numbers = [
            distribution(count, 3, generator=source, device=source.device, dtype=torch.float64)
            for source, count in zip(sources, counts, strict=True)
        ]
        drawn, device = torch.cat(numbers), graph.positions.device
        if device.type == "cuda":  # pinned memory: the host does not wait
            return drawn.pin_memory().to(device, non_blocking=True)
        return drawn.to(device)

    return draw


def _permute(x: int) -> int:
    """Permute the 32-bit integers so that neighbours are scattered (two xorshift-multiplies)."""
    mask = 0xFFFFFFFF
    for factor in (0x7FEB352D, 0x846CA68B):
        x = ((x ^ (x >> 16)) * factor) & mask
    return x ^ (x >> 15)
