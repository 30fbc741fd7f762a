"""What W&B's variables and keys on this machine set: WANDB_MODE, WANDB_PROJECT, ..., netrc."""

import os
from contextlib import suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

MODES = ("online", "offline", "disabled")
HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # W&B's own, as `wandb login` names them


def variable(name: str) -> str | None:
    """Return the value of W&B's variable of this name; None if it is unset or empty."""
    return os.environ.get(f"WANDB_{name}") or None


def mode_of(given: str | None) -> str:
    """Choose a run's mode: what is given, else WANDB_MODE, else online if there is a key.

    Raises ValueError for a mode that W&B does not know, and for "online" without a key.
    """
    mode = given or _mode_of_variable() or ("online" if has_key() else "offline")
    if mode not in MODES:
        raise ValueError(f"tracking.mode={mode} is not one of {', '.join(MODES)}")
    if mode == "online" and not has_key():
        raise ValueError(
            "tracking.mode=online needs a W&B key: run `wandb login`, or use mode=offline"
        )
    return mode


def _mode_of_variable() -> str | None:
    given = variable("MODE")
    mode = {"dryrun": "offline", "run": "online"}.get(given or "", given)
    if mode is not None and mode not in MODES:
        raise ValueError(f"WANDB_MODE={given} is not one of {', '.join(MODES)}")
    return mode


def tags_of_variable() -> list[str]:
    """Return the tags in WANDB_TAGS."""
    return [tag.strip() for tag in (variable("TAGS") or "").split(",") if tag.strip()]


def has_key() -> bool:
    """Whether W&B could log in without a prompt: a key in the environment or in a netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    own = os.environ.get("WANDB_BASE_URL")
    hosts = [urlsplit(own).netloc] if own else HOSTS
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        with suppress(OSError, NetrcParseError):
            machines = netrc(str(path)).hosts
            if any(host in machines for host in hosts):
                return True
    return False
