"""Which gradients a backward pass is after."""

from typing import Any

import torch


def awaited(ctx: Any) -> list[bool]:
    """For each tensor among a function's arguments.

    `needs_input_grad` tells those that any pass may want. Forces want that of the edges' vectors
    but not of the filters, and training on them the filters' but not the vectors' second.
    """
    found = []
    for node, _ in ctx.next_functions:
        try:
            found.append(node is not None and torch._C._will_engine_execute_node(node))
        except (RuntimeError, AttributeError):  # it cannot tell of a leaf; nor is it public
            found.append(True)
    return found
