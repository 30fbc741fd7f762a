"""Another program in its own interpreter, which carries out the same tasks (experiments/peers).

One JSON request per line on its standard input, one reply per line on its standard output.
"""

import json
import logging
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

from experiments.harness.benchmarks.workloads import Timing
from experiments.harness.execution.workers import THREAD_VARIABLES

log = logging.getLogger(__name__)

LAST_LINES = 15
"""Of what a peer prints before it stops; the very last is often a mere link."""
SERVERS = {"agedi": Path(__file__).parent / "agedi_peer.py"}


class Peer:
    """A running server; as a context manager it ends with its block.

    Raises:
        ValueError: if the interpreter does not exist, or the server ends before it replies.
    """

    def __init__(self, name: str, python: str, server: Path, setup: dict[str, Any]) -> None:
        self.name = name
        self.refusal = f"peers.{name}={python}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= dict.fromkeys(THREAD_VARIABLES, str(setup["threads"]))
        self.errors = TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        try:
            self.process = subprocess.Popen(
                [python, "-P", str(server)],  # -P: nothing beside the server can be imported
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                env=environment,
            )  # fmt: skip
        except OSError as error:
            self.errors.close()
            raise ValueError(
                f"{self.refusal} is not an interpreter that can be started: {error.strerror}"
            ) from error
        try:
            self.versions = self.request(setup)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def timed(self, task: str, **more: Any) -> Timing:
        """What the peer itself measured."""
        reply = self.request({"task": task, **more})
        return Timing(reply["seconds"], reply["amount"])

    def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request; ValueError with the peer's last line if it dies of it (others are shown)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()[-LAST_LINES:]
        *printed, last = lines or ["it printed nothing"]
        for line in printed:
            log.info(f"{self.name}: {line}")
        raise ValueError(f"{self.refusal} stopped: {last}; --help explains how to set it up")
