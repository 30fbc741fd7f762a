"""Objects from config nodes, with their complaints passed on as they are."""

import json
from collections.abc import Mapping
from typing import Any

from experiments.harness.config.settings import Target


def build(node: Target | Mapping[str, Any], **arguments: Any) -> Any:
    """Build the object that a `_target_` names; ValueError with its own words if it refuses."""
    from hydra.errors import HydraException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    plain = node.plain() if isinstance(node, Target) else dict(node)
    try:
        return instantiate(OmegaConf.create(plain), **arguments)
    except HydraException as error:
        cause = error.__cause__ or error
        raise ValueError(f"{plain.get('_target_')}: {cause}") from error


def frozen_key(node: Target) -> str:
    """Return a `_target_` as text, for tasks that are sent to workers (see `from_key`)."""
    return json.dumps(node.plain(), sort_keys=True)


def from_key(key: str) -> Any:
    return build(json.loads(key))
