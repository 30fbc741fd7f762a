"""Show versions, device, neighbour backends and whether a W&B key is present."""

import platform
from collections.abc import Sequence
from importlib.util import find_spec

from experiments.harness.commands.command_line import Parser, refusing


def main(arguments: Sequence[str]) -> None:
    parsed = Parser("doctor", __doc__).parse_args(arguments)
    with refusing("doctor", parsed.traceback):
        found = report()
        width = max(map(len, found))
        for name, value in found.items():
            print(f"{name:<{width}} {value}")


def report() -> dict[str, str]:
    """Collect what somebody needs to know who helps with an installation."""
    import torch

    from experiments.harness.runs.provenance import git_commit, versions
    from experiments.harness.tracking.wandb_variables import has_key

    cluster = "cluster is installed: neighbours=cluster"
    if find_spec("torch_cluster") is None:
        cluster = "torch-cluster is not installed (make cluster, in a checkout)"
    return {
        "python": platform.python_version(),
        "commit": git_commit() or "not a git checkout",
        **{name: version or "not installed" for name, version in versions().items()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": str(torch.get_num_threads()),
        "neighbours": f"torch (default); {cluster}",
        "W&B key": "present: runs are logged online"
        if has_key()
        else "none: runs are kept offline",
    }
