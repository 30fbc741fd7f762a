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

    # what lets a program differentiate within; torch has it from 2.11 on
    within = {k: True for k in ["trace_autograd_ops"] if hasattr(torch._dynamo.config, k)}
    mode = "reduce-overhead" if device.type == "cuda" else None
    run = torch.compile(function, fullgraph=True, mode=mode)

    @torch._dynamo.config.patch(within)
    def call(*tensors: Any) -> tuple[Any, ...]:
        torch.compiler.cudagraph_mark_step_begin()
        try:
            out = run(*tensors)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"torch cannot compile the step, do without: {reason}") from error
        return tuple(x.clone() for x in out)  # a CUDA graph writes to the same memory each time

    return call
