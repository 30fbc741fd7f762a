"""The training loop, as a generator: it yields what happened, the entry point logs it.

Step k is a function of the state after step k-1 and of (seed, k) alone, so that a run that was
interrupted continues to the same numbers.
"""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from experiments.harness.config.settings import Optimisation
from experiments.harness.execution.torch_setup import release_memory
from experiments.harness.training.adamw import AdamW
from experiments.harness.training.checkpoint import load, save
from experiments.harness.training.objectives import Task
from sdedata import Graph, collate, repeat
from sdedata.augment import draw_repeats
from vpsde import generators

VALIDATION_BATCH = 32
INIT_STREAM = 2**31 + 1  # a random stream that no training step uses


class Trainer:
    """A task on its way: network, its moving average, optimiser, and the step it has reached."""

    def __init__(
        self,
        task: Task,
        train: Sequence[Graph],
        val: Sequence[Graph],
        settings: Optimisation,
        max_repeats: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.task = task
        self.network = task.network.to(device)
        self.train, self.settings = train, settings
        self.max_repeats, self.seed, self.device = max_repeats, seed, device
        self.val = [
            collate(val[i : i + VALIDATION_BATCH]).to(device)
            for i in range(0, len(val), VALIDATION_BATCH)
        ]
        self.average = AveragedModel(self.network, multi_avg_fn=self._average)
        self.optimizer = AdamW(self.network.parameters(), settings.weight_decay)
        self.step = 0
        self.losses: list[float] = []  # since the last row with their mean
        self.last: dict[str, float] = {}  # the latest of each metric, as the rows have them
        self._whole = True  # False from the change of weights to the row that records it
        release_memory()  # a fifth of what training needs was for preparing the data

    @property
    def best(self) -> Any:
        """The network to use: the moving average of the weights."""
        return self.average.module.eval()

    def run(self, checkpoint: Path) -> Generator[dict[str, float], None, None]:
        """Train to the last step; yields rows for the log, and keeps `checkpoint` up to date."""
        try:
            yield from self._steps(checkpoint)
        finally:  # also when the run is stopped
            if self._whole:  # a checkpoint neither holds half a step nor lacks its row in the log
                self.save(checkpoint)

    def _steps(self, checkpoint: Path) -> Iterator[dict[str, float]]:
        settings, started, seen = self.settings, time.perf_counter(), 0
        while self.step < settings.steps:
            loss, norm, n = self._advance()
            self.losses.append(loss)
            seen += n
            row: dict[str, float] = {"train/step": self.step}
            last = self.step == settings.steps
            if self.step % settings.log_every == 0 or last:
                row |= {
                    "train/loss": sum(self.losses) / len(self.losses),
                    "train/learning_rate": self._learning_rate(self.step),
                    "train/grad_norm": norm,
                    "train/structures_per_second": seen / (time.perf_counter() - started),
                }
                self.losses = []
            if self.step % settings.validate_every == 0 or last:
                row |= self.task.validate(self.best, self.val)
            self.last |= row if len(row) > 1 else {}
            self._whole = True
            yield row
            if self.step % settings.checkpoint_every == 0:
                self.save(checkpoint)

    def _advance(self) -> tuple[float, float, int]:
        """One step: its loss, the norm of its gradient, and how many structures it saw."""
        (generator,) = generators(self.seed, [self.step])
        graph = self._batch(generator)
        self.network.train()
        loss = self.task.loss(self.network, graph, generator)
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is not finite at step {self.step}: lower train.learning_rate "
                f"(now {self.settings.learning_rate:g})"
            )
        self.network.zero_grad(set_to_none=True)
        loss.backward(inputs=list(self.network.parameters()))  # not by positions: a fifth faster
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self._whole = False
        self.optimizer.step(self._learning_rate(self.step))
        self.average.update_parameters(self.network)
        self.step += 1
        return float(loss.detach()), float(norm), graph.n_structures

    def _batch(self, generator: torch.Generator) -> Graph:
        """Random structures in random repeats; larger cells come in fewer, at like cost."""
        repeats = draw_repeats(self.max_repeats, generator)
        n = max(1, self.settings.batch_size // math.prod(repeats))
        chosen = torch.randperm(len(self.train), generator=generator)[:n].tolist()
        return collate([repeat(self.train[i], repeats) for i in chosen]).to(self.device)

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to 1 % of the peak."""
        s = self.settings
        if step < s.warmup:
            return s.learning_rate * (step + 1) / s.warmup
        progress = (step - s.warmup) / max(1, s.steps - s.warmup)
        return s.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def _average(self, averaged: Any, current: Any, n: Any) -> None:
        # Short memory at first, or the random start would stay in the average for long.
        decay = min(self.settings.ema, (1 + float(n)) / (10 + float(n)))
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "losses": self.losses,
            "last": self.last,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": {"state": dict(enumerate(self.optimizer.state))},
        }
        save(path, state)

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint of the same configuration; ValueError if it is not one."""
        state = load(path)
        try:
            self._take(state)
        except Exception as error:  # a file can hold anything
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path} is not a checkpoint of this training ({type(error).__name__}: {reason}); "
                "delete it and repeat the command, which trains from the start"
            ) from error

    def _take(self, state: Any) -> None:
        """Take over a state; an exception of any kind if it is not of this training."""
        step, losses, last = state["step"], state["losses"], state.get("last", {})
        if type(step) is not int or not 0 <= step <= self.settings.steps:
            raise ValueError(f"it is at step {step!r:.40} of {self.settings.steps}")
        if not all(type(v) is float for v in losses):
            raise ValueError("its losses are not numbers")
        if not all(type(k) is str and type(v) in (int, float) for k, v in last.items()):
            raise ValueError("its metrics are not numbers")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        if not all(p.isfinite().all() for p in self.network.parameters()):
            raise ValueError("its weights are not all finite")
        if step:
            self.optimizer.take(state["optimizer"]["state"])
        self.step, self.losses, self.last = step, list(losses), dict(last)


def seeded(seed: int) -> None:
    """Initial weights follow from the seed (torch draws them from its global generator)."""
    (generator,) = generators(seed, [INIT_STREAM])
    torch.manual_seed(generator.initial_seed())
