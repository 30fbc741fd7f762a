"""A GPU that is not there: what can be learnt of one without it.

Tensors sent to `GPU` stay in the CPU's memory and are computed with there, so that all numbers are
real; but they say that they are on a GPU, and they refuse to meet a CPU's tensors, as such do.
Counted are the kernels that would be launched, and where the host would have to wait for them.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

GPU = torch.device("meta")  # there are guards for this one without a GPU, and no memory
SOURCES = Path(__file__).resolve().parent.parent
WAITS = {
    "_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "bincount", "equal",
    "repeat_interleave", "masked_select",
}  # fmt: skip
"""Operations whose result, or the shape of it, the host must know before it goes on."""


class OnGPU(torch.Tensor):
    """A tensor of the CPU that pretends to be elsewhere."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnGPU":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), dtype=inner.dtype, device=GPU
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGPU({self.inner})"


class PretendedGPU(TorchDispatchMode):
    """While it is entered, there is a GPU.

    launches: kernels by name. waits: of the host, and uploads: of tensors from its memory (no CUDA
    graph can hold them), by the line of this project that does so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(_on_gpu(args, kwargs)):
            if not func.is_view:
                self.launches[func.name()] += 1
            if _waits(func, args, kwargs):
                self.waits[_line()] += 1
        elif func is torch.ops.aten._to_copy.default and _is_gpu(kwargs.get("device")):
            self.uploads[_line()] += 1
        return _call(func, args, kwargs)


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """func on the memory that is really there."""
    there = any(_on_gpu(args, kwargs))
    device = kwargs.get("device")
    if device is not None:
        there = _is_gpu(device)
        kwargs = kwargs | {"device": torch.device("cpu")}
    elif there:
        _require_together(func, args, kwargs)
    given = tree_map(lambda x: x.inner if isinstance(x, OnGPU) else x, (args, kwargs))
    out = func(*given[0], **given[1])
    if not there:
        return out
    out = tree_map(lambda x: OnGPU(x) if isinstance(x, torch.Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, out)


def _require_together(func: Any, args: Any, kwargs: Any) -> None:
    """RuntimeError where tensors of both places meet; numbers may come from anywhere."""
    if func is torch.ops.aten.copy_.default:
        return
    for x in tree_iter((args, kwargs)):
        if isinstance(x, torch.Tensor) and not isinstance(x, OnGPU) and x.ndim > 0:
            raise RuntimeError(f"{func}: a tensor of shape {tuple(x.shape)} is on the CPU")


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == GPU.type


def _on_gpu(args: Any, kwargs: Any) -> Iterator[bool]:
    return (isinstance(x, OnGPU) for x in tree_iter((args, kwargs)))


def _waits(func: Any, args: Any, kwargs: Any) -> bool:
    name = func.overloadpacket.__name__
    if name in ("index", "index_put", "index_put_", "_unsafe_index"):  # by a mask: as many as True
        return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
    if name == "_to_copy":
        to = kwargs.get("device")
        return to is not None and not _is_gpu(to)
    return name in WAITS


def _line() -> str:
    frame: Any = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SOURCES) and path != Path(__file__) and ".venv" not in path.parts:
            return f"{path.relative_to(SOURCES)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
