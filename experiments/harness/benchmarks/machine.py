"""What the machine can do, and what a task needs of it.

Two rates bound a network's speed, both measured here with the threads of the benchmark: the
operations per second of a large float32 matrix product, and the bytes per second of a large copy.
A task needs matrix operations (a multiplication and an addition count as two) and bytes:
every tensor that one of its operations reads or writes, at full size, as if nothing stayed in a
cache between two operations; operations that only look at a tensor anew (views) move nothing. Both
are those of the definition, torch's operation by operation, whatever the kernels spare of it.

    share of the matrix rate    operations / seconds / matrix rate
    share of the bandwidth      bytes / seconds / bandwidth

The first is 1 where all the time goes to matrix products at their best: the rest is time for what
a machine must do besides. The second is 1 where the task waits for memory alone, and above 1 where
caches hold what the count takes for memory traffic. Where both are small, time goes to neither: to
starting many small operations, to Python, to elementwise arithmetic.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from painnx import PaiNN
from painnx.messages_eager import EagerMessages
from painnx.protocols import Graph

MATRIX_SIZES = {"cpu": (512, 1024, 1536), "cuda": (4096, 8192)}
COPIED = {"cpu": 2**26, "cuda": 2**28}  # float32 numbers: far more than caches hold
TRIES = 3


@dataclass(frozen=True)
class Machine:
    """Measured limits."""

    matrix_rate: float
    """Operations per second in a float32 matrix product."""
    bandwidth: float
    """Bytes per second, read and written."""


@dataclass(frozen=True)
class Cost:
    """What one unit of a task needs of a machine."""

    operations: float
    """In matrix products."""
    bytes: float


def measure(device: torch.device) -> Machine:
    """The limits of a device as it is now; the best of several sizes and tries."""
    kind = "cpu" if device.type == "cpu" else "cuda"
    rate = 0.0
    for n in MATRIX_SIZES[kind]:
        a, b = torch.rand(2, n, n, device=device)
        seconds = _best(partial(torch.mm, a, b, out=torch.empty_like(a)), device)
        rate = max(rate, 2 * n**3 / seconds)
    source = torch.ones(COPIED[kind], device=device)
    seconds = _best(partial(torch.empty_like(source).copy_, source), device)
    return Machine(rate, 2 * source.nbytes / seconds)


def processor(device: torch.device) -> str:
    """What it calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def clock(device: torch.device) -> float:
    """Seconds, read when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def cost(work: Callable[[], float]) -> Cost:
    """Count what `work` needs, per unit; it returns how many units it did.

    Counters do not see into compiled code, so messages are summed as they are defined: along
    edges, with every radial function, and with a matrix product for the filters.
    """
    operations, traffic = FlopCounterMode(display=False), Traffic()

    def messages_on(painn: PaiNN, graph: Graph) -> EagerMessages:
        return EagerMessages.of(graph, painn.n_radial)

    with patch.object(PaiNN, "messages_on", messages_on), operations, traffic:
        amount = work()
    return Cost(operations.get_total_flops() / amount, traffic.bytes / amount)


class Traffic(TorchDispatchMode):
    """Sums the bytes that operations read and write: the sizes of their tensors, views excluded."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs)), _tensors(result)
        places = {tensor.untyped_storage().data_ptr() for tensor in read}
        new = any(tensor.untyped_storage().data_ptr() not in places for tensor in written)
        if new or func._schema.is_mutable:
            self.bytes += sum(map(_size, read + written))
        return result


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _size(tensor: Tensor) -> int:
    """Bytes; what an expanded tensor repeats is read once."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())


def _best(work: Callable[[], Any], device: torch.device) -> float:
    times = []
    for _ in range(TRIES + 1):  # the first one finds the memory
        started = clock(device)
        work()
        times.append(clock(device) - started)
    return min(times[1:])
