"""A function of tensors as one program by torch's compiler."""

from collections.abc import Callable
from typing import Any

import torch


def compiled(
    function: Callable[..., tuple[Any, ...]], device: torch.device
) -> Callable[..., tuple[Any, ...]]:
    """Compile a function as a whole; on a GPU it becomes one CUDA graph, a single launch.

    It may differentiate inside (from torch 2.11 on). The first call raises ValueError for a
    function that torch cannot compile as a whole, and where there is no compiler.
    """
    import torch._dynamo  # takes seconds

    # Derivatives inside the function, and one program for each shape.
    wanted = {"trace_autograd_ops": True, "recompile_limit": 256}
    within = {k: v for k, v in wanted.items() if hasattr(torch._dynamo.config, k)}
    mode = "reduce-overhead" if device.type == "cuda" else None
    run = torch.compile(function, fullgraph=True, dynamic=False, mode=mode)
    errors = torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit

    @torch._dynamo.config.patch(within)
    def call(*tensors: Any) -> tuple[Any, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        try:
            out = run(*tensors)
        except errors as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"torch cannot compile the step, do without or pad the graph's edges: {reason}"
            ) from error
        return tuple(x.clone() for x in out)  # a CUDA graph reuses its output memory

    return call
