"""Compile functions with Numba and run them on all of torch's threads."""

import inspect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import starmap
from typing import Any

import numpy as np
import torch
from numba import njit
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from torch import Tensor


class _NoAlias(CompilerBase):
    """Declare to LLVM that no two array arguments overlap: otherwise it does not vectorise."""

    def define_pipelines(self) -> list[Any]:
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


def _jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    # (Numba's cache is renewed when the function's own file changes, not when this one does.)
    # Sums may be reordered; infinities and NaN are respected.
    options |= {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True, "error_model": "numpy"}
    # The tests' type checks wrap every function, which Numba cannot compile.
    return lambda function: njit(**options)(inspect.unwrap(function))


inner = _jit(pipeline_class=_NoAlias, forceinline=True)
"""Decorate a function that kernels inline; no array may overlap one that is written."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call, cached on disk for other processes."""
    try:
        return _jit(cache=True)(function)
    except RuntimeError:  # no writable cache: compile in each process
        return _jit()(function)


def arrays(*tensors: Tensor | np.ndarray) -> list[Any]:
    """View the tensors as numpy arrays that share their memory; leave arrays as they are."""
    return [x.numpy(force=True) if isinstance(x, Tensor) else x for x in tensors]


def even_parts(n: int) -> list[tuple[int, int]]:
    """Cut the range 0 to n into one part for each of torch's threads."""
    threads = torch.get_num_threads()
    return [(k * n // threads, (k + 1) * n // threads) for k in range(threads)]


def run(
    function: Callable[..., None],
    parts: Sequence[tuple[int, int]],
    *tensors: Tensor | tuple[Any, ...],
    each: Sequence[Tensor] = (),
) -> None:
    """Call function(begin, end, *arrays) for all parts in parallel; they must write separately.

    Args:
        tensors: Tensors, or named tuples of them or of arrays.
        each: Tensors with one entry for each part, passed last.
    """
    given = [type(x)(*arrays(*x)) if isinstance(x, tuple) else arrays(x)[0] for x in tensors]
    calls = [(*part, *given, *arrays(*(x[k] for x in each))) for k, part in enumerate(parts)]
    if len(calls) < 2:
        list(starmap(function, calls))
    else:
        list(_pool(len(calls)).map(function, *zip(*calls, strict=True)))


class Last(torch.autograd.Function):
    """Evaluate compute(*tensors), which has no further derivatives."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[..., tuple[Any, ...]], *tensors: Tensor | None) -> Any:
        return compute(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError('the kernels have no third derivatives: use backend="eager"')


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "painnx")


if hasattr(os, "register_at_fork"):  # a forked process has none of the pool's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
