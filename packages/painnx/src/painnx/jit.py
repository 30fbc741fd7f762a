"""How Numba compiles this package's functions, and how they run on all of torch's threads."""

import inspect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from numba import njit
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from torch import Tensor


class _NoAlias(CompilerBase):
    """Promises LLVM that no two array arguments overlap: without this it does not vectorise."""

    def define_pipelines(self) -> list[Any]:
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


def _jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    # (Numba keeps what it compiled until the function's own file changes, whatever changes here.)
    # Sums may change their order; infinities and NaN stay what they are.
    options |= {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True, "error_model": "numpy"}
    # Tests wrap every function in a check of its types, which Numba cannot compile.
    return lambda function: njit(**options)(inspect.unwrap(function))


inner = _jit(pipeline_class=_NoAlias, forceinline=True)
"""What kernels inline, mostly loops over features; no array overlaps one that is written."""


def kernel(function: Callable[..., Any]) -> Any:
    """Something to call; compiled at its first use, and kept for other processes."""
    try:
        return _jit(cache=True)(function)
    except RuntimeError:  # Numba may write nowhere: compile anew in each process
        return _jit()(function)


def arrays(*tensors: Tensor) -> list[Any]:
    """The same memory."""
    return [x.detach().numpy() for x in tensors]


def even_parts(n: int) -> list[tuple[int, int]]:
    """0 to n, cut for torch's threads."""
    threads = torch.get_num_threads()
    return [(k * n // threads, (k + 1) * n // threads) for k in range(threads)]


def run(
    function: Callable[..., None],
    parts: Sequence[tuple[int, int]],
    *tensors: Tensor,
    each: Sequence[Tensor] = (),
) -> None:
    """function(begin, end, arrays) for all parts at once, which may not write to the same place.

    each: tensors with one entry for each part.
    """
    given = arrays(*tensors)

    def do(k: int) -> None:
        function(*parts[k], *given, *arrays(*(x[k] for x in each)))

    if len(parts) < 2:
        list(map(do, range(len(parts))))
    else:
        list(_pool(len(parts)).map(do, range(len(parts))))


class Last(torch.autograd.Function):
    """compute(*tensors), of which there are no further derivatives."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[..., tuple[Any, ...]], *tensors: Tensor | None) -> Any:
        return compute(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError('the kernels have no third derivatives: use messages="edges"')


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "painnx")


if hasattr(os, "register_at_fork"):  # a fork has none of the pool's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
