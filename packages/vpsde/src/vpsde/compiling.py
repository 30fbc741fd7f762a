"""A function of tensors as one program, made by torch's compiler."""

from collections.abc import Callable
from typing import Any

import torch


def compiled(
    function: Callable[..., tuple[Any, ...]], device: torch.device
) -> Callable[..., tuple[Any, ...]]:
    """The same function; on a GPU it is one CUDA graph, which costs a single launch.

    It may differentiate within. Raises ValueError, when it is first called, for a function that
    torch cannot take as a whole, and where there is no compiler.
    """
    import torch._dynamo  # takes seconds

    # It may differentiate (torch has that from 2.11 on), and there is one program for each shape.
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
                f"torch cannot compile the step, do without or give the graph room: {reason}"
            ) from error
        return tuple(x.clone() for x in out)  # a CUDA graph writes to the same memory each time

    return call
