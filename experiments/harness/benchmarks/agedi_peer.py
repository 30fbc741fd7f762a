"""AGeDi's side of `experiments.harness.benchmarks.benchmark`, through its public API only.

A server in an environment of its own (AGeDi needs another Python than we do), so that the two can
take turns on one machine: one JSON request per line on standard input, one reply per line on
standard output.

    python3.12 -m venv peer && peer/bin/pip install "agedi[full]==1.4.0"
    surfdiff benchmark peers.agedi=peer/bin/python

The first request is the set-up; then {"task": NAME} is replied to by {"seconds": S, "amount": A},
A structures in training and structures times steps in sampling. "steps" in such a request are those
of sampling, instead of the set-up's: to warm up.
"""

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from typing import Any

warnings.filterwarnings("ignore")
BATCHES = 4  # per request for training; the first of them is not counted
HELD_OUT = 8  # structures that AGeDi wants for validation
NO_PULL = 1e-9  # guidance is computed, and moves nothing: an untrained force field would


class AGeDi:
    """Networks of AGeDi's default size, built once, and what can be timed with them."""

    def __init__(self, setup: dict[str, Any]) -> None:
        import torch
        from ase.io import read

        torch.set_num_threads(setup["threads"])
        self.setup = setup
        self.window = tuple(setup["window"])
        self.structures = read(setup["structures"], ":")
        self.templates = {name: read(path) for name, path in setup["templates"].items()}
        self.models = {forces: self._model(forces) for forces in (False, True)}

    def _model(self, forces: bool) -> Any:
        from agedi import create_diffusion

        return create_diffusion(
            cutoff=self.setup["cutoff"],
            feature_size=self.setup["features"],
            n_blocks=self.setup["blocks"],
            noisers=("ConfinedCellPositions",),
            confinement=self.window,
            force_field=forces,
            device=self.setup["device"],
        )

    def train(self, forces: bool) -> tuple[float, float]:
        """Seconds of BATCHES - 1 optimiser steps, loading of batches included."""
        from agedi import create_dataset, create_trainer, train
        from lightning.pytorch.callbacks import Callback

        n, device = self.setup["batch"], self.setup["device"]
        ends: list[float] = []
        sizes: list[int] = []

        class Clock(Callback):
            def on_train_batch_end(
                self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
            ) -> None:
                ends.append(now(device))
                sizes.append(batch.num_graphs)

        held_out = HELD_OUT / (BATCHES * n + HELD_OUT)
        with tempfile.TemporaryDirectory() as logs, contextlib.chdir(logs):
            dataset = create_dataset(
                list(itertools.islice(itertools.cycle(self.structures), BATCHES * n + HELD_OUT)),
                cutoff=self.setup["cutoff"],
                batch_size=n,
                train_split=1 - held_out,
                val_split=held_out,
                mask="MaskFixed",
                confinement=self.window,
            )
            trainer = create_trainer(
                epochs=1,
                accelerator="cpu" if device == "cpu" else "gpu",
                log_dir=logs,
                print_epoch_interval=0,
                log_grad_norm=False,
                extra_callbacks=[Clock()],
            )
            train(self.models[forces], dataset, trainer=trainer)
        if len(ends) != BATCHES:
            raise RuntimeError(f"{len(ends)} batches instead of {BATCHES}")
        return ends[-1] - ends[0], sum(sizes[1:])

    def sample(self, cell: str, guided: bool, steps: int | None) -> tuple[float, float]:
        """Seconds of one call that draws all structures of a cell."""
        from agedi import ForcefieldGuidanceConfig, sample

        wanted = self.setup["cells"][cell]
        steps = steps or wanted["steps"]
        started = now(self.setup["device"])
        sample(
            self.models[guided].to(self.setup["device"]),
            n_samples=wanted["n"],
            formula=wanted["composition"],
            template=self.templates[cell],
            confinement=self.window,
            steps=steps,
            batch_size=wanted["n"],
            ff_guidance=ForcefieldGuidanceConfig(guidance=NO_PULL) if guided else None,
        )
        return now(self.setup["device"]) - started, wanted["n"] * steps

    def timed(self, task: str, steps: int | None = None) -> tuple[float, float]:
        kind, _, rest = task.partition(" ")
        if kind == "train":
            return self.train(forces=rest == "forces")
        guided, _, cell = rest.partition(" ")
        return self.sample(cell, guided == "guided", steps)


def now(device: str) -> float:
    if device != "cpu":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever AGeDi prints must not be taken for a reply
    peer = None
    for line in sys.stdin:
        request = json.loads(line)
        if peer is None:
            import torch

            peer = AGeDi(request)
            reply: dict[str, Any] = {"agedi": version("agedi"), "torch": torch.__version__}
        else:
            seconds, amount = peer.timed(**request)
            reply = {"seconds": seconds, "amount": amount}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
