"""AdamW (Loshchilov and Hutter, arXiv 1711.05101) without torch's compiler.

`torch.optim.AdamW` imports that when it is made: 800 modules, 60 MB and a second of each training.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim.adamw import adamw

BETAS, EPS = (0.9, 0.999), 1e-8  # torch's


class AdamW:
    """`torch.optim.AdamW` of one group of parameters, by its fused kernel: the same bits."""

    def __init__(self, parameters: Iterable[torch.Tensor], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.state = [
            {
                "step": torch.zeros((), dtype=torch.float32, device=p.device),
                "exp_avg": torch.zeros_like(p, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(p, requires_grad=False),
            }
            for p in self.parameters
        ]

    def step(self, learning_rate: float) -> None:
        """Move the parameters by their gradients; those without one stay."""
        moved = [
            (p, p.grad, own)
            for p, own in zip(self.parameters, self.state, strict=True)
            if p.grad is not None
        ]
        with torch.no_grad():
            adamw(
                [p for p, _, _ in moved],
                [gradient for _, gradient, _ in moved],
                [own["exp_avg"] for _, _, own in moved],
                [own["exp_avg_sq"] for _, _, own in moved],
                [],
                [own["step"] for _, _, own in moved],
                fused=True,
                amsgrad=False,
                maximize=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                eps=EPS,
                lr=learning_rate,
                weight_decay=self.weight_decay,
            )

    def take(self, state: Mapping[int, Mapping[str, Any]]) -> None:
        """Continue from the `state` of another; ValueError if it is not one of such parameters."""
        for i, own in enumerate(self.state):
            for name, value in own.items():
                given = state[i][name]
                if given.shape != value.shape or not given.isfinite().all():
                    raise ValueError("its optimiser is that of another network, or not finite")
                value.copy_(given)
