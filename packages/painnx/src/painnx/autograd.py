"""Which gradients the running backward pass needs."""

from typing import Any

import torch


def needed_gradients(ctx: Any) -> list[bool]:
    """Mark the tensor arguments of an autograd function whose gradient this pass computes.

    `needs_input_grad` marks those that any pass may need. Forces need the gradient of the edge
    vectors but not that of the filters; training on forces needs that of the filters but not the
    second one of the vectors.
    """
    found = []
    for node, _ in ctx.next_functions:
        try:
            found.append(node is not None and torch._C._will_engine_execute_node(node))
        except (RuntimeError, AttributeError):  # fails for leaves, and is not a public function
            found.append(True)
    return found
