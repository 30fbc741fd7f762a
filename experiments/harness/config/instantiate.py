"""Objects from config nodes, with their complaints passed on as they are."""

import ctypes
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from experiments.harness.config.settings import Target

ROUNDING = 1e-5
"""Relative error of a product in float32, generously; in bfloat16 it is some 1e-3."""
MALLOPT = {-3: 2**25, -1: 2**30, -2: 2**26}
"""Bytes of M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD (malloc.h)."""


def build(node: Target | Mapping[str, Any], **arguments: Any) -> Any:
    """Build the object that a `_target_` names; ValueError with its own words if it refuses."""
    from hydra.errors import HydraException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    plain = node.plain() if isinstance(node, Target) else dict(node)
    try:
        return instantiate(OmegaConf.create(plain), **arguments)
    except HydraException as error:
        cause = error.__cause__ or error
        raise ValueError(f"{plain.get('_target_')}: {cause}") from error


def frozen_key(node: Target) -> str:
    """Return a `_target_` as text, for tasks that are sent to workers (see `from_key`)."""
    return json.dumps(node.plain(), sort_keys=True)


def from_key(key: str) -> Any:
    return build(json.loads(key))


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
    """Compute with so many threads (None: torch's choice), and without needless waiting."""
    import torch

    _keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    _use_onednn_if_exact()


def _keep_memory() -> None:
    """Let the C library (glibc; others do as they like) keep for later what is freed.

    To give it back and fetch it anew, page by page, was a quarter of a training step. torch asks
    for large pages, if asked to before its first large tensor; that is another 4 %.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in MALLOPT.items():
            mallopt(option, value)


def _use_onednn_if_exact() -> None:
    """Let oneDNN multiply matrices of float32 on the CPU, if it does not round them.

    On AMD processors with AVX-512 it is more than twice as fast as MKL, torch's default. torch
    gives it such products only together with the permission to round to bfloat16, which it uses
    on processors with tiles for that: whether it does is measured.
    """
    import torch

    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    a, b = torch.rand(2, 128, 128, generator=torch.Generator().manual_seed(0))
    error = ((a @ b).double() / (a.double() @ b.double()) - 1).abs().max()
    if error > ROUNDING:
        products.fp32_precision = before
