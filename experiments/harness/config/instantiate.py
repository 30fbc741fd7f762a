"""Objects from config nodes, with their complaints passed on as they are."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.harness.config import CONF
from experiments.harness.config.fields import Target
from experiments.harness.runs.run_folder import EXPLAINS
from experiments.harness.runs.shipped_models import CORRECTIONS, networks

FORCE_FIELD = "experiments.harness.training.calculator.forcefield"
"""The `_target_` of a trained force field of this project."""
CORRECTED = "experiments.harness.training.calculator.corrected"
"""The `_target_` of a calculator with a correction that a force field learned."""
OWN = (FORCE_FIELD, CORRECTED)
"""Calculators that are known by the digest of a file of this project, which holds no code."""


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


def identity(calculator: Any) -> Any:
    """Return what a calculator's energies are known by: of a force field the digest of its file.

    Neither where that lies nor the words about what it learned. A key that is null counts as one
    that is not there: data from before it was there are the same. `calculator` is a plain config;
    anything else is returned as it is.
    """
    if not isinstance(calculator, Mapping):
        return calculator
    left_out = ("path", EXPLAINS) if "digest" in calculator else ()
    return {
        key: value for key, value in calculator.items() if value is not None and key not in left_out
    }


def calculator_name(calculator: Any) -> str:
    """Return what readers know a calculator by: its name, and its model or networks.

    `calculator` is a plain config; anything else is returned as text.
    """
    config = {} if calculator is None else calculator
    if not isinstance(config, Mapping):
        return str(config)
    if config.get("_target_") == CORRECTED:
        paths = config.get("path") or CORRECTIONS
        sources = [paths] if isinstance(paths, str) else list(paths)
        model = sources[0].partition("/")[0]
        return f"corrected {model if sources == networks(model) else ', '.join(sources)}"
    if "digest" in config:
        return f"the force field {config['digest']}"
    name = str(config.get("_target_", "the calculator")).rpartition(".")[2]
    model = config.get("model")
    return f"{name} {model}" if isinstance(model, str) else name


def calculator_for(node: Target | Mapping[str, Any], numbers: Iterable[int]) -> Any:
    """Build a calculator for structures of these atomic numbers.

    Raises ValueError for a missing package or weights, or an element that it does not know.
    """
    from experiments.calculators import require_elements

    made = build(node)
    require_elements(made, numbers)
    return made


def named_calculators() -> dict[str, str]:
    """Return the names of the calculators of `conf/calculator` by their `_target_`."""
    from omegaconf import OmegaConf

    files = sorted((CONF / "calculator").glob("*.yaml"))
    return {str(OmegaConf.select(OmegaConf.load(file), "_target_")): file.stem for file in files}
