"""Devices and the settings of torch that hold for a whole process."""

import ctypes
import functools
import os
import sys
import threading
from typing import Any

ROUNDING = 1e-5
"""Relative error of a product in float32, generously; in bfloat16 it is some 1e-3."""
MALLOPT = {-3: 2**25, -1: 2**30, -2: 2**26}
"""Bytes of M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD (malloc.h)."""
_choosing = threading.Lock()


def device_of(name: str) -> Any:
    """The torch device called `name`; "auto" takes a GPU if there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={name} is not available: {str(error).splitlines()[0]}") from error


def prepare_torch(threads: int | None) -> None:
    """Set the process up for the CPU: memory, threads (None: torch's choice), exact products.

    Several threads may call it at once: how torch multiplies is a setting of the process, so one
    of them chooses it, and each waits until it is chosen before it computes.
    """
    import torch

    _keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    with _choosing:
        _use_onednn_if_exact()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of an allocation, by Python, NumPy, Numba, torch or oneDNN.

    torch has a class of its own for devices; on a CPU it raises a RuntimeError. What oneDNN cannot
    allocate for its code or workspace it calls a primitive that could not be created; it multiplies
    matrices here, of types and layouts that it has primitives for.
    """
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "could not create a primitive")
    return isinstance(error, RuntimeError) and any(part in str(error) for part in words)


def _keep_memory() -> None:
    """Let the C library (glibc; others do as they like) keep for later what is freed.

    To give it back and fetch it anew, page by page, was a quarter of a training step. With the
    variable set before its first large tensor, torch uses large pages: another 4 %.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in MALLOPT.items():
            mallopt(option, value)


def release_memory() -> None:
    """Return to the system what was freed; the C library (glibc) keeps much of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@functools.cache
def _use_onednn_if_exact() -> None:
    """Let oneDNN multiply matrices of float32 on the CPU, if it does not round them.

    On AMD processors with AVX-512 it is more than twice as fast as MKL, torch's default. torch
    gives it such products only together with the permission to round to bfloat16, which it uses
    on processors with tiles for that: whether it does is measured, once in a process.
    """
    import torch

    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    a, b = torch.rand(2, 128, 128, generator=torch.Generator().manual_seed(0))
    products.fp32_precision = "bf16"
    error = ((a @ b).double() / (a.double() @ b.double()) - 1).abs().max()
    if error > ROUNDING:
        products.fp32_precision = before
