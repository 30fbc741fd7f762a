"""Print versions, device, neighbour backends and whether a W&B key is present."""

import importlib.util
import platform
from typing import Any


def report() -> dict[str, Any]:
    """What somebody would ask for who helps with an installation."""
    import torch

    from experiments.harness.runs.run_folder import git_commit, versions
    from experiments.harness.tracking.tracker import has_key

    cluster = importlib.util.find_spec("torch_cluster") is not None
    return {
        "python": platform.python_version(),
        "commit": git_commit() or "not a git checkout",
        **{name: version or "not installed" for name, version in versions().items()},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "neighbours": "torch (default)"
        + (
            "; cluster is installed: neighbours=cluster" if cluster else "; cluster: `make cluster`"
        ),
        "W&B key": "present: runs are logged online"
        if has_key()
        else "none: runs are kept offline",
    }
